//! A place for one test: a user, directories, a store with images.

use crate::roles::LOOKOUT_READY;
use libtest_mimic::Failed;
use nix::unistd::geteuid;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use steading::image::Digest;
use steading::state::Paths;

/// Whom the yard belongs to when the tests run as root.
const USER: u32 = 61234;
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Files in an image's `/data`, and their size.
pub const FILES: u32 = 120;
pub const FILE_SIZE: usize = 150_000;

/// Content of `/data/N`.
pub fn content(number: u32) -> Vec<u8> {
    // Not compressible to nothing, different in every place of every file.
    let mut state = u64::from(number) + 1;
    let mut bytes = Vec::with_capacity(FILE_SIZE + 8);
    while bytes.len() < FILE_SIZE {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(FILE_SIZE);
    bytes
}

#[derive(Debug)]
pub struct Ground {
    dir: tempfile::TempDir,
    exe: PathBuf,
    pub paths: Paths,
    pub uid: u32,
}

/// Whether this machine lets a user have a yard.
pub fn allowed() -> Result<(), Failed> {
    let ground = Ground::new()?;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", "exec 3<>/dev/fuse"]);
    done(&output(ground.as_user(command))?).map(drop)
}

fn done(output: &Output) -> Result<String, Failed> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => Err(format!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Waits for a child, but not for ever. Its output must fit into a pipe.
///
/// A reader whose request the server took and forgot cannot even be killed: it goes when the connection ends, so it is not
/// waited for.
pub fn finish(mut child: Child) -> Result<Output, Failed> {
    let end = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            return Err(format!("it hangs: {child:?}").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(child.wait_with_output()?)
}

/// Starts a command. Each ground has a copy of this program; a test that forks at the moment of the copy holds it open for
/// writing until its own exec, and so long nobody can execute it.
pub fn start(command: &mut Command) -> std::io::Result<Child> {
    for _ in 0..500 {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::sleep(Duration::from_millis(2)),
            other => return other,
        }
    }
    command.spawn()
}

/// Runs a command to its end, see [`finish`].
pub fn output(mut command: Command) -> Result<Output, Failed> {
    finish(start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?)
}

impl Ground {
    pub fn new() -> Result<Ground, Failed> {
        let dir = tempfile::Builder::new().prefix("yard-").tempdir()?;
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        // The user may be unable to reach the place where it was built.
        let exe = dir.path().join("exe");
        std::fs::copy(std::env::current_exe()?, &exe)?;
        let root = dir.path().join("home");
        std::fs::create_dir(&root)?;
        let as_root = geteuid().is_root();
        if as_root {
            chown(&root, Some(USER), Some(USER))?;
        }
        let uid = if as_root { USER } else { geteuid().as_raw() };
        Ok(Ground { paths: Paths::below(&root), dir, exe, uid })
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn as_user(&self, mut command: Command) -> Command {
        if geteuid().is_root() {
            command.uid(self.uid).gid(self.uid);
        }
        command.current_dir("/");
        command
    }

    /// This program as the user, in a role.
    pub fn role(&self, role: &str, words: &[&str]) -> Command {
        let mut command = Command::new(&self.exe);
        command.arg(format!("role:{role}")).arg(self.root()).args(words).stdin(Stdio::null());
        self.as_user(command)
    }

    /// The server through a shell that puts three descriptors (its stdin, stdout, stderr) where systemd puts them.
    pub fn server_with_descriptors(&self, names: &str, log: &Path) -> Command {
        let script = "log=$1; names=$2; shift 2; exec 3<&0 4<&1 5<&2 </dev/null >>\"$log\" 2>&1; \
                      LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=$names exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(log).arg(names).arg(&self.exe).arg("role:serve").arg(self.root());
        self.as_user(command)
    }

    /// Puts an image into the store; its directory's name.
    pub fn store(&self, name: &str) -> Result<String, Failed> {
        done(&output(self.role("store", &[name]))?)?;
        Ok(self.image_name(name))
    }

    pub fn image_name(&self, name: &str) -> String {
        format!("sha256-{}", crate::roles::image_digest(name).hex())
    }

    /// Removes the object with this content from the store.
    pub fn lose_object(&self, content: &[u8]) -> Result<(), Failed> {
        let store = steading::store::Store::open_read_only(&self.paths.store())?;
        Ok(std::fs::remove_file(store.object_path(&Digest::of(content)))?)
    }

    /// What md5sum says of these files one after the other.
    pub fn md5(&self, numbers: &[u32]) -> Result<String, Failed> {
        let mut child = Command::new("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().ok_or("no stdin")?;
        for number in numbers {
            input.write_all(&content(*number))?;
        }
        drop(input);
        done(&child.wait_with_output()?)
    }

    /// Joins the yard as a supervisor does and runs a shell script in the mount's root; its output.
    pub fn look(&self, script: &str) -> Result<String, Failed> {
        done(&output(self.role("look", &[script]))?)
    }

    /// A shell inside the yard that waits.
    pub fn lookout(&self) -> Result<Lookout, Failed> {
        let script = format!("echo {LOOKOUT_READY}; exec sh -e");
        let mut child = start(self.role("look", &[&script]).stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
        if line.trim() != LOOKOUT_READY {
            return Err("the lookout did not start".into());
        }
        Ok(Lookout { child, mount_point: self.paths.yard_mount() })
    }

    /// Sends a line to the server's socket; its answer.
    pub fn say(&self, line: &str) -> Result<String, Failed> {
        done(&output(self.role("say", &[&hex(line)]))?)
    }

    /// Processes of this test, as the program's copy is only this test's.
    pub fn processes(&self) -> Result<Vec<PathBuf>, Failed> {
        let mut list = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let exe = entry?.path().join("exe");
            if std::fs::read_link(&exe).is_ok_and(|target| target == self.exe) {
                list.push(exe);
            }
        }
        Ok(list)
    }

    /// How many processes of the machine see the yard's mount.
    pub fn mounted(&self) -> Result<usize, Failed> {
        let place = self.paths.yard_mount();
        let place = place.to_str().ok_or("the path is no text")?;
        let mut count = 0;
        for entry in std::fs::read_dir("/proc")? {
            let table = std::fs::read_to_string(entry?.path().join("mountinfo")).unwrap_or_default();
            count += usize::from(table.lines().any(|line| line.contains(place) && line.contains("fuse.steading")));
        }
        Ok(count)
    }

    /// A yard in a mount namespace of its own, in which root mounts something after the yard was made (root only).
    pub fn with_later_mount(&self) -> Result<String, Failed> {
        let script = r#"
            root=$1; exe=$2; uid=$3
            mount -t tmpfs none "$root/later" -o mode=755 && umount "$root/later" || exit 1
            as() { setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"; }
            setpriv --reuid "$uid" --regid "$uid" --clear-groups "$exe" role:serve "$root" </dev/null >/dev/null 2>&1 &
            server=$!
            see() { as "$exe" role:look "$root" "cat '$root/later/hello' 2>/dev/null || echo no"; }
            echo "before: $(see)"
            mount -t tmpfs none "$root/later" -o mode=755 && echo hello > "$root/later/hello"
            echo "mounted: $(see)"
            umount "$root/later" || echo "busy"
            echo "unmounted: $(see)"
            kill $server && wait $server"#;
        std::fs::create_dir(self.root().join("later"))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "shared", "sh", "-c", script, "sh"]);
        command.arg(self.root()).arg(&self.exe).arg(self.uid.to_string());
        done(&output(command)?)
    }
}

/// See [`Ground::lookout`].
#[derive(Debug)]
pub struct Lookout {
    child: Child,
    mount_point: PathBuf,
}

impl Lookout {
    /// Unmounts the yard's file system, as somebody could who is root in U0.
    pub fn unmount(mut self) -> Result<(), Failed> {
        let line = format!("cd /; umount -l '{}'\n", self.mount_point.display());
        self.child.stdin.as_mut().ok_or("no stdin")?.write_all(line.as_bytes())?;
        self.end()
    }

    pub fn end(mut self) -> Result<(), Failed> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the lookout: {status}").into()) }
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// One question and answer on a socket.
pub fn ask(socket: &Path, line: &[u8]) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(line)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
