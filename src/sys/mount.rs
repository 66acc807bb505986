//! The mount API by descriptors: open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2), mount_setattr(2).
//! A detached mount is prepared, filled and given attributes before anything can see it, and attached in one step.

use crate::sys::process::fd_result;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Mount attributes (`MOUNT_ATTR_*` of linux/mount.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr(u64);

impl Attr {
    /// No attribute.
    pub const NONE: Attr = Attr(0);
    /// Read-only.
    pub const RDONLY: Attr = Attr(0x1);
    /// Set-user-id bits and file capabilities have no effect.
    pub const NOSUID: Attr = Attr(0x2);
    /// Device nodes cannot be opened.
    pub const NODEV: Attr = Attr(0x4);
    /// Programs cannot be executed.
    pub const NOEXEC: Attr = Attr(0x8);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Attr) -> Attr {
        Attr(self.0 | other.0)
    }

    /// Whether all of `other` are in.
    #[must_use]
    pub const fn has(self, other: Attr) -> bool {
        self.0 & other.0 == other.0
    }
}

const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const AT_EMPTY_PATH: libc::c_uint = 0x1000;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_SYMLINKS: libc::c_uint = 0x10;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

fn c_path(path: &Path) -> io::Result<CString> {
    c_text(path.as_os_str())
}

fn c_text(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL byte in a path"))
}

fn unit_result(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A detached copy (bind mount) of what is at `path`, with the mounts below it when `recursive`.
///
/// # Errors
/// Those of open_tree(2).
pub fn clone_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let text = c_path(path)?;
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: `text` is a NUL-terminated string that outlives the call; the other arguments are integers.
    fd_result(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, text.as_ptr(), flags) })
}

/// Attaches a detached mount at `target`, following symbolic links in its last part too.
///
/// # Errors
/// Those of move_mount(2).
pub fn attach(tree: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS;
    // SAFETY: both strings are NUL-terminated and outlive the call; the other arguments are integers.
    unit_result(unsafe {
        libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), libc::AT_FDCWD, target.as_ptr(), flags)
    })
}

/// struct mount_attr of linux/mount.h (version 0, 32 bytes).
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds `attr` to a mount (and all mounts below it when `recursive`).
///
/// # Errors
/// Those of mount_setattr(2).
pub fn set_attr(tree: BorrowedFd<'_>, attr: Attr, recursive: bool) -> io::Result<()> {
    mount_setattr(tree, &MountAttr { set: attr.0, ..MountAttr::default() }, recursive)
}

/// Shows the owners of a detached mount through the map of the user namespace `namespace` (`MOUNT_ATTR_IDMAP`): the file system's id is
/// the id inside. The caller needs power over the file system's user namespace and over `namespace`.
///
/// # Errors
/// Those of mount_setattr(2): EINVAL when the file system or the kernel cannot.
pub fn set_idmap(tree: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    let userns_fd = u64::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?;
    mount_setattr(tree, &MountAttr { set: MOUNT_ATTR_IDMAP, userns_fd, ..MountAttr::default() }, false)
}

fn mount_setattr(tree: BorrowedFd<'_>, request: &MountAttr, recursive: bool) -> io::Result<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `request` has the layout of struct mount_attr and lives over the call, which only reads it; the path is a
    // NUL-terminated literal.
    unit_result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(request),
            std::mem::size_of::<MountAttr>(),
        )
    })
}

fn configure(context: BorrowedFd<'_>, command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: key and value are NUL-terminated strings that outlive the call, or null where the command takes none.
    unit_result(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(key), pointer(value), 0) })
}

/// A new detached mount of a kernel file system (`proc`, `tmpfs`, ...). `options` are its own options; a value is at most 255 bytes.
///
/// # Errors
/// Those of fsopen(2), fsconfig(2) and fsmount(2).
pub fn new_mount(kind: &str, source: &str, options: &[(&str, Option<&str>)], attr: Attr) -> io::Result<OwnedFd> {
    let text = |text: &str| c_text(OsStr::new(text));
    let kind = text(kind)?;
    // SAFETY: `kind` is a NUL-terminated string that outlives the call.
    let context = fd_result(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    let context_fd = std::os::fd::AsFd::as_fd(&context);
    configure(context_fd, FSCONFIG_SET_STRING, Some(c"source"), Some(&text(source)?))?;
    for (key, value) in options {
        let key = text(key)?;
        match value {
            Some(value) => configure(context_fd, FSCONFIG_SET_STRING, Some(&key), Some(&text(value)?))?,
            None => configure(context_fd, FSCONFIG_SET_FLAG, Some(&key), None)?,
        }
    }
    configure(context_fd, FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: all arguments are integers.
    fd_result(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attr.0) })
}
