//! `steading yard`: life of the server.

use crate::error::{Context, Error, Result};
use crate::state::Paths;
use crate::sys::file::{self, Lock, LockMode};
use crate::sys::notify::{Notify, take_listen_fds};
use crate::sys::socket::{recv_fds, send_fds};
use crate::yard::fuse::Connection;
use crate::yard::source::Source;
use crate::yard::tree::Tree;
use crate::yard::u0::U0;
use crate::yard::{HELLO, WELCOME, journal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Names in systemd's descriptor store.
const FUSE: &str = "fuse";
const USER: &str = "u0-user";
const MOUNT: &str = "u0-mnt";

/// How long the mount may take to answer before the server gives up.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// How long one supervisor may keep the others waiting.
const CLIENT_LIMIT: Duration = Duration::from_millis(500);

/// Serves the images of `source` until SIGTERM. The process must have one thread.
pub(crate) fn run<S: Source>(paths: &Paths, source: impl FnOnce() -> Result<S>) -> Result<()> {
    // First of all: later descriptors of ours must not be taken for these.
    let stored = take_listen_fds();
    let notify = Notify::from_env().context(|| "cannot reach the service manager")?;
    let mount_point = paths.yard_mount();
    prepare(paths, &mount_point)?;
    let lock = paths.runtime().join("yard.lock");
    let Some(_lock) = Lock::attempt(&lock, LockMode::Exclusive)? else {
        return Err(Error::failed("a yard already runs for this user").hint("`systemctl --user status steading-yard` shows it"));
    };

    let tree = Arc::new(Tree::new(source()?));
    let (u0, connection) = connect(&notify, stored, &tree, &mount_point)?;

    // Signals are blocked before there are threads, so that they come to the descriptor only.
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    let signals = (|| {
        mask.thread_block()?;
        SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
    })()
    .context(|| "cannot wait for signals")?;

    // The last moment with one thread: the child that looks at the mount waits in the kernel for the server to begin.
    let probe = u0.probe(&mount_point).context(|| "cannot look at the yard's mount")?;
    let ended = Ended::new().context(|| "cannot start the server")?;
    ended.spawn(connection).context(|| "cannot start the server")?;
    if let Err(error) = probe.wait(PROBE_LIMIT) {
        // Nothing to take over for the next server, which systemd starts.
        forget(&notify);
        return Err(Error::failed("the yard's mount does not answer")
            .because(error)
            .hint("`journalctl --user -u steading-yard` says more"));
    }
    for (name, fd) in [(FUSE, &u0.fuse), (USER, &u0.user), (MOUNT, &u0.mount)] {
        notify.store_fd(name, fd.as_fd()).context(|| "cannot hand the descriptors to the service manager")?;
    }
    let listener = listen(&paths.yard_socket())?;
    notify.send("READY=1\nSTATUS=serving images").context(|| "cannot tell the service manager that the yard is ready")?;
    let result = attend(&notify, &u0, &listener, &signals, &ended);
    // Supervisors wait for the next server. The mount point stays: U0 may outlive this process (see the module).
    let _ = fs::remove_file(paths.yard_socket());
    result
}

/// The run-time directory, which nobody else may enter, and the mount point.
fn prepare(paths: &Paths, mount_point: &Path) -> Result<()> {
    let runtime = paths.runtime();
    file::create_dir_all(runtime, 0o700)?;
    let found = fs::symlink_metadata(runtime).context(|| format!("cannot look at `{}`", runtime.display()))?;
    if !found.is_dir() || found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(Error::failed(format!("`{}` is not a directory of this user", runtime.display()))
            .hint("`XDG_RUNTIME_DIR` must be the user's own, as a login session sets it"));
    }
    if found.mode() & 0o7777 != 0o700 {
        fs::set_permissions(runtime, Permissions::from_mode(0o700))
            .context(|| format!("cannot close `{}` to others", runtime.display()))?;
    }
    file::create_dir_all(mount_point, 0o700)
}

/// Takes over the last server's connection, or makes a new U0.
fn connect<S: Source>(
    notify: &Notify,
    stored: Vec<(String, OwnedFd)>,
    tree: &Arc<Tree<S>>,
    mount_point: &Path,
) -> Result<(U0, Connection<S>)> {
    let any = !stored.is_empty();
    if let Some(u0) = restored(stored) {
        if u0.is_connected() {
            match Connection::resume(Arc::clone(tree), u0.fuse.as_fd()) {
                Ok((connection, resent)) => {
                    journal::note(match resent {
                        true => "taking over the yard's mount",
                        false => {
                            "taking over the yard's mount; this kernel cannot send lost requests again (6.9 can): a program that waited for one hangs"
                        }
                    });
                    return Ok((u0, connection));
                }
                Err(error) => journal::warn(&format!("cannot take over the yard's mount, making a new one: {error}")),
            }
        } else {
            journal::warn("the yard's mount has ended, making a new one; services that run need a restart");
        }
    }
    if any {
        forget(notify);
    }
    let u0 = U0::make(mount_point)?;
    let connection =
        Connection::begin(Arc::clone(tree), u0.fuse.as_fd()).context(|| "cannot begin to serve the yard's file system")?;
    Ok((u0, connection))
}

