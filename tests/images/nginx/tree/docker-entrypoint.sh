#!/bin/sh
# Runs what is in /docker-entrypoint.d, then becomes nginx, as the official image does; written anew for these test images.
set -eu

say() { [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS-}" ] || echo "${0##*/}: $*"; }

if [ "${1-}" = nginx ] || [ "${1-}" = nginx-debug ]; then
    # In the order of their names, which is the order of a glob.
    for script in /docker-entrypoint.d/*; do
        [ -f "$script" ] || continue
        case $script in
            *.envsh)
                [ -x "$script" ] || { say "ignoring $script: not executable"; continue; }
                say "reading $script"
                # shellcheck source=/dev/null
                . "$script"
                ;;
            *.sh)
                [ -x "$script" ] || { say "ignoring $script: not executable"; continue; }
                say "running $script"
                "$script"
                ;;
            *) say "ignoring $script" ;;
        esac
    done
    say "configuration complete; ready for start up"
fi

exec "$@"
