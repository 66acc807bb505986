#!/usr/bin/env bash
# Prepares the data directory at the first start, then becomes the server. It behaves as the documentation of the
# official image says; it is written anew for these test images.
set -Eeuo pipefail

server_socket_dir=/var/run/postgresql
scripts_dir=/docker-entrypoint-initdb.d

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
fail() { printf 'Error: %s\n' "$@" >&2; exit 1; }

# setting NAME [DEFAULT]: NAME's value, or the content of the file that NAME_FILE names; exported, without NAME_FILE.
setting() {
    local name=$1 file_name=$1_FILE value
    local direct=${!name-} file=${!file_name-}
    if [ -n "$direct" ] && [ -n "$file" ]; then
        fail "both $name and $file_name are set, and they exclude each other"
    elif [ -n "$file" ]; then
        [ -r "$file" ] || fail "$file_name names $file, which cannot be read"
        value=$(< "$file")
    else
        value=${direct:-${2-}}
    fi
    export "$name=$value"
    unset "$file_name"
}

# Whether the arguments only ask for information, so that no database is needed.
only_asks() {
    local argument
    for argument; do
        case $argument in -'?' | --help | -V | --version | --describe-config) return 0 ;; esac
    done
    return 1
}

make_directories() {
    mkdir -p "$PGDATA" "$server_socket_dir" ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"}
    # Not ours to change where a volume belongs to somebody else; the server says so itself if it matters.
    chmod 0700 "$PGDATA" 2> /dev/null || true
    chmod 3775 "$server_socket_dir" 2> /dev/null || true
    if [ "$(id -u)" = 0 ]; then
        find "$PGDATA" "$server_socket_dir" ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"} \
            ! -user postgres -exec chown postgres {} +
    fi
}

read_settings() {
    setting POSTGRES_PASSWORD
    setting POSTGRES_USER postgres
    setting POSTGRES_DB "$POSTGRES_USER"
    setting POSTGRES_INITDB_ARGS
    : "${POSTGRES_HOST_AUTH_METHOD:=}"
    if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
        fail "Database is uninitialized and superuser password is not specified." \
            "set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE; or, where everybody who can reach the port may" \
            "do everything, POSTGRES_HOST_AUTH_METHOD=trust"
    fi
    if [ "$POSTGRES_HOST_AUTH_METHOD" = trust ]; then
        say "warning: POSTGRES_HOST_AUTH_METHOD is trust: anyone who can reach the port is let in without a password" >&2
    fi
}

# initdb looks its own user up. A uid that /etc/passwd does not know gets an entry for the time of initdb.
name_this_user() {
    local wrapper=
    getent passwd "$(id -u)" > /dev/null && return
    for wrapper in /usr/lib/*/libnss_wrapper.so; do break; done
    [ -e "$wrapper" ] || return 0
    NSS_WRAPPER_PASSWD=$(mktemp) NSS_WRAPPER_GROUP=$(mktemp)
    printf 'postgres:x:%s:%s:PostgreSQL:%s:/bin/false\n' "$(id -u)" "$(id -g)" "$PGDATA" > "$NSS_WRAPPER_PASSWD"
    printf 'postgres:x:%s:\n' "$(id -g)" > "$NSS_WRAPPER_GROUP"
    export LD_PRELOAD=$wrapper NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
}

unname_this_user() {
    [ -n "${NSS_WRAPPER_PASSWD-}" ] || return 0
    rm -f "$NSS_WRAPPER_PASSWD" "$NSS_WRAPPER_GROUP"
    unset LD_PRELOAD NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
}

make_cluster() {
    local -a arguments=()
    # Quotes in POSTGRES_INITDB_ARGS are meant for a shell; whoever sets it starts this container anyway.
    eval "arguments=($POSTGRES_INITDB_ARGS)"
    [ -z "${POSTGRES_INITDB_WALDIR-}" ] || arguments+=(--waldir="$POSTGRES_INITDB_WALDIR")
    name_this_user
    if [ -n "$POSTGRES_PASSWORD" ]; then
        initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") "${arguments[@]}"
    else
        initdb --username="$POSTGRES_USER" "${arguments[@]}"
    fi
    unname_this_user
}

# allow_network [SERVER ARGUMENT...]: lets every host in, by the method asked for or else the one passwords are stored for.
allow_network() {
    local method=$POSTGRES_HOST_AUTH_METHOD
    [ -n "$method" ] || method=$(postgres "$@" -C password_encryption)
    printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
}

# A server for the time of the initialisation: reachable through the local socket alone, and silent towards whoever waits
# for the readiness of the real one.
start_local_server() {
    env -u NOTIFY_SOCKET pg_ctl -D "$PGDATA" -w \
        -o "$(printf '%q ' "$@" -c listen_addresses='' -p "${PGPORT:-5432}")" start
    trap 'pg_ctl -D "$PGDATA" -m immediate stop || true' EXIT
}

stop_local_server() {
    trap - EXIT
    pg_ctl -D "$PGDATA" -m fast -w stop
}

# sql [PSQL ARGUMENT...]: runs psql on the local server; an error ends the initialisation.
sql() {
    PGHOST='' PGHOSTADDR='' PGPASSWORD=${PGPASSWORD-$POSTGRES_PASSWORD} psql --set ON_ERROR_STOP=1 --no-password --no-psqlrc \
        --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" "$@"
}

make_database() {
    [ "$POSTGRES_DB" != postgres ] || return 0
    local there
    there=$(sql --dbname postgres --set db="$POSTGRES_DB" --tuples-only --no-align \
        <<< "SELECT 1 FROM pg_database WHERE datname = :'db';")
    [ -n "$there" ] || sql --dbname postgres --set db="$POSTGRES_DB" <<< 'CREATE DATABASE :"db";'
}

run_scripts() {
    local file
    for file in "$scripts_dir"/*; do
        [ -e "$file" ] || continue
        case $file in
            *.sh)
                say "running $file"
                # shellcheck source=/dev/null
                if [ -x "$file" ]; then "$file"; else . "$file"; fi
                ;;
            *.sql) say "running $file"; sql --file "$file" ;;
            *.sql.gz) say "running $file"; gzip -dc "$file" | sql ;;
            *.sql.xz) say "running $file"; xz -dc "$file" | sql ;;
            *.sql.zst) say "running $file"; zstd -dc "$file" | sql ;;
            *) say "ignoring $file" ;;
        esac
    done
}

first_start() {
    read_settings
    # Listed before anything is made: an unreadable directory shall not leave half a cluster.
    ls "$scripts_dir/" > /dev/null
    make_cluster
    allow_network "$@"
    start_local_server "$@"
    make_database
    run_scripts
    stop_local_server
    printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

[ $# -gt 0 ] || set -- postgres
[ "${1#-}" = "$1" ] || set -- postgres "$@"

if [ "$1" = postgres ] && ! only_asks "$@"; then
    make_directories
    if [ "$(id -u)" = 0 ]; then
        exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
    fi
    if [ -s "$PGDATA/PG_VERSION" ]; then
        printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
    else
        first_start "${@:2}"
    fi
fi

exec "$@"