/// U0 from the descriptor store; anything else in there is closed.
fn restored(stored: Vec<(String, OwnedFd)>) -> Option<U0> {
    let (mut fuse, mut user, mut mount) = (None, None, None);
    for (name, fd) in stored {
        match name.as_str() {
            FUSE => fuse = Some(fd),
            USER => user = Some(fd),
            MOUNT => mount = Some(fd),
            _ => {}
        }
    }
    Some(U0 { fuse: fuse?, user: user?, mount: mount? })
}

fn forget(notify: &Notify) {
    for name in [FUSE, USER, MOUNT] {
        if let Err(error) = notify.remove_fd(name) {
            journal::warn(&format!("cannot take `{name}` out of the descriptor store: {error}"));
        }
    }
}

/// Tells the main thread when the connection has ended, and how.
struct Ended {
    event: Arc<EventFd>,
    result: Arc<Mutex<Option<io::Result<()>>>>,
}

impl Ended {
    fn new() -> io::Result<Ended> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Ended { event: Arc::new(event), result: Arc::default() })
    }

    fn spawn<S: Source>(&self, connection: Connection<S>) -> io::Result<()> {
        let (event, place) = (Arc::clone(&self.event), Arc::clone(&self.result));
        std::thread::Builder::new().name("fuse".to_owned()).spawn(move || {
            let result = connection.serve();
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            // Cannot fail: the counter is far from full.
            let _ = event.write(1);
        })?;
        Ok(())
    }

    fn take(&self) -> io::Result<()> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(Ok(()))
    }
}

fn listen(path: &Path) -> Result<UnixListener> {
    let what = || format!("cannot listen on `{}`", path.display());
    // The lock is ours, so whoever made it is gone.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context(what),
        _ => {}
    }
    let listener = UnixListener::bind(path).context(what)?;
    // A client that gave up between poll and accept must not block the loop.
    listener.set_nonblocking(true).context(what)?;
    Ok(listener)
}

/// Milliseconds without a supervisor after which memory is given back.
const REST: u16 = 2000;

/// The main thread's loop: supervisors, signals, end of the connection.
fn attend(notify: &Notify, u0: &U0, listener: &UnixListener, signals: &SignalFd, ended: &Ended) -> Result<()> {
    let mut is_rested = false;
    loop {
        let mut list = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(ended.event.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut list, if is_rested { PollTimeout::NONE } else { PollTimeout::from(REST) }) {
            Ok(0) => {
                // What starts needed is not needed to wait for the next. Not to get it back is no failure.
                let _ = crate::sys::memory::release();
                is_rested = true;
                continue;
            }
            Ok(_) => is_rested = false,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno).context(|| "cannot wait for supervisors"),
        }
        let ready = list.map(|one| one.revents().is_some_and(|events| !events.is_empty()));
        if ready[0] && signals.read_signal().context(|| "cannot read a signal")?.is_some() {
            // The descriptors stay in the store: a restart takes them over, a stop makes systemd close them.
            notify.send("STOPPING=1").context(|| "cannot tell the service manager that the yard stops")?;
            return Ok(());
        }
        if ready[1] {
            forget(notify);
            let error = Error::failed("the kernel has ended the yard's mount; services that run need a restart");
            return Err(match ended.take() {
                Ok(()) => error,
                Err(cause) => error.because(cause),
            });
        }
        if ready[2] {
            match listener.accept() {
                Ok((stream, _)) => answer(u0, &stream).unwrap_or_else(|error| {
                    journal::warn(&format!("a supervisor was not answered: {error}"));
                }),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    journal::warn(&format!("cannot accept a supervisor: {error}"));
                    // Out of descriptors, most likely: do not spin.
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

/// One supervisor: one line each way.
fn answer(u0: &U0, stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(CLIENT_LIMIT))?;
    stream.set_write_timeout(Some(CLIENT_LIMIT))?;
    let peer = getsockopt(stream, PeerCredentials)?.uid();
    let mut buffer = [0; 64];
    let (length, _) = recv_fds(stream.as_fd(), &mut buffer)?;
    if peer != nix::unistd::geteuid().as_raw() {
        send_fds(stream.as_fd(), b"error this yard belongs to another user\n", &[])?;
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it belongs to the user {peer}")));
    }
    if &buffer[..length] == HELLO.as_bytes() {
        send_fds(stream.as_fd(), WELCOME.as_bytes(), &[u0.user.as_fd(), u0.mount.as_fd()])?;
    } else {
        let text = format!("error this yard speaks `{}`\n", HELLO.trim_end());
        send_fds(stream.as_fd(), text.as_bytes(), &[])?;
    }
    Ok(())
}
