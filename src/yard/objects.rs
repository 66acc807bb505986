//! Open descriptors of content files. The kernel is told not to send open and release, so nobody says when a file is no
//! longer read: the least recently used descriptors go.

use crate::image::Digest;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Below the default soft limit of 1024 descriptors of a user service.
const MOST: usize = 512;

#[derive(Debug, Default)]
pub(crate) struct Objects(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    open: HashMap<Digest, (Arc<File>, u64)>,
    clock: u64,
}

impl Objects {
    /// The descriptor of `object`, opened at `path()` when it is not at hand.
    pub(crate) fn get<P: AsRef<Path>>(&self, object: &Digest, path: impl FnOnce() -> P) -> io::Result<Arc<File>> {
        {
            let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            table.clock += 1;
            let now = table.clock;
            if let Some((file, used)) = table.open.get_mut(object) {
                *used = now;
                return Ok(Arc::clone(file));
            }
        }
        // Opened without the lock: a slow disk must not hold up reads of other files.
        let file = Arc::new(File::open(path())?);
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.open.len() >= MOST {
            table.evict();
        }
        let now = table.clock;
        table.open.insert(*object, (Arc::clone(&file), now));
        Ok(file)
    }

    /// Forgets a descriptor, so that the next read opens the file anew.
    pub(crate) fn forget(&self, object: &Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open.remove(object);
    }
}

impl Table {
    /// Drops the least recently used quarter: one sweep serves many later misses.
    fn evict(&mut self) {
        let mut ages: Vec<u64> = self.open.values().map(|(_, used)| *used).collect();
        let (_, limit, _) = ages.select_nth_unstable(MOST / 4);
        let limit = *limit;
        self.open.retain(|_, (_, used)| *used >= limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_descriptors_is_bounded_and_the_newest_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, b"x").unwrap();
        let objects = Objects::default();
        let name = |n: u32| Digest::of(&n.to_le_bytes());
        for n in 0..2000 {
            objects.get(&name(n), || &path).unwrap();
            assert!(objects.0.lock().unwrap().open.len() <= MOST);
        }
        std::fs::remove_file(&path).unwrap();
        assert!(objects.get(&name(1999), || &path).is_ok(), "the newest is still open");
        assert!(objects.get(&name(0), || &path).is_err(), "the oldest was closed");
        objects.forget(&name(1999));
        assert!(objects.get(&name(1999), || &path).is_err());
    }
}
