//! Processes: fork with a closure, clone into new namespaces, pidfds, exit without destructors.

use nix::sched::CloneFlags;
use nix::unistd::{ForkResult, Pid};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Forks; the child runs `child` and exits with its result, never returning here.
///
/// The caller must have one thread: after fork only the calling thread exists in the child, and locks held by others
/// (the allocator's too) would stay locked.
///
/// # Errors
/// Those of fork(2); `Other` when the process has more than one thread.
pub fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    fork_with(one_thread()?, child)
}

/// That the process had one thread a moment ago. /proc/self is gone for a process that entered the mount namespace of
/// another pid namespace, so the proof is taken before.
#[derive(Debug)]
pub struct OneThread(());

/// Proves that this process has one thread.
///
/// # Errors
/// `Other` when it has more; those of reading /proc/self/task.
pub fn one_thread() -> io::Result<OneThread> {
    match thread_count()? {
        1 => Ok(OneThread(())),
        count => Err(io::Error::other(format!("fork needs a process with one thread, this one has {count}"))),
    }
}

/// [`fork`] with a proof taken before; no thread may have been started since.
///
/// # Errors
/// Those of fork(2).
pub fn fork_with(proof: OneThread, child: impl FnOnce() -> i32) -> io::Result<Pid> {
    let OneThread(()) = proof;
    // SAFETY: the process has one thread (the proof), so the child may run any code.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => exit_now(child()),
    }
}

/// Whose child a cloned process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The caller's.
    Child,
    /// That of the caller's parent (`CLONE_PARENT`).
    Sibling,
}

/// Like [`fork`], but the child is in the new namespaces `namespaces` (clone3(2)). Returns its id in the caller's pid namespace.
///
/// # Errors
/// Those of clone3(2); `Other` when the process has more than one thread.
pub fn clone_into(namespaces: CloneFlags, relation: Relation, child: impl FnOnce() -> i32) -> io::Result<Pid> {
    one_thread()?;
    #[repr(C)]
    #[derive(Default)]
    struct CloneArgs {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
    }
    let (parent, exit_signal) = match relation {
        Relation::Child => (CloneFlags::empty(), libc::SIGCHLD),
        // The exit signal is that of the caller itself and must be given as 0.
        Relation::Sibling => (CloneFlags::CLONE_PARENT, 0),
    };
    let flags = (namespaces | parent).bits() as u32;
    let args = CloneArgs { flags: u64::from(flags), exit_signal: exit_signal as u64, ..CloneArgs::default() };
    // SAFETY: `args` is struct clone_args (first published size, 64 bytes) and lives over the call. Neither CLONE_VM nor a
    // stack is given, so the child continues on a copy of this stack, as after fork; one thread (checked above).
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, std::mem::size_of::<CloneArgs>()) };
    match result {
        0 => exit_now(child()),
        pid if pid > 0 => Ok(Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends the process at once: no destructors, no atexit handlers (those belong to the parent after a fork).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Number of threads of this process.
///
/// # Errors
/// Those of reading /proc/self/task.
pub fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// The descriptor that a system call returned, or its errno.
pub(super) fn fd_result(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: the system call has just made this descriptor for us; nobody else owns it.
        Ok(raw) if raw >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(raw) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A descriptor that names the process `pid` (pidfd_open(2)).
///
/// # Errors
/// Those of pidfd_open(2).
pub fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: both arguments are integers.
    fd_result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })
}

/// Sends `signal` to the process that `pidfd` names, never to another one that got its id (pidfd_send_signal(2)).
///
/// # Errors
/// Those of pidfd_send_signal(2); ESRCH when it ended.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: nix::sys::signal::Signal) -> io::Result<()> {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: all arguments but the null pointer are integers.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal as libc::c_int, nothing, 0) } {
        result if result < 0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A copy of descriptor `number` of the process that `pidfd` names (pidfd_getfd(2)).
///
/// # Errors
/// Those of pidfd_getfd(2).
pub fn copy_fd(pidfd: BorrowedFd<'_>, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: all arguments are integers.
    fd_result(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })
}

/// Marks every descriptor from `first` up close-on-exec (close_range(2), `CLOSE_RANGE_CLOEXEC`).
///
/// # Errors
/// Those of close_range(2).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: all arguments are integers, and nothing is closed now.
    match unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) } {
        result if result < 0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Closes every descriptor from `first` up. For a child after fork that goes on without any of them: owners of the closed
/// descriptors must not be used or dropped any more, so the caller ends by [`exit_now`].
///
/// # Errors
/// Those of close_range(2).
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: all arguments are integers; see the demand on the caller above.
    match unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } {
        result if result < 0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Gives every signal its default action and unblocks all: what a program may expect of whoever executes it. (Rust's
/// runtime ignores SIGPIPE, and ignored signals stay so over exec.)
///
/// # Errors
/// Those of sigprocmask(2).
pub fn reset_signals() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
    for number in Signal::iterator().filter(|number| !matches!(number, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: SIG_DFL is no function of ours, so nothing can run at a bad moment.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Leaves the session keyring of whoever started us, which may hold keys of the user's, for a new empty one (keyctl(2)).
/// A kernel without keyrings has nothing to leave.
///
/// # Errors
/// Those of keyctl(2) but ENOSYS; EDQUOT when the user has too many keys (kernel.keys.maxkeys).
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is read.
    match unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) } {
        result if result >= 0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            error => Err(error),
        },
    }
}

/// Ends this process by `signal`, without a core dump of its own, so that the parent sees the signal; 128 + signal as
/// exit code if the signal does not end it.
pub fn die_of(signal: nix::sys::signal::Signal) -> ! {
    use nix::sys::resource::{Resource, setrlimit};
    // Best effort: whatever fails here, the process still ends below. A limit of 0 does not keep a core from being piped to a
    // handler (core(5)); a process that may not be dumped has none at all.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = reset_signals();
    let _ = nix::sys::signal::raise(signal);
    exit_now(128 + signal as i32)
}
