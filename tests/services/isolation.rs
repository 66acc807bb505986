//! What a service sees and may do, looked at from inside: each line of the default isolation, and what each loosening opens.

use crate::recipes::{inside, write, write_of};
use crate::registry::Registry;
use crate::support;
use serde_json::Value;

const IDLE: &str = "uid = 4321\ngid = 4322\ninit = true\nargs = [\"sleep\", \"100000\"]";

/// Lines of a text, sorted.
fn sorted(text: &str) -> Vec<&str> {
    let mut list: Vec<&str> = text.lines().collect();
    list.sort_unstable();
    list
}

#[test]
fn a_default_service_sees_nothing_of_the_host_and_holds_nothing() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    write(&user, "plain", IDLE, "[secrets.password]\nlength = 20\n[data.data]\npath = \"/data\"");
    user.steading(&["install", "plain"]).ok();
    let sh = |script: &str| inside(&user, "plain", script);

    // Mounts, exactly: mount point, flags, type. The kernel's own list decides which masked paths there are.
    let mounts = sh("awk '{ for (i = 7; $i != \"-\"; i++) shared = 1; print $5, $6, $(i + 1) } END { if (shared) print \"propagates\" }' /proc/self/mountinfo").ok();
    let masked = |line: &&str| !["/proc/", "/sys/firmware", "/sys/devices"].iter().any(|top| line.starts_with(top));
    let expected = "/ rw,nosuid,nodev,relatime overlay
/data rw,nosuid,nodev,relatime ext4
/dev rw,nosuid,nodev,noexec,relatime tmpfs
/dev/full rw,nosuid,noexec,relatime tmpfs
/dev/mqueue rw,nosuid,nodev,noexec,relatime mqueue
/dev/null rw,nosuid,noexec,relatime tmpfs
/dev/pts rw,nosuid,noexec,relatime devpts
/dev/random rw,nosuid,noexec,relatime tmpfs
/dev/shm rw,nosuid,nodev,noexec,relatime tmpfs
/dev/tty rw,nosuid,noexec,relatime tmpfs
/dev/urandom rw,nosuid,noexec,relatime tmpfs
/dev/zero rw,nosuid,noexec,relatime tmpfs
/etc/group ro,nosuid,nodev,noexec,relatime tmpfs
/etc/hostname ro,nosuid,nodev,noexec,relatime tmpfs
/etc/hosts ro,nosuid,nodev,noexec,relatime tmpfs
/etc/passwd ro,nosuid,nodev,noexec,relatime tmpfs
/etc/resolv.conf ro,nosuid,nodev,noexec,relatime tmpfs
/proc rw,nosuid,nodev,noexec,relatime proc
/run/secrets ro,nosuid,nodev,noexec,relatime tmpfs
/run/user/4321 rw,nosuid,nodev,noexec,relatime tmpfs
/sys ro,nosuid,nodev,noexec,relatime sysfs
/sys/fs/cgroup ro,nosuid,nodev,noexec,relatime cgroup2";
    assert_eq!(sorted(&mounts).into_iter().filter(masked).collect::<Vec<_>>().join("\n"), expected);
    for line in mounts.lines().filter(|line| !masked(line)) {
        assert!(line.split(' ').nth(1).unwrap().starts_with("ro,nosuid"), "{line}");
    }

    // /dev, exactly.
    let dev = sh("cd /dev; for n in * */*; do echo $n $(stat -c '%F %a %t:%T' $n) $(readlink $n); done").ok();
    let expected = "*/* 
