# shellcheck shell=bash disable=SC2154 # common.sh and testbed set what is not set here
# A machine's life: its disk, boot, end, and how commands get into it.

# --- disk -----------------------------------------------------------------------------------------------------

# A machine's disk is its state directory over a base tree; a new tree makes a new machine.
prepare_disk() {
  if [[ -e $state/tree && $(<"$state/tree") != "${tree##*/}" ]]; then
    say "the $suite tree has changed: $machine starts afresh"
    wipe_disk
  fi
  [[ -e $state/tree ]] && return
  local kind
  kind=$(stat -f -c %T "$cache")
  [[ $kind != overlayfs ]] ||
    die "$cache lies on an overlay, which cannot carry another one" "set XDG_CACHE_HOME to a directory on ext4, xfs, btrfs or tmpfs"
  # Without its last line this is not yet a disk, and the next try starts over.
  wipe_disk
  mkdir -p "$state"/{upper/etc,work,root}
  cp -a --reflink=auto "$tree/home" "$tree/var" "$state/"
  tr -d - </proc/sys/kernel/random/uuid >"$state/upper/etc/machine-id"
  chmod 0444 "$state/upper/etc/machine-id"
  printf '%s\n' "${tree##*/}" >"$state/tree"
}

wipe_disk() {
  # First the mark that makes it a disk, so that a half-removed one is not taken for a whole one.
  rm -f "$state/tree"
  rm -rf --one-file-system "$state"
}

# --- the registry that it serves ------------------------------------------------------------------------------

# Sets `registry` (empty when there is none) and `registry_mode`.
find_registry() {
  registry=$(readlink -f "${TESTBED_REGISTRY:-$cache/registry}" || true)
  [[ -d $registry ]] || registry=
  registry_mode=ro
  [[ ${TESTBED_REGISTRY_RW:-0} != 1 ]] || registry_mode=rw
}

# What is recorded of it: a directory that was replaced has the same name but another inode.
registry_identity() {
  if [[ -z $registry ]]; then
    echo none
  else
    printf '%s %s\n' "$registry_mode" "$(stat -c '%d:%i' "$registry") $registry"
  fi
}

# --- boot -----------------------------------------------------------------------------------------------------

check_host() {
  [[ $(id -u) == 0 ]] || die "the testbed needs root: it makes namespaces, mounts and a cgroup" "run it with sudo"
  local tool
  for tool in unshare nsenter mount pivot_root findmnt flock setsid; do
    command -v "$tool" >/dev/null || die "'$tool' is missing here" "install Debian's util-linux and mount"
  done
  grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null ||
    die "the kernel here has no overlay file system" "modprobe overlay"
  [[ -e /dev/fuse ]] || modprobe fuse 2>/dev/null || say "warning: /dev/fuse is missing here; whatever needs FUSE will fail in the machine"
  unshare --mount --pid --fork --cgroup --uts --ipc --net true 2>/dev/null ||
    die "making namespaces is not permitted here" "a container needs CAP_SYS_ADMIN and a seccomp profile that allows unshare (docker: --privileged)"
}

make_cgroup() {
  mkdir -p "$cgroup/guest" "$cgroup/monitor" 2>/dev/null ||
    die "cannot make the cgroup $cgroup" "the cgroup2 mount must be writable (docker: --privileged --cgroupns=private)"
  # The machine's systemd is to have what controllers there are.
  local controller
  for controller in $(<"$cgroup/cgroup.controllers"); do
    { echo "+$controller" >"$cgroup/cgroup.subtree_control"; } 2>/dev/null || true
  done
}

start_machine() {
  find_registry
  set_cgroup
  clear_cgroup
  make_cgroup
  rm -f "$pidfile" "$pidfile.part"
  registry_identity >"$state/registry"
  say "starting $machine"
  (
    echo "$BASHPID" >"$cgroup/monitor/cgroup.procs"
    exec 9>&-
    # Its own session: a signal to this script's process group is not for the machine.
    exec setsid unshare --mount --propagation private --pid --fork --uts --ipc --net --kill-child \
      "$here/inside" "$cgroup" "$cache" "$machine" "${tree##*/}" "$registry" "$registry_mode"
  ) </dev/null >"$state/console.log" 2>&1 &
  local monitor=$!
  disown
  wait_for_init "$monitor"
  wait_until_up
}

