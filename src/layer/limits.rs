//! How big a layer may be.

/// What a layer may cost before it is refused. The defaults let every honest image through and stop a bomb before it
/// fills the memory or a big disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed tar, and bytes of all files with their holes filled.
    pub max_layer_bytes: u64,
    /// Entries (files, directories, whiteouts, ...).
    pub max_entries: u64,
    /// Bytes of one path.
    pub max_path: usize,
    /// Bytes of one extended header (all xattrs of one file, a long name).
    pub max_header_bytes: u64,
    /// Bytes of all names and xattrs together.
    pub max_metadata_bytes: u64,
    /// Pieces of one sparse file.
    pub max_extents: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_layer_bytes: 64 << 30,
            max_entries: 2_000_000,
            max_path: 4096,
            max_header_bytes: 1 << 20,
            max_metadata_bytes: 512 << 20,
            max_extents: 1 << 20,
        }
    }
}
