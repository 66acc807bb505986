# shellcheck shell=bash disable=SC2154
# Part of check: runs the servers of the unpacked images in chroots.

# enter ROOTFS: makes what a server needs besides its files. Once per tree.
enter() {
    local device
    mount -t tmpfs tmpfs "$1/dev"
    for device in null zero random urandom; do
        : > "$1/dev/$device"
        mount --bind "/dev/$device" "$1/dev/$device"
    done
    ln -s /proc/self/fd "$1/dev/fd"
    ln -s /proc/self/fd/1 "$1/dev/stdout"
    ln -s /proc/self/fd/2 "$1/dev/stderr"
    mkdir -m 1777 "$1/dev/shm"
    mount -t proc proc "$1/proc"
    printf '127.0.0.1 localhost\n::1 localhost\n' > "$1/etc/hosts"
}

# as UID ROOTFS CMD...: runs CMD with the image's PATH; when not root, without any privilege to change that.
as() { (become "$@"); }

# The same in place of this shell, so that a background job is the server itself.
become() {
    local uid=$1 root=$2 path
    shift 2
    path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$(cd "$root" && echo usr/lib/postgresql/*/bin)
    path=${path//usr\/lib\/postgresql/\/usr\/lib\/postgresql}
    path=${path// /:}
    local drop=()
    [ "$uid" = 0 ] || drop=(setpriv "--reuid=$uid" "--regid=$uid" --clear-groups --no-new-privs --bounding-set=-all)
    exec env -i "PATH=$path" LANG=en_US.utf8 PGDATA=/var/lib/postgresql/data "${settings[@]}" \
        chroot "$root" "${drop[@]}" "$@"
}

# wait_for SECONDS CMD...: until CMD succeeds.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

# end PID SIGNAL: sends it and sets $status to the exit status. Whoever does not follow within 20 s is killed.
end() {
    kill -s "$2" "$1"
    status=0
    wait_for 20 gone "$1" || kill -s KILL "$1"
    wait "$1" || status=$?
}

# A zombie is gone too: it waits for us.
gone() { case $(ps -o stat= -p "$1") in '' | Z*) ;; *) return 1 ;; esac; }

# query ROOTFS PASSWORD SQL: through TCP, as a client of another machine would.
query() {
    settings=("PGPASSWORD=$2")
    as 999 "$1" psql -X -h 192.0.2.1 -U farmer -d yard -Atc "$3" 2>&1
}

settings=()

check_postgres() {
    local version=$1 root=postgres$1.d/rootfs log=postgres$1.log server status got
    step "running postgres:$version"
    enter "$root"
    settings=()
    expect "$version: --version needs no password" 0 "$(as 999 "$root" docker-entrypoint.sh --version > "$log" 2>&1; echo $?)"
    matches "$version: --version" "^postgres \(PostgreSQL\) $version\." "$(cat "$log")"
    got=$(as 999 "$root" docker-entrypoint.sh postgres 2>&1) && status=0 || status=$?
    expect "$version: no password is an error" 1 "$status"
    matches "$version: it says so" 'superuser password is not specified' "$got"
    settings=(POSTGRES_PASSWORD=a POSTGRES_PASSWORD_FILE=/dev/null)
    got=$(as 999 "$root" docker-entrypoint.sh postgres 2>&1) && status=0 || status=$?
    matches "$version: a value and a file exclude each other" 'exclude each other' "$got"
    expect "$version: nothing was made so far" '' "$(ls -A "$root/var/lib/postgresql/data")"

    printf 'sea "cret\n' > "$root/tmp/password"
    echo 'CREATE TABLE a (n int); INSERT INTO a VALUES (1);' > "$root/docker-entrypoint-initdb.d/10-a.sql"
    echo 'INSERT INTO a VALUES (2);' | gzip > "$root/docker-entrypoint-initdb.d/20-b.sql.gz"
    # shellcheck disable=SC2016 # for the script
    printf '#!/bin/sh\npsql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "INSERT INTO a VALUES (3)"\n' \
        > "$root/docker-entrypoint-initdb.d/30-c.sh"
    chmod 0755 "$root/docker-entrypoint-initdb.d/30-c.sh"
    settings=(POSTGRES_PASSWORD_FILE=/tmp/password POSTGRES_USER=farmer POSTGRES_DB=yard POSTGRES_INITDB_ARGS=--data-checksums
        "NOTIFY_SOCKET=$PWD/not-there")
    become 999 "$root" docker-entrypoint.sh postgres > "$log" 2>&1 &
    server=$!
    wait_for 60 query "$root" 'sea "cret' 'SELECT 1' || { cat "$log"; not_ok "$version: no answer"; return; }
    matches "$version: answers" "^PostgreSQL $version\." "$(query "$root" 'sea "cret' 'SELECT version()')"
    matches "$version: a wrong password is refused" 'password authentication failed' "$(query "$root" wrong 'SELECT 1' || true)"
    expect "$version: all init scripts ran" 1,2,3 "$(query "$root" 'sea "cret' "SELECT string_agg(n::text, ',' ORDER BY n) FROM a")"
    expect "$version: initdb got its arguments" on "$(query "$root" 'sea "cret' 'SHOW data_checksums')"
    expect "$version: passwords are stored as scram" scram-sha-256 "$(query "$root" 'sea "cret' 'SHOW password_encryption')"
    expect "$version: the locale is there" en_US.utf8 "$(query "$root" 'sea "cret' 'SHOW lc_collate')"
    expect "$version: the temporary server had no TCP" "listening on IPv4 address" \
        "$(sed -n '/init process complete/,$p' "$log" | grep -o 'listening on IPv4 address')"
    expect "$version: nor had anything before" '' "$(sed '/init process complete/,$d' "$log" | grep 'listening on IP' || true)"
    end "$server" INT
    expect "$version: SIGINT stops it" 0 "$status"
    settings=()
    become 999 "$root" docker-entrypoint.sh -c log_connections=on > "$log" 2>&1 &
    server=$!
    wait_for 60 query "$root" 'sea "cret' 'SELECT 1' || { cat "$log"; not_ok "$version: no answer"; }
    expect "$version: starts on its data without settings, and takes options alone" on "$(query "$root" 'sea "cret' 'SHOW log_connections')"
    matches "$version: initialises only once" 'Skipping initialization' "$(cat "$log")"
    end "$server" INT

    # The other ways to be started: as root, which it gives up, and as somebody whom /etc/passwd does not know.
    rm -rf "$root"/docker-entrypoint-initdb.d/* "$root"/var/lib/postgresql/data/*
    chown 0:0 "$root/var/lib/postgresql/data"
    settings=(POSTGRES_PASSWORD=p POSTGRES_USER=farmer POSTGRES_DB=yard)
    become 0 "$root" docker-entrypoint.sh postgres > "$log" 2>&1 &
    server=$!
    wait_for 60 query "$root" p 'SELECT 1' || { cat "$log"; not_ok "$version: no answer when started as root"; }
    expect "$version: root is given up" 999 "$(stat -c %u "/proc/$(head -1 "$root/var/lib/postgresql/data/postmaster.pid")")"
    end "$server" INT
    mkdir -m 0700 "$root/srv/data"
    chown 4321:4321 "$root/srv/data"
    # As in a fresh container: the start as root has just taken the directory from everybody else.
    chmod 3777 "$root/run/postgresql"
    settings=(POSTGRES_HOST_AUTH_METHOD=trust POSTGRES_USER=farmer POSTGRES_DB=yard PGDATA=/srv/data)
    become 4321 "$root" docker-entrypoint.sh postgres > "$log" 2>&1 &
    server=$!
    wait_for 60 query "$root" '' 'SELECT 1' || { cat "$log"; not_ok "$version: no answer from an unknown uid"; }
    expect "$version: an unknown uid serves, without passwords" farmer "$(query "$root" '' 'SELECT current_user')"
    end "$server" INT
}

check_redis() {
    local root=redis.d/rootfs server status uid
    step "running redis:7"
    enter "$root"
    settings=()
    for uid in 999 0; do
        # shellcheck disable=SC2016 # for the inner shell; /data is the image's working directory
        become "$uid" "$root" sh -c 'cd /data && exec docker-entrypoint.sh redis-server' > redis.log 2>&1 &
        server=$!
        wait_for 20 as 999 "$root" redis-cli ping || { cat redis.log; not_ok "redis as $uid: no answer"; }
        expect "redis as $uid: PING" PONG "$(as 999 "$root" redis-cli ping)"
        expect "redis as $uid: protected mode is off" no "$(as 999 "$root" redis-cli config get protected-mode | tail -1)"
        expect "redis as $uid: runs as 999" 999 "$(stat -c %u "/proc/$(as 999 "$root" redis-cli info server | tr -d '\r' | sed -n 's/^process_id://p')")"
        as 999 "$root" redis-cli set cow bell > /dev/null
        end "$server" TERM
        expect "redis as $uid: SIGTERM saves and stops" "0 yes" "$status $([ -s "$root/data/dump.rdb" ] && echo yes)"
    done
}

check_nginx() {
    local root=nginx.d/rootfs server status
    step "running nginx:1.22"
    enter "$root"
    mkdir -p "$root/etc/nginx/templates"
    # shellcheck disable=SC2016 # for envsubst
    echo 'server { listen ${YARD_PORT}; location / { return 200 "$uri of ${YARD_PORT}"; } }' > "$root/etc/nginx/templates/yard.conf.template"
    settings=(YARD_PORT=8081)
    become 0 "$root" /docker-entrypoint.sh nginx -g 'daemon off;' > nginx.log 2>&1 &
    server=$!
    wait_for 20 curl -fsS http://127.0.0.1/ || { cat nginx.log; not_ok "nginx: no answer"; return; }
    matches "nginx: GET /" 'Welcome to nginx!' "$(curl -fsS http://127.0.0.1/)"
    expect "nginx: templates are filled" '/cow of 8081' "$(curl -fsS http://127.0.0.1:8081/cow)"
    matches "nginx: workers run as nginx" '^101$' "$(ps -o uid= --ppid "$server" | tr -d ' ' | sort -u)"
    matches "nginx: the access log is its output" 'GET / HTTP/1.1" 200' "$(cat nginx.log)"
    end "$server" QUIT
    expect "nginx: SIGQUIT stops it" 0 "$status"
}
