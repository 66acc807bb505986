//! Read-only memory maps of files that never change.

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::raw::c_void;
use std::ptr::NonNull;

/// The bytes of a file, mapped. It lives on after the file is closed or unlinked.
///
/// Only for files that are replaced by rename and never written, shortened or punched in place (the store's indexes):
/// that is what makes the bytes as constant as a `&[u8]` must be. A disk that fails to read a page raises SIGBUS.
#[derive(Debug)]
pub struct Map {
    /// `None` for an empty file, which mmap(2) refuses.
    start: Option<NonNull<c_void>>,
    length: usize,
}

// SAFETY: the mapping is read-only, belongs to the process rather than to a thread, and is unmapped once, on drop.
unsafe impl Send for Map {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Map {}

impl Map {
    /// Maps all of `file` as long as it is now.
    ///
    /// # Errors
    /// Those of fstat(2) and mmap(2).
    pub fn of(file: &File) -> io::Result<Map> {
        let length = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let Some(size) = NonZeroUsize::new(length) else {
            return Ok(Map { start: None, length: 0 });
        };
        // SAFETY: no address is asked for, so no existing mapping is replaced; the result is checked by nix.
        let start = unsafe { mmap(None, size, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Map { start: Some(start), length })
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.start {
            // SAFETY: `start` is a live mapping of exactly `length` readable bytes until drop, and the file behind it
            // is never changed in place (the invariant of this type, kept by `store`).
            Some(start) => unsafe { std::slice::from_raw_parts(start.as_ptr().cast(), self.length) },
            None => &[],
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if let Some(start) = self.start {
            // SAFETY: exactly the range that `of` mapped; no reference into it outlives `self`.
            // munmap of a whole own mapping fails only for a wrong range, so there is nothing to report.
            let _ = unsafe { munmap(start, self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_map_shows_the_file_and_outlives_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        File::create(&path).unwrap().write_all(b"hello").unwrap();
        let map = Map::of(&File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*map, b"hello");
    }

    #[test]
    fn an_empty_file_is_an_empty_map() {
        assert!(Map::of(&tempfile::tempfile().unwrap()).unwrap().is_empty());
    }
}
