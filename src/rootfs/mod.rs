//! Root file system drivers.
