# shellcheck shell=bash disable=SC2154
# A docker-registry for the time of a build or a check; $registry_program is what runs.

# start_registry DIRECTORY: sets $registry to the address of a registry that runs on it until stop_registry or the end.
start_registry() {
    cat > registry.yml <<YAML
version: 0.1
log: {level: info, formatter: json, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $1}}
http: {addr: "127.0.0.1:0"}
YAML
    "$registry_program" serve registry.yml > registry.log 2>&1 &
    registry_pid=$!
    local i
    # The kernel chose the port; the registry says which.
    for ((i = 0; i < 100; i++)); do
        registry=$(grep -o 'listening on 127.0.0.1:[0-9]*' registry.log | grep -o '127.*' || true)
        if [ -n "$registry" ] && curl -fsS -o /dev/null "http://$registry/v2/" 2>/dev/null; then return; fi
        kill -0 "$registry_pid" 2>/dev/null || break
        sleep 0.1
    done
    cat registry.log >&2
    die "the registry did not start"
}

stop_registry() {
    kill "$registry_pid"
    wait "$registry_pid" || true
}