fd symbolic link 777 0:0 /proc/self/fd
full character special file 666 1:7
mqueue directory 1777 0:0
null character special file 666 1:3
ptmx symbolic link 777 0:0 pts/ptmx
pts directory 755 0:0
pts/ptmx character special file 666 5:2
random character special file 666 1:8
shm directory 1777 0:0
stderr symbolic link 777 0:0 /proc/self/fd/2
stdin symbolic link 777 0:0 /proc/self/fd/0
stdout symbolic link 777 0:0 /proc/self/fd/1
tty character special file 666 5:0
urandom character special file 666 1:9
zero character special file 666 1:5";
    let wanted: Vec<&str> = expected.lines().skip(1).collect();
    let found: Vec<&str> = sorted(&dev).into_iter().filter(|line| !line.starts_with("fd/")).collect();
    assert_eq!(found, wanted);

    // Masked paths hold nothing, read-only ones take nothing.
    let config = user.sh("cat ~/.local/share/steading/services/plain@1/generations/1/config.json").ok();
    let config: Value = serde_json::from_str(&config).unwrap();
    let paths = |key: &str| {
        let list = config["linux"][key].as_array().unwrap().iter();
        list.map(|path| path.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for path in ["/proc/kcore", "/proc/keys", "/proc/interrupts", "/sys/firmware", "/proc/timer_stats"] {
        assert!(paths("maskedPaths").iter().any(|it| it == path), "{path}");
    }
    let masked = paths("maskedPaths").join(" ");
    assert_eq!(sh(&format!("for p in {masked}; do [ -d $p ] && ls -A $p; [ -f $p ] && head -c 1 $p; done; true")).ok(), "");
    let seen = sh(&format!("for p in {masked}; do [ ! -e $p ] || echo $p; done")).ok();
    assert!(seen.contains("/proc/interrupts"), "{seen}");
    let read_only = paths("readonlyPaths").join(" ");
    let open = sh(&format!("for p in {read_only}; do [ ! -e $p ] || grep -q \" $p ro,\" /proc/self/mountinfo || echo $p; done"));
    assert_eq!(open.ok(), "");
    assert_ne!(sh("echo x > /proc/sys/kernel/domainname").code, 0);

    // Its own processes are all: the reaper, which is steading's own program, is not even seen; nor can the one that joins be looked into.
    let processes = sh("cd /proc; ls -d [0-9]*; cat /proc/1/comm; readlink /proc/1/exe; ls /proc/1/fd");
    assert!(!sorted(&processes.out).contains(&"1") && processes.out.lines().count() <= 4, "{processes:?}");
    // The host's files, groups of processes, network.
    for path in [format!("/home/{}", user.name), "/run/dbus".into(), "/usr/bin/systemctl".into(), "/var/lib/systemd".into()] {
        assert_ne!(sh(&format!("ls {path}")).code, 0, "{path} of the host is seen");
    }
    assert_eq!(sh("find / -xdev -name .written 2>/dev/null; ls -d /sys/fs/cgroup/*/ 2>/dev/null").out, "");
    assert_ne!(sh("mkdir /sys/fs/cgroup/x").code, 0);
    assert!(sh("cat /proc/2/cgroup").ok().lines().all(|line| line.ends_with(":/")), "paths of groups tell of the host");
    assert_eq!(sh("ls /sys/class/net; ip -o addr show dev lo | grep -c 127.0.0.1").ok(), "lo\n1");
    user.sh("exec 3<>/dev/tcp/127.0.0.1/5000").ok();
    assert_ne!(sh("nc -w 1 127.0.0.1 5000 </dev/null").code, 0, "the host's loopback is reached");

    // Privileges.
    let status = sh("grep -E '^(Cap|NoNewPrivs)' /proc/self/status | awk '{ print $2 }' | sort -u").ok();
    assert_eq!(status, "0000000000000000\n1");
    for deed in [
        "mount -t tmpfs tmpfs /tmp",
        "chown 1:1 /data",
        "ip link set lo down",
        "hostname x",
        "chroot / true",
        "mknod /tmp/x c 1 3",
    ] {
        assert_ne!(sh(deed).code, 0, "{deed} works");
    }
    // Secrets: a file system in memory, the service's alone, not to be changed.
    assert_eq!(
        sh("stat -f -c %T /run/secrets; stat -c '%a %u' /run/secrets /run/secrets/password").ok(),
        "tmpfs\n711 4321\n400 4321"
    );
    assert_ne!(sh("echo x > /run/secrets/password").code, 0);
    // Directories of the environment.
    assert_eq!(
        sh("echo $HOME $XDG_RUNTIME_DIR; touch $XDG_RUNTIME_DIR/x && stat -c '%a %u %g' $XDG_RUNTIME_DIR; id -un; hostname").ok(),
        "/ /run/user/4321\n700 4321 4322\nsteading\nplain-1"
    );
    // What the volume holds is the user's.
    sh("touch /data/mark").ok();
    assert_eq!(user.sh("stat -c %U ~/.local/share/steading/services/plain@1/data/data/mark").ok(), user.name);
    assert!(user.steading(&["info", "plain"]).ok().contains("nothing of the default isolation"));
    let json: Value = serde_json::from_str(&user.steading(&["status", "plain@1", "--json"]).ok()).unwrap();
    assert_eq!(json["isolation"]["loosens"], serde_json::json!({}));
    user.steading(&["remove", "--purge", "plain@1"]).ok();
}

#[test]
fn a_read_only_root_has_its_mount_points_and_file_systems_in_memory_end_at_their_size() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let rest = "[secrets.password]\nlength = 20\n[data.data]\npath = \"/not/in/the/image\"\n\
        [isolation]\nread-only = true\nshm = \"1M\"\ntmpfs = { \"/tmp\" = \"1M\", \"/run\" = \"2M\", \"/new/place\" = \"64K\" }";
    write(&user, "closed", &format!("{IDLE}\ncwd = \"/made/for/it\""), rest);
    user.steading(&["install", "closed"]).ok();
    let sh = |script: &str| inside(&user, "closed", script);
    for place in ["/x", "/etc/x", "/usr/x", "/not/x", "/made/for/it/x", "/new/x"] {
        let done = sh(&format!("touch {place}"));
        assert!(done.code != 0 && done.err.contains("Read-only"), "{place}: {done:?}");
    }
    assert!(sh("pwd; cat /etc/hosts; grep steading /etc/passwd; cat /run/secrets/password").ok().contains("closed-1"));
    sh("touch /not/in/the/image/x $XDG_RUNTIME_DIR/x /run/x /dev/shm/x").ok();
    for (place, kib) in [("/tmp", 1024), ("/run", 2048), ("/new/place", 64), ("/dev/shm", 1024)] {
        let done = sh(&format!("rm -f {place}/*; dd if=/dev/zero of={place}/big bs=1k count={}; rm {place}/big", kib + 64));
        assert!(done.err.contains("No space left"), "{place}: {done:?}");
        sh(&format!("dd if=/dev/zero of={place}/fits bs=1k count={} && rm {place}/fits", kib - 16)).ok();
    }
    // noexec but where programs unpack libraries.
    for (place, runs) in [("/tmp", true), ("/run", false), ("/new/place", false), ("/dev/shm", false)] {
        let done = sh(&format!("printf '#!/bin/sh\\n' > {place}/program; chmod +x {place}/program; {place}/program"));
        assert_eq!(done.code == 0, runs, "{place}: {done:?}");
    }
    assert!(user.steading(&["info", "closed"]).ok().contains("read-only"));
    user.steading(&["restart", "closed@1"]).ok();
    user.steading(&["remove", "--purge", "closed@1"]).ok();
}

