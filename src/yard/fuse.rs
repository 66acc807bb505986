//! The edge to the kernel: requests of `fuser` become questions to the [`Tree`]. No other file knows `fuser`'s types.

use crate::sys;
use crate::yard::source::{Kind, Source};
use crate::yard::tree::{Attr, Entry, FOR_EVER, Found, Listed, Tree};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
    Session, SessionACL,
};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Most bytes the kernel asks for at once; it takes no more than 256 pages.
const MAX_IO: u32 = 1 << 20;
const THREADS: usize = 2;
const BLOCK: u32 = 4096;

/// What is asked of the kernel when it offers it. `fuser` accepts any bit, also those that it cannot honour: each of these is
/// either done by the kernel alone or done in this file.
const WANTED: [InitFlags; 8] = [
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    // open and opendir answered with ENOSYS once are never sent again, and pages stay cached over opens.
    InitFlags::FUSE_NO_OPEN_SUPPORT,
    InitFlags::FUSE_NO_OPENDIR_SUPPORT,
    // Content never changes, so the kernel need not look for changes.
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    // Lookups of `.` and `..` are answered, so file handles can be decoded after the inode left the cache.
    InitFlags::FUSE_EXPORT_SUPPORT,
    // Owners in requests are not looked at (the kernel checks permissions), so idmapped clones are fine.
    InitFlags::FUSE_ALLOW_IDMAP,
];

/// A connection to the kernel that is ready to serve.
pub(crate) struct Connection<S: Source>(Session<Edge<S>>);

impl<S: Source> fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl<S: Source> Connection<S> {
    /// Takes up a connection whose file system has just been mounted: the kernel's first request is the handshake.
    ///
    /// The mount must have happened: reading earlier fails with EPERM.
    pub(crate) fn begin(tree: Arc<Tree<S>>, device: BorrowedFd<'_>) -> io::Result<Self> {
        Session::from_fd(Edge(tree), device.try_clone_to_owned()?, SessionACL::All, config()).map(Connection)
    }

    /// Takes over a connection that another server has served. `fuser` insists on a handshake, which the kernel does only
    /// once: it gets one from a socket, and then the real descriptor is put in the socket's place.
    ///
    /// Returns also whether the kernel sends the requests again that the last server had taken and not answered.
    pub(crate) fn resume(tree: Arc<Tree<S>>, device: BorrowedFd<'_>) -> io::Result<(Self, bool)> {
        let (kernel, own) = sys::fuse::handshake_socket()?;
        let session = Session::from_fd(Edge(tree), own, SessionACL::All, config())?;
        sys::fuse::replace(device, session.as_fd())?;
        drop(kernel);
        let resent = sys::fuse::resend(device)?;
        Ok((Connection(session), resent))
    }

    /// Serves until the connection ends.
    pub(crate) fn serve(self) -> io::Result<()> {
        self.0.run()
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(THREADS);
    // Requests in flight on a cloned descriptor are lost with the process that dies, not sent again.
    config.clone_fd = false;
    config
}

struct Edge<S: Source>(Arc<Tree<S>>);

thread_local! {
    /// Content on its way to the kernel; one per thread, so that a read allocates nothing.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl<S: Source> Filesystem for Edge<S> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for flag in WANTED {
            // What the kernel does not offer is done without.
            let _ = config.add_capabilities(flag);
        }
        let _ = config.set_max_write(MAX_IO);
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.0.lookup(parent.0, name.as_bytes()) {
            Ok(Found::Entry(entry)) => {
                reply.entry_with_ttls(&entry.attr.valid, &entry.valid, &file_attr(&entry.attr), Generation(0));
            }
            // An entry with number 0 is a negative one that may be kept.
            Ok(Found::Never) => reply.entry(&FOR_EVER, &nothing(), Generation(0)),
            Err(errno) => reply.error(fuser_errno(errno)),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.attr(ino.0) {
            Ok(attr) => reply.attr(&attr.valid, &file_attr(&attr)),
            Err(errno) => reply.error(fuser_errno(errno)),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.0.target(ino.0) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(fuser_errno(errno)),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            match self.0.read(ino.0, offset, size.min(MAX_IO) as usize, buffer) {
                Ok(()) => reply.data(buffer),
                Err(errno) => reply.error(fuser_errno(errno)),
            }
        });
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.0.list(ino.0, offset, &mut |Listed { name, entry: Entry { attr, .. }, next }| {
            !reply.add(INodeNo(attr.number), next, file_type(attr.kind), OsStr::from_bytes(name))
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(fuser_errno(errno)),
        }
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let listed = self.0.list(ino.0, offset, &mut |Listed { name, entry: Entry { attr, valid }, next }| {
            // `fuser` has one time for the name and for the node here.
            let valid = valid.min(attr.valid);
            !reply.add(INodeNo(attr.number), next, OsStr::from_bytes(name), &valid, &file_attr(&attr), Generation(0))
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(fuser_errno(errno)),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, BLOCK, 255, BLOCK);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        sized(self.0.xattr(ino.0, name.as_bytes()), size, reply);
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        sized(self.0.xattr_names(ino.0), size, reply);
    }
}

/// Answers with the bytes, or with their number when `size` is 0.
fn sized(answer: std::result::Result<Vec<u8>, nix::errno::Errno>, size: u32, reply: ReplyXattr) {
    match answer {
        Ok(bytes) => match u32::try_from(bytes.len()) {
            Ok(length) if size == 0 => reply.size(length),
            Ok(length) if length <= size => reply.data(&bytes),
            _ => reply.error(Errno::ERANGE),
        },
        Err(errno) => reply.error(fuser_errno(errno)),
    }
}

fn fuser_errno(errno: nix::errno::Errno) -> Errno {
    Errno::from_i32(errno as i32)
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Char => FileType::CharDevice,
        Kind::Block => FileType::BlockDevice,
        Kind::Socket => FileType::Socket,
    }
}

fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.number),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: attr.mtime,
        mtime: attr.mtime,
        ctime: attr.mtime,
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: u16::try_from(attr.mode & 0o7777).unwrap_or_default(),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK,
        flags: 0,
    }
}

fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}
