#!/bin/sh
# Names here are the kernel's own, which ls shows as they are.
# shellcheck disable=SC2012
# What a process of a container sees and may do, one fact a line: `KIND WORDS`. Runs in the service of steading and, from the same
# config.json, under another OCI runtime (crosscheck.rs compares the two). Needs a POSIX shell and busybox's or GNU's tools.
# With an argument it writes its report there once, as a whole, and waits until a file `stop` stands beside it.
# /probe holds lists: `masked`, `readonly` (paths), `host-ns` (links of the host's namespaces).
export LC_ALL=C
if [ -n "$1" ]; then
  sh "$0" >"$1.part" </dev/null
  mv "$1.part" "$1"
  until [ -e "${1%/*}/stop" ]; do sleep 0.1; done
  exit
fi
exec 2>&1

sed -n -E 's/^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):\s*/status \1 /p' /proc/self/status
sed 's/^/uid_map /; s/  */ /g' /proc/self/uid_map
sed 's/^/gid_map /; s/  */ /g' /proc/self/gid_map
echo "setgroups $(cat /proc/self/setgroups)"
echo "hostname $(hostname)"
echo "cwd $(pwd)"
echo "umask $(umask)"
echo "oom_score_adj $(cat /proc/self/oom_score_adj)"
sed 's/^/limit /; s/  */ /g' /proc/self/limits
env | sort | sed 's/^/env /'

for kind in user mnt pid net ipc uts cgroup time; do
  own=yes
  grep -q -x -F "$(readlink "/proc/self/ns/$kind")" /probe/host-ns && own=no
  echo "namespace $kind own=$own"
done

# Mount point, options, propagation, type. Sources and numbers differ by their nature.
sed -E 's/^[0-9]+ [0-9]+ [0-9]+:[0-9]+ [^ ]+ ([^ ]+) ([^ ]+)( [^-]*)? - ([^ ]+) .*/mount \1 \2 \4 propagation=\3/' /proc/self/mountinfo
for dir in /dev/shm /tmp "$XDG_RUNTIME_DIR"; do
  [ -d "$dir" ] || continue
  echo "size $dir $(df -k "$dir" | tail -n 1 | awk '{print $2}')"
  echo "mode $dir $(stat -c '%a %u' "$dir")"
done

for node in /dev/* /dev/shm/* /dev/mqueue/*; do
  [ -e "$node" ] || [ -L "$node" ] || continue
  echo "dev $(stat -c '%n %F %a %t:%T' "$node") $(readlink "$node" || true)"
done
for node in null zero full random urandom tty; do
  # A terminal there is none; the others open.
  if (exec 3<>"/dev/$node"); then echo "opens /dev/$node"; else echo "closed /dev/$node"; fi
done

while read -r path; do
  if [ -d "$path" ]; then
    echo "masked $path entries=$(ls -A "$path" | wc -l)"
  elif [ -e "$path" ]; then
    echo "masked $path bytes=$(head -c 100 "$path" | wc -c)"
  fi
done </probe/masked
while read -r path; do
  [ -e "$path" ] && echo "readonly $path $(awk -v at="$path" '$5 == at { print $6 }' /proc/self/mountinfo)"
done </probe/readonly
for file in /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_forward /proc/sysrq-trigger /sys/kernel/profiling /sys/fs/cgroup/cgroup.max.depth; do
  if (echo 1 >"$file"); then echo "writes $file"; else echo "refused $file"; fi
done
echo "sysctl ip_unprivileged_port_start $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
echo "processes $(ls -d /proc/[0-9]* | wc -l | tr -d ' ' | sed 's/^[1-9]$/few/')"
for key in net/core/somaxconn net/ipv4/tcp_keepalive_time kernel/msgmax; do echo "sysctl $key $(cat /proc/sys/$key)"; done
echo "interfaces $(ls /sys/class/net | tr '\n' ' ')"
echo "cgroup $(cat /proc/self/cgroup)"
for place in / /etc /run /var /home; do
  if touch "$place/.written" 2>/dev/null; then
    echo "writable $place"
    rm -f "$place/.written"
  fi
done
echo "files $(cat /etc/hostname)"
