//! System calls. All `unsafe` of the crate lives here, behind safe functions that return the errno together with the
//! path or the step it belongs to. No policy.
#![allow(unsafe_code)]

pub mod caps;
pub mod file;
pub mod fuse;
pub mod identity;
pub mod kernel;
pub mod landlock;
pub mod memory;
pub mod mmap;
pub mod mount;
pub mod net;
pub mod notify;
pub mod process;
pub mod seccomp;
pub mod socket;
pub mod space;
pub mod sync;
pub mod syscalls;
pub mod terminal;