#[test]
fn what_a_recipe_lists_is_kept_and_nothing_else() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let rest = "[isolation]\ncapabilities = [\"NET_ADMIN\", \"CHECKPOINT_RESTORE\"]\ndevices = [\"fuse\"]\ntime = true\n\
        sysctls.\"net.core.somaxconn\" = \"77\"\nrlimits = { nofile = [100, 200], core = 0 }";
    for (name, run) in [("user", IDLE), ("root", "uid = 0\nargs = [\"sleep\", \"100000\"]")] {
        // A probe joins all namespaces too, from a supervisor that holds nothing by then.
        let rest = format!("[ready]\nprobe = \"exec\"\ncommand = [\"true\"]\n{rest}");
        let more = if name == "root" { "\nsysctls.\"kernel.msgmax\" = \"4096\"" } else { "" };
        write(&user, name, run, &format!("{rest}{more}"));
        user.steading(&["install", name]).ok();
        let sh = |script: &str| inside(&user, name, script);
        // 12 and 40, in all five sets, of the service and of what joins it.
        let bits = "0000010000001000";
        let pids = if name == "root" { "1 self" } else { "self" };
        for pid in pids.split(' ') {
            assert_eq!(sh(&format!("grep ^Cap /proc/{pid}/status | awk '{{ print $2 }}' | sort -u")).ok(), bits, "{name} {pid}");
        }
        sh("ip link add d0 type dummy 2>/dev/null; ip link set lo down && ip link set lo up").ok();
        for deed in ["mount -t tmpfs tmpfs /tmp", "hostname x", "chroot / true"] {
            assert_ne!(sh(deed).code, 0, "{name}: {deed} works");
        }
        assert_eq!(sh("stat -c '%a %t:%T' /dev/fuse; exec 3<>/dev/fuse").ok(), "666 a:e5");
        assert_eq!(sh("cat /proc/sys/net/core/somaxconn; ulimit -Sn; ulimit -Hn; ulimit -c").ok(), "77\n100\n200\n0");
        assert_eq!(sh("cat /proc/sys/kernel/msgmax").ok() == "4096", name == "root");
        // The image knows root's home and none of 4321.
        assert_eq!(sh("echo $HOME").ok(), if name == "root" { "/root" } else { "/" });
        // The clocks began with the service, and what joins it has them too.
        let uptime: f64 = sh("cut -d' ' -f1 /proc/uptime").ok().parse().unwrap();
        assert!(uptime < 60.0, "{uptime}");
        let info = user.steading(&["info", name]).ok();
        for line in [
            "loosens   capabilities: NET_ADMIN, CHECKPOINT_RESTORE",
            "loosens   devices: fuse",
            "nofile = 100 to 200",
            "somaxconn = 77",
        ] {
            assert!(info.contains(line), "{line}: {info}");
        }
        let json: Value = serde_json::from_str(&user.steading(&["info", name, "--json"]).ok()).unwrap();
        assert_eq!(json["isolation"]["loosens"]["devices"], "fuse");
        assert!(user.steading(&["status", &format!("{name}@1")]).ok().contains("NET_ADMIN"));
        user.steading(&["remove", "--purge", &format!("{name}@1")]).ok();
    }
}

