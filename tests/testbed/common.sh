# shellcheck shell=bash disable=SC2034 # the other parts use what is set here
# What every part of the testbed shares: places, messages, and how a machine is recognised as ours.

cache=${XDG_CACHE_HOME:-~/.cache}/steading-test
# The default is expanded here once, so that a relative XDG_CACHE_HOME cannot change its meaning after a cd.
mkdir -p "$cache/trees" "$cache/state" "$cache/lock"
cache=$(cd "$cache" && pwd -P)

say() { printf 'testbed: %s\n' "$*" >&2; }

die() {
  local status=1
  if [[ $1 == --status=* ]]; then
    status=${1#--status=}
    shift
  fi
  printf 'testbed: %s\n' "$1" >&2
  [[ $# -lt 2 ]] || printf 'hint: %s\n' "$2" >&2
  exit "$status"
}

# Sets the variables that depend on which machine is meant.
select_machine() {
  suite=$1 instance=$2 peers=$3
  case $suite in
    trixie | bookworm) ;;
    *) die --status=2 "unknown suite '$suite'" "trixie and bookworm are known" ;;
  esac
  [[ $instance =~ ^[a-z0-9]*$ ]] || die --status=2 "the instance name '$instance' has other characters than a-z and 0-9"
  # Another kind of tree, so that neither is an outdated one of the other.
  tree_kind=$suite
  [[ $peers == no ]] || tree_kind=peers-$suite
  machine=$suite${instance:+-$instance}
  state=$cache/state/$machine
  pidfile=$state/pid
  # Two caches on one computer are two sets of machines: their cgroups must not meet.
  local cache_id
  cache_id=$(printf '%s' "$cache" | sha256sum)
  cgroup_name=steading-testbed-$machine-${cache_id:0:8}
}

# One command at a time may change a machine. The descriptor is closed for whatever outlives us.
lock_machine() {
  exec 9>"$cache/lock/$machine"
  flock --nonblock 9 && return
  say "waiting for another testbed command on $machine"
  flock 9
}

# Field 22 of /proc/PID/stat: with the boot id it tells a process from a later one of the same number.
start_time() {
  local stat fields
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  read -ra fields <<<"${stat##*) }"
  # A zombie is gone for our purposes: it runs nothing and holds no mount.
  [[ ${fields[0]} != Z ]] || return 1
  printf '%s' "${fields[19]}"
}

# Prints the machine's init as this computer numbers it, or fails when it does not run.
machine_pid() {
  local pid started boot now
  { read -r pid started boot <"$pidfile"; } 2>/dev/null || return 1
  [[ $boot == "$(</proc/sys/kernel/random/boot_id)" ]] || return 1
  now=$(start_time "$pid") || return 1
  [[ $now == "$started" ]] || return 1
  grep -q "/$cgroup_name/" "/proc/$pid/cgroup" 2>/dev/null || return 1
  printf '%s' "$pid"
}

require_pid() {
  pid=$(machine_pid) || die --status=125 "the machine $machine is not running" "start it with: testbed up --suite $suite"
}

# Where the computer has its cgroup2 tree: the whole of /sys/fs/cgroup, or a part of it on hybrid ones.
cgroup_mount() {
  if [[ $(stat -f -c %T /sys/fs/cgroup 2>/dev/null) == cgroup2fs ]]; then
    printf /sys/fs/cgroup
  else
    findmnt --noheadings --first-only --types cgroup2 --output TARGET || return 1
  fi
}

set_cgroup() {
  local mount
  mount=$(cgroup_mount) || die "no cgroup2 file system is mounted here" "mount -t cgroup2 cgroup2 /sys/fs/cgroup (or run in a container that has one, writable)"
  cgroup=$mount/$cgroup_name
}
