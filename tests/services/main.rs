//! Services in the testbed, end to end. One program, so that its tests can wait beside each other; `tests/reboot.rs` takes the
//! machines for itself.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test program")]

#[path = "../support/mod.rs"]
mod support;

mod bad_days;
mod crosscheck;
mod endurance;
mod exec;
mod first_light;
mod handover;
mod hostile_image;
mod hostile_program;
mod idmap;
mod isolation;
mod life;
mod privacy;
mod recipes;
mod registry;
mod run;
mod seccomp;