#[test]
fn a_resource_limit_above_the_hosts_is_refused_with_the_way_to_raise_it() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    write(&user, "greedy", IDLE, "[isolation]\nrlimits = { nofile = 999999999 }");
    let error = user.steading(&["install", "greedy"]).fails(1);
    for part in ["`nofile` to 999999999", "allows ", "LimitNOFILE=999999999", "user@.service.d"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_service_may_divide_its_control_group_when_its_recipe_says_so() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let divide = "mkdir -p /sys/fs/cgroup/part && echo $$ > /sys/fs/cgroup/part/cgroup.procs && exec sleep 100000";
    let run = format!("uid = 4321\ninit = true\nargs = [\"sh\", \"-c\", \"{divide}\"]");
    write(&user, "divider", &run, "[isolation]\ncgroup = \"writable\"");
    user.steading(&["install", "divider"]).ok();
    for round in 0..3 {
        let group = user.sh("systemctl --user show -P ControlGroup divider@1").ok();
        let of = |pid: &str| user.sh(&format!("grep 0:: /proc/{pid}/cgroup")).ok();
        let main = user.sh("systemctl --user show -P MainPID divider@1").ok();
        assert_eq!(of(&main), format!("0::{group}/supervisor"));
        let members =
            user.sh(&format!("for p in $(cat /sys/fs/cgroup{group}/service/part/cgroup.procs); do cat /proc/$p/comm; done"));
        assert_eq!(members.ok(), "sleep");
        assert_eq!(inside(&user, "divider", "cat /proc/2/cgroup").ok().lines().last(), Some("0::/part"));
        // Its own unit's group, and all above it, are out of sight.
        assert_ne!(inside(&user, "divider", "ls /sys/fs/cgroup/supervisor /sys/fs/cgroup/steading.slice").code, 0);
        match round {
            0 => drop(user.steading(&["restart", "divider@1"]).ok()),
            // systemd starts it again.
            _ => drop(user.sh(&format!(
                "kill -9 {main}; for i in $(seq 100); do sleep 0.1; [ \"$(systemctl --user is-active divider@1)\" = active ] && \
                 [ \"$(systemctl --user show -P MainPID divider@1)\" != {main} ] && exit 0; done; systemctl --user status divider@1; exit 1"
            )).ok()),
        }
    }
    user.steading(&["remove", "--purge", "divider@1"]).ok();
}

#[test]
fn limits_are_properties_of_the_unit_and_those_without_a_controller_are_warned_of() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let limits = "[limits]\nmemory = \"64M\"\nmemory-high = \"48M\"\ncpus = \"1.5\"\ncpu-weight = 20\nio-weight = 30\ntasks = 40\noom-score-adjust = 500";
    write(&user, "limited", IDLE, limits);
    let said = user.steading(&["install", "limited"]);
    assert_eq!(said.code, 0, "{said:?}");
    let shown = user.sh("systemctl --user show limited@1 -p MemoryMax,MemoryHigh,CPUQuotaPerSecUSec,CPUWeight,IOWeight,TasksMax,OOMScoreAdjust,Delegate | sort").ok();
    assert_eq!(
        shown,
        "CPUQuotaPerSecUSec=1.500000s\nCPUWeight=20\nDelegate=yes\nIOWeight=30\nMemoryHigh=50331648\nMemoryMax=67108864\nOOMScoreAdjust=500\nTasksMax=40"
    );
    assert_eq!(
        inside(&user, "limited", "cat /proc/self/oom_score_adj; cat /proc/2/oom_score_adj").out.lines().last(),
        Some("500")
    );
    let has = user.sh("cat /sys/fs/cgroup$(systemctl --user show -P ControlGroup)/cgroup.controllers").ok();
    for (property, controller) in
        [("MemoryMax=67108864", "memory"), ("CPUQuota=150%", "cpu"), ("IOWeight=30", "io"), ("TasksMax=40", "pids")]
    {
        let warned =
            said.err.contains(&format!("{property} will not be enforced: the user's systemd has no controller `{controller}`"));
        assert_eq!(warned, !has.split(' ').any(|it| it == controller), "{property}: {said:?}\nhas: {has}");
    }
    if !has.split(' ').any(|it| it == "io") {
        assert!(said.err.contains("/etc/systemd/system/user@.service.d/delegate.conf"), "{}", said.err);
        let doctor = user.steading(&["doctor"]);
        assert!(format!("{}{}", doctor.out, doctor.err).contains("io"), "{doctor:?}");
    }
    user.steading(&["remove", "--purge", "limited@1"]).ok();
    write(&user, "proud", IDLE, "[limits]\noom-score-adjust = 0");
    let said = user.steading(&["install", "proud"]);
    assert!(said.code == 0 && said.err.contains("OOMScoreAdjust=0 will not be set"), "{said:?}");
    user.steading(&["remove", "--purge", "proud@1"]).ok();
}

