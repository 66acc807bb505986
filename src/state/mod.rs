//! Services, generations, ports, secrets and settings on disk. Every write is atomic (`sys::file`), every mutation holds a lock.

pub mod paths;

pub use paths::{Paths, ServiceDir};
