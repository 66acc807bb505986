#!/bin/sh
# Starts Redis as the official image does; written anew for these test images.
set -eu

# Options alone, or a configuration file, are for redis-server.
case ${1--} in
    -*) set -- redis-server "$@" ;;
    *.conf) set -- redis-server "$@" ;;
esac

if [ "$1" = redis-server ]; then
    if [ "$(id -u)" = 0 ]; then
        find . ! -user redis -exec chown redis {} +
        exec setpriv --reuid=redis --regid=redis --init-groups "$0" "$@"
    fi

    # Data files are for Redis alone, unless somebody has set a umask on purpose.
    if [ "$(umask)" = 0022 ]; then umask 0077; fi

    # The official build has protected mode off: in a container, what may connect is decided outside. Whoever names
    # it, in the arguments or in the configuration file, is obeyed.
    named=
    for argument; do
        [ "$argument" != --protected-mode ] || named=yes
    done
    if [ $# -gt 1 ] && [ -f "$2" ] && grep -qiE '^[[:space:]]*protected-mode[[:space:]]' "$2"; then named=yes; fi
    [ -n "$named" ] || set -- "$@" --protected-mode no
fi

exec "$@"
