//! What a user's services leave in the machine: counted before and after, as root, from outside.

use super::User;
use std::collections::BTreeMap;

/// Counts by name, such as `mounts in U0`.
pub type Counts = BTreeMap<String, i64>;

/// As root in the machine; $1 is the user's name. Prints `NAME=NUMBER` lines.
const COUNT: &str = r#"
uid=$(id -u $1); run=/run/user/$uid; home=/home/$1
# Other tests have users of their own, whose directories are mounted and let go meanwhile; each manager has a unit for each mount.
manager=$(systemctl show -P MainPID user@$uid.service)
show() { setpriv --reuid $uid --regid $uid --clear-groups env XDG_RUNTIME_DIR=$run systemctl --user show -P $1 $2; }
yard=$(show MainPID steading-yard.service)
fds() { ls /proc/$1/fd 2>/dev/null | wc -l; }
rollup() { awk '/^Pss_Anon:/ { n = $2 } END { print n + 0 }' /proc/$1/smaps_rollup 2>/dev/null || echo 0; }
echo "processes=$(pgrep -u $uid | wc -l)"
mounts() { "$@" | awk -v run=$run/ -v home=$home/ '$5 !~ "^/(run/user|home)/" || index($5 "/", run) == 1 || index($5 "/", home) == 1' | wc -l; }
echo "mounts of the host=$(mounts cat /proc/1/mountinfo)"
echo "manager: descriptors=$(fds $manager)"
echo "manager: memory=$(rollup $manager)"
echo "manager: units=$(setpriv --reuid $uid --regid $uid --clear-groups env XDG_RUNTIME_DIR=$run systemctl --user list-units --all --no-legend --plain |
  awk -v run=run-user-$uid -v home=home-$1 '$1 !~ /^(run-user|home)-.*[.]mount$/ || index($1, run) == 1 || index($1, home) == 1' | wc -l)"
echo "run-time files=$(find $run/steading 2>/dev/null | wc -l)"
echo "cgroups=$(find /sys/fs/cgroup/user.slice/user-$uid.slice -type d | wc -l)"
echo "sockets=$(find /proc/[0-9]*/fd -lname 'socket:*' -user $1 2>/dev/null | wc -l)"
echo "locks=$(awk 'NR == FNR { own[$1]; next } $5 in own' <(pgrep -u $uid) /proc/locks | wc -l)"
echo "keys=$(awk -v uid=$uid: '$1 == uid { split($4, n, "/"); print n[1] }' /proc/key-users | head -1 | grep . || echo 0)"
echo "network namespaces=$(for p in $(pgrep -u $uid); do readlink /proc/$p/ns/net; done | sort -u | wc -l)"
if [ "$yard" != 0 ]; then
  echo "yard: descriptors=$(fds $yard)"
  echo "yard: memory=$(rollup $yard)"
  echo "yard: stored=$(show NFileDescriptorStore steading-yard.service)"
  for fd in /proc/$yard/fd/*; do
    case $(readlink $fd) in
      mnt:*) echo "mounts in U0=$(mounts nsenter --mount=$fd cat /proc/self/mountinfo)" ;;
    esac
  done
fi
true
"#;

/// All counts of now.
pub fn count(user: &User) -> Counts {
    let mut command = user.machine.testbed();
    command.args(["exec", "--", "bash", "-c", COUNT, "count", &user.name]);
    let output = command.output().expect("the testbed runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let counts: Counts = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, number)| (name.to_owned(), number.trim().parse().unwrap_or_else(|_| panic!("{name}: `{number}`"))))
        .collect();
    assert!(counts.len() >= 10, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    counts
}

/// What grew from `before` to `after` by more than is allowed: for memory (KiB) `memory`, for anything else nothing.
pub fn growth(before: &Counts, after: &Counts, memory: i64) -> Vec<String> {
    after
        .iter()
        .filter_map(|(name, now)| {
            let then = before.get(name).copied().unwrap_or_default();
            let allowed = if name.ends_with("memory") { memory } else { 0 };
            (now - then > allowed).then(|| format!("{name}: {then} -> {now}"))
        })
        .collect()
}