/// A layer with two copies of busybox: one has the file capabilities CAP_NET_ADMIN and CAP_SYS_ADMIN, the other belongs to root and
/// is set-user-id and set-group-id.
fn privileged_layer(busybox: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    // struct vfs_cap_data of linux/capability.h: revision 2 with the effective bit, permitted 12 and 21, inheritable none.
    let words: [u32; 5] = [0x0200_0001, 1 << 12 | 1 << 21, 0, 0, 0];
    let capability: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    tar.append_pax_extensions([("SCHILY.xattr.security.capability", capability.as_slice())]).unwrap();
    for (name, mode) in [("capable/busybox", 0o755), ("set-id/busybox", 0o6755)] {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_size(busybox.len() as u64);
        tar.append_data(&mut header, name, busybox).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn privileges_of_files_are_harmless_and_no_obstacle() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let layer = privileged_layer(&Registry::busybox(&machine));
    let registry = Registry::serve(&user, 5057, "privileged", &layer);
    let status = "busybox grep -E '^(Uid|Gid|CapInh|CapPrm|CapEff|CapBnd|CapAmb):' /proc/self/status";
    for (name, isolation) in [("bare", ""), ("holder", "[isolation]\ncapabilities = [\"NET_ADMIN\"]")] {
        write_of(&user, name, "127.0.0.1:5057/privileged", "1", IDLE, isolation);
        user.steading(&["install", name]).ok();
        let own = inside(&user, name, &format!("/bin/{status}")).ok();
        assert!(
            own.contains("4321")
                && own.contains(if name == "bare" { "CapEff:\t0000000000000000" } else { "CapEff:\t0000000000001000" }),
            "{own}"
        );
        // The files are what they are in the image; exec neither heeds nor refuses them (services.md, rule 5).
        assert_eq!(inside(&user, name, "stat -c %a /set-id/busybox").ok(), "6755");
        for file in ["/capable", "/set-id"] {
            assert_eq!(inside(&user, name, &format!("{file}/{status}")).ok(), own, "{name} {file}");
        }
        user.steading(&["remove", "--purge", &format!("{name}@1")]).ok();
    }
    drop(registry);
}

#[test]
fn an_entrypoint_that_drops_root_leaves_its_capabilities_behind() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(true);
    let rest = "[isolation]\nids = \"range\"\ncapabilities = [\"SETUID\", \"SETGID\"]";
    // As images of databases do: root first, then the service's id, then exec.
    let drop = "uid = 0\ninit = true\nargs = [\"su\", \"-s\", \"/bin/sh\", \"nobody\", \"-c\", \"exec sleep 100000\"]";
    write(&user, "dropper", drop, rest);
    user.steading(&["install", "dropper"]).ok();
    let status = "for p in /proc/[0-9]*; do grep -q sleep $p/comm && grep -E '^(Uid|CapPrm|CapEff|CapAmb|CapBnd|NoNewPrivs)' $p/status; done; true";
    // 65534 may look at its own; root, without CAP_SYS_PTRACE, sees no process of another id.
    let seen = inside(&user, "dropper", &format!("su -s /bin/sh nobody -c \"{}\"", status.replace('$', "\\$"))).ok();
    assert_eq!(
        seen,
        "Uid:\t65534\t65534\t65534\t65534\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000000000c0\n\
         CapAmb:\t0000000000000000\nNoNewPrivs:\t1"
    );
    assert_eq!(inside(&user, "dropper", status).out, "");
    user.steading(&["remove", "--purge", "dropper@1"]).ok();
}