boot_failed() {
  tail -n 20 "$state/console.log" >&2
  clear_cgroup
  die "$1" "the lines above are all it said"
}

# Sets `pid`, once the first process is systemd: until then a command would run on this computer's own files.
wait_for_init() {
  local monitor=$1 comm=
  for ((i = 0; i < 1000; i++)); do
    if pid=$(machine_pid); then
      { read -r comm <"/proc/$pid/comm"; } 2>/dev/null || true
      [[ $comm != systemd ]] || return 0
    elif ! start_time "$monitor" >/dev/null; then
      boot_failed "$machine ended before its systemd started"
    fi
    sleep 0.01
  done
  boot_failed "$machine did not start its systemd within 10 s"
}

# Up means: no start job left, and every lingering user's manager answers.
wait_until_up() {
  local result
  # shellcheck disable=SC2016 # for the machine's shell
  result=$(enter_root bash -c '
    settled() { case $1 in running | degraded) ;; *) return 1 ;; esac; }
    for ((i = 0; i < 600; i++)); do
      settled "$(systemctl is-system-running 2>/dev/null)" && break
      sleep 0.05
    done
    for user in /var/lib/systemd/linger/*; do
      uid=$(id -u "${user##*/}")
      for ((; i < 600; i++)); do
        settled "$(setpriv --reuid "$uid" --regid "$uid" --clear-groups env XDG_RUNTIME_DIR="/run/user/$uid" \
          systemctl --user is-system-running 2>/dev/null)" && continue 2
        sleep 0.05
      done
    done
    ((i < 600)) || { echo "not up within 30 s:"; systemctl list-jobs; }
    systemctl list-units --failed --plain --no-legend' </dev/null) || true
  machine_pid >/dev/null || boot_failed "$machine ended while it booted"
  [[ $result != "not up"* ]] || die "$machine is $result" "look at: testbed exec --suite $suite journalctl -b"
  [[ -z $result ]] || say "warning: units of $machine that failed: $result"
}

# --- end ------------------------------------------------------------------------------------------------------

# Orderly, then not; $1 is `poweroff` or `crash`.
stop_machine() {
  local how=$1 pid limit=${TESTBED_STOP_TIMEOUT:-60} end
  set_cgroup
  if pid=$(machine_pid); then
    if [[ $how == crash ]]; then
      say "cutting the power of $machine"
      kill -KILL "$pid"
    else
      say "powering $machine off"
      # What an init in a container takes as the order to power off; needs no D-Bus.
      kill -s RTMIN+4 "$pid"
      end=$((SECONDS + limit))
      while [[ $(machine_pid) == "$pid" ]]; do
        if ((SECONDS >= end)); then
          say "warning: $machine did not power off within $limit s: killing it"
          kill -KILL "$pid"
          break
        fi
        sleep 0.02
      done
    fi
  fi
  clear_cgroup
  rm -f "$pidfile"
}

# Ends whatever is left in the machine's cgroup, which holds nothing that is not the machine's, and removes it.
clear_cgroup() {
  [[ -d $cgroup ]] || return 0
  local populated
  for ((i = 0; i < 1000; i++)); do
    populated=$(grep -c '^populated 1' "$cgroup/cgroup.events" || true)
    [[ $populated == 0 ]] && break
    # A monitor whose machine has just ended goes by itself; after that nothing is waited for.
    if ((i == 5)); then kill_cgroup; fi
    sleep 0.01
  done
  if [[ $populated != 0 ]]; then
    die "processes of $machine do not end: $(find "$cgroup" -name cgroup.procs -exec cat {} + | tr '\n' ' ')"
  fi
  find "$cgroup" -depth -type d -exec rmdir {} +
}

