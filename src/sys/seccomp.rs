//! Seccomp filters (seccomp(2)) and user notification (seccomp_unotify(2)).

use crate::sys::process::fd_result;
use crate::sys::syscalls::Arch;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// One instruction of a filter program.
pub type Instruction = libc::sock_filter;

/// One notified system call, copied by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Names this call until it is answered.
    pub id: u64,
    /// Thread that made it, in our pid namespace.
    pub pid: i32,
    /// Number of the system call.
    pub number: i64,
    /// Its arguments.
    pub args: [u64; 6],
}

fn statement(code: u32, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k: value }
}

fn jump_if_equal(value: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: yes, jf: no, k: value }
}

/// Installs a filter that notifies the system calls `numbers` of the native architecture and allows all else; returns
/// the listener. `no_new_privs` must be set, or CAP_SYS_ADMIN held.
///
/// # Errors
/// Those of seccomp(2); EBUSY when a listener exists already.
pub fn notify_on(numbers: &[libc::c_long]) -> io::Result<OwnedFd> {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let give = libc::BPF_RET | libc::BPF_K;
    let count = u8::try_from(numbers.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // struct seccomp_data: nr at 0, arch at 4.
    let mut program = vec![
        statement(load, 4),
        jump_if_equal(Arch::NATIVE.audit(), 1, 0),
        statement(give, libc::SECCOMP_RET_ALLOW),
        statement(load, 0),
    ];
    for (number, index) in numbers.iter().zip(0_u8..) {
        let number = u32::try_from(*number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        program.push(jump_if_equal(number, count - index, 0));
    }
    program.push(statement(give, libc::SECCOMP_RET_ALLOW));
    program.push(statement(give, libc::SECCOMP_RET_USER_NOTIF));
    fd_result(set_filter(&program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?)
}

/// Installs a filter program for the calling thread and all it will make, for good. `no_new_privs` must be set, or
/// CAP_SYS_ADMIN held.
///
/// # Errors
/// Those of seccomp(2); EINVAL for a program that the kernel does not understand.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    set_filter(program, 0).map(drop)
}

/// Installs a filter program with `flags`; returns what seccomp(2) returned.
fn set_filter(program: &[Instruction], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    // Kernels before 5.16 would slow the program down by a mitigation against speculation that filters do not need.
    let flags = flags | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let request = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `request` points to `len` instructions that live over the call; the kernel only reads, copies and verifies them.
    match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const request) } {
        result if result < 0 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

// ioctl numbers of linux/seccomp.h: _IOWR('!', nr, type) and _IOW('!', nr, type).
const fn ioctl_number(direction: u64, number: u64, size: usize) -> u64 {
    (direction << 30) | ((size as u64) << 16) | (0x21 << 8) | number
}
const NOTIF_RECV: u64 = ioctl_number(3, 0, std::mem::size_of::<libc::seccomp_notif>());
const NOTIF_SEND: u64 = ioctl_number(3, 1, std::mem::size_of::<libc::seccomp_notif_resp>());
const NOTIF_ID_VALID: u64 = ioctl_number(1, 2, 8);
const NOTIF_ADDFD: u64 = ioctl_number(1, 3, std::mem::size_of::<libc::seccomp_notif_addfd>());

fn ioctl<T>(listener: BorrowedFd<'_>, number: u64, argument: *mut T) -> io::Result<libc::c_int> {
    // SAFETY: private to this file: every caller passes a valid pointer to the type whose size is part of `number`.
    match unsafe { libc::ioctl(listener.as_raw_fd(), number as _, argument) } {
        result if result < 0 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Takes the next notified call; blocks when there is none. `None` when the caller died in the meantime.
///
/// # Errors
/// Those of ioctl(2) but EINTR and ENOENT.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Call>> {
    loop {
        // SAFETY: seccomp_notif is plain old data, and the kernel demands that it be zeroed.
        let mut request: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        match ioctl(listener, NOTIF_RECV, &raw mut request) {
            Ok(_) => {
                return Ok(Some(Call {
                    id: request.id,
                    pid: i32::try_from(request.pid).map_err(io::Error::other)?,
                    number: i64::from(request.data.nr),
                    args: request.data.args,
                }));
            }
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Whether the caller still waits in this very call; ask after reading its memory and before believing what was read.
#[must_use]
pub fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    let mut id = id;
    ioctl(listener, NOTIF_ID_VALID, &raw mut id).is_ok()
}

/// The answer to a notified call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel carries the call out as if it had not been notified.
    Continue,
    /// The call returns this value and is not carried out.
    Value(i64),
    /// The call fails with this errno.
    Errno(i32),
    /// Somebody else answers it.
    Given,
}

/// Answers a call. Returns whether it was still waited for: a caller may have died, or have been interrupted by a signal.
///
/// # Errors
/// Those of ioctl(2) but ENOENT.
pub fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> io::Result<bool> {
    let (val, error, flags) = match answer {
        Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        Answer::Value(value) => (value, 0, 0),
        Answer::Errno(errno) => (0, -errno, 0),
        Answer::Given => return Ok(true),
    };
    let mut response = libc::seccomp_notif_resp { id, val, error, flags };
    match ioctl(listener, NOTIF_SEND, &raw mut response) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        result => result.map(|_| true),
    }
}

/// Puts a copy of `fd` in place of the caller's descriptor `at` (`SECCOMP_ADDFD_FLAG_SETFD`).
///
/// # Errors
/// Those of ioctl(2); ENOENT when the caller died.
pub fn replace_fd(listener: BorrowedFd<'_>, id: u64, fd: BorrowedFd<'_>, at: RawFd, close_on_exec: bool) -> io::Result<()> {
    let number = |fd: RawFd| u32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF));
    let mut request = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
        srcfd: number(fd.as_raw_fd())?,
        newfd: number(at)?,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    ioctl(listener, NOTIF_ADDFD, &raw mut request).map(drop)
}
