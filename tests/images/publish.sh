# shellcheck shell=bash disable=SC2154
# Part of make-in-namespace: pushes what was built to a registry on $work/registry, in every form that a
# client must understand:
#   postgres:14   OCI index, amd64 and arm64          postgres:15   docker manifest list, amd64 and arm64
#   redis         OCI manifest, zstd layers           nginx         docker v2s2 manifest
#   debian        OCI manifest                        busybox       docker v2s2 manifest
# The base layer is the same blob everywhere. The arm64 entries hold the same layers: only the choice is tested.

# push IMAGE REPOSITORY:TAG FORMAT [OPTION...]: from buildah's storage to the registry.
push() {
    skopeo copy --quiet --insecure-policy --dest-tls-verify=false --format "$3" "${@:4}" \
        "containers-storage:localhost/$1:latest" "docker://$registry/$2"
}

# push_index IMAGE NAME:TAG FORMAT: as an index with an amd64 and an arm64 entry. As with the official images, each
# platform's own image can be had from a repository of its own.
push_index() {
    local layout=$work/layout-$1 amd64=docker://$registry/amd64/$2 arm64=docker://$registry/arm64v8/$2
    push "$1" "amd64/$2" "$3"
    skopeo copy --quiet --insecure-policy --src-tls-verify=false --format oci "$amd64" "oci:$layout:amd64"
    umoci config --image "$layout:amd64" --tag arm64 --architecture arm64 --no-history
    skopeo copy --quiet --insecure-policy --dest-tls-verify=false --format "$3" "oci:$layout:arm64" "$arm64"
    buildah manifest create "index-$1" > /dev/null
    buildah manifest add --tls-verify=false "index-$1" "$amd64" > /dev/null
    buildah manifest add --tls-verify=false "index-$1" "$arm64" > /dev/null
    buildah manifest push --quiet --all --tls-verify=false --signature-policy policy.json --format "$3" \
        "index-$1" "docker://$registry/library/$2" > /dev/null
}

# tag REPOSITORY:TAG NEW...: further names for what is there. The manifest's bytes stay what they are.
tag() {
    local from=$1 name
    shift
    for name; do
        skopeo copy --quiet --insecure-policy --all --preserve-digests --src-tls-verify=false --dest-tls-verify=false \
            "docker://$registry/library/$from" "docker://$registry/library/${from%%:*}:$name"
    done
}

publish() {
    local pg15 redis nginx
    step "publishing"
    pg15=$(package_version postgres-15 postgresql-15)
    redis=$(package_version redis redis-server)
    nginx=$(package_version nginx nginx)
    mkdir registry
    start_registry "$work/registry"
    # The base goes first, as gzip: whoever comes later finds its blob there and shares it.
    push base library/debian:bookworm-slim oci
    push_index postgres-14 postgres:14 oci
    tag postgres:14 "$pg14_version" 14-bookworm "$pg14_version-bookworm"
    push_index postgres-15 postgres:15 v2s2
    tag postgres:15 "$pg15" 15-bookworm "$pg15-bookworm"
    push redis "library/redis:$redis" oci --dest-compress-format zstd
    tag "redis:$redis" 7 7.0 7-bookworm
    push nginx "library/nginx:$nginx" v2s2
    tag "nginx:$nginx" 1.22 1 1.22-bookworm
    push busybox library/busybox:latest v2s2
    tag busybox:latest 1
    stop_registry
    # Left behind by finished uploads.
    find registry -type d -name _uploads -prune -exec rm -rf {} +
}