kill_cgroup() {
  if [[ -w $cgroup/cgroup.kill ]]; then
    echo 1 >"$cgroup/cgroup.kill"
    return
  fi
  # Kernels before 5.14.
  local member
  while read -r member; do
    kill -KILL "$member" 2>/dev/null || true
  done < <(find "$cgroup" -name cgroup.procs -exec cat {} +)
}

# --- entering -------------------------------------------------------------------------------------------------

# Runs one of the functions below in a child and ends as it ends, passing signals on to the command itself. nsenter,
# which waits between the two, would die of them and leave the command to this computer's pid 1; some of those reap so
# seldom that the machine's shutdown would wait for the zombie.
attend() {
  local child status=0 name
  if [[ -t 0 ]]; then
    # The terminal tells the command of Ctrl-C, as one of its foreground group.
    trap : INT QUIT
    "$@" <&0 &
  else
    # In a session of its own no signal to our group reaches it twice. The shell has a child ignore these two.
    (trap - INT QUIT && session=setsid "$@") <&0 &
    for name in INT QUIT; do
      # shellcheck disable=SC2064 # the name is meant as it is now
      trap "pass_on $name \$child" $name
    done
  fi
  child=$!
  trap 'pass_on TERM $child' TERM
  trap 'pass_on HUP $child' HUP
  # A signal ends the wait, not the child.
  while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done
  wait "$child" || status=$?
  exit "$status"
}

# pass_on SIGNAL NSENTER: to nsenter's only child, once there is one.
pass_on() {
  local command=
  for ((tries = 0; tries < 100; tries++)); do
    { read -r command <"/proc/$2/task/$2/children"; } 2>/dev/null || true
    [[ -z $command ]] || break
    sleep 0.01
  done
  [[ -z $command ]] || kill -s "$1" "$command" 2>/dev/null || true
}

# Puts the calling process into the machine and becomes the command. $1 is the cgroup below the machine's root.
enter() {
  local group=$1
  shift
  [[ -n ${cgroup:-} ]] || set_cgroup
  mkdir -p "$cgroup/guest/$group"
  echo "$BASHPID" >"$cgroup/guest/$group/cgroup.procs"
  # What a login gets, whatever this shell was given; where even root may not raise a limit it stays lower.
  ulimit -Hn 524288 2>/dev/null || true
  ulimit -Sn 1024
  umask 022
  # When any of those outside is killed, what waits for it or runs for it goes too.
  exec ${session:-} setpriv --pdeathsig KILL nsenter --target "$pid" --mount --uts --ipc --net --pid --cgroup --root --wd -- "$@" 9>&-
}

# Becomes a command run by root in the machine; `pid` must be set.
enter_root() {
  enter testbed.scope setpriv --pdeathsig KILL env -i --default-signal=INT,QUIT HOME=/root USER=root LOGNAME=root SHELL=/bin/bash LANG=C.UTF-8 \
    "TERM=${TERM:-dumb}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# Becomes a command run by a user of the machine, with the environment and the cgroup's place of a login.
enter_user() {
  local wanted=$1 name uid gid home shell found=no
  shift
  while IFS=: read -r name _ uid gid _ home shell; do
    if [[ $name == "$wanted" ]]; then
      found=yes
      break
    fi
  done <"/proc/$pid/root/etc/passwd"
  [[ $found == yes ]] || die --status=125 "$machine has no user '$wanted'" "alice and bob are always there"
  [[ $# -gt 0 ]] || set -- "$shell" -l
  enter "user.slice/user-$uid.slice/testbed.scope" \
    setpriv --reuid "$uid" --regid "$gid" --init-groups --pdeathsig KILL \
    env -i --default-signal=INT,QUIT "--chdir=$home" "HOME=$home" "USER=$name" "LOGNAME=$name" "SHELL=$shell" LANG=C.UTF-8 "TERM=${TERM:-dumb}" \
    PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games "XDG_RUNTIME_DIR=/run/user/$uid" \
    "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$uid/bus" "$@"
}
