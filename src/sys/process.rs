//! Processes: fork with a closure, exit without destructors.

use nix::unistd::{ForkResult, Pid};
use std::io;

/// Forks; the child runs `child` and exits with its result, never returning here.
///
/// The caller must have one thread: after fork only the calling thread exists in the child, and locks held by others
/// (the allocator's too) would stay locked. [`thread_count`] lets a caller check.
///
/// # Errors
/// Those of fork(2); `WouldBlock` is EAGAIN. `Other` when the process has more than one thread.
pub fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    if thread_count()? != 1 {
        return Err(io::Error::other("fork needs a process with one thread"));
    }
    // SAFETY: the process has one thread (checked above), so the child may run any code.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => exit_now(child()),
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
