//! # steading: a yard of services for every Linux user
//!
//! `steading install postgres@14` and PostgreSQL runs, isolated, as that user's own systemd unit. No root, no daemon, no subuid.
//!
//! Data flows one way and no step re-reads an earlier one's input:
//!
//! ```text
//! catalog/*.toml -recipe-> Recipe -resolve-> Plan -registry-> blobs -layer-> store (objects, image index)
//!                                              \-spec-> OCI runtime Spec -unit-> unit files -systemd-> job
//! ------------------------------------------------------------------------------ install lane above
//! ExecStart=steading supervise NAME: generation -> join the yard -> nested namespaces
//!    -> rootfs (overlay on the yard's image) -> mounts -> no capabilities, seccomp -> exec -> handover, readiness -> exit status
//! ```
//!
//! **Two lanes.** The *install lane* (verbs of the command line) is async and may use network and D-Bus; it never enters a
//! namespace. The *run lane* (`steading supervise`, `yard`, `exec`, `run`) has one thread until the container exists, no tokio, no HTTP,
//! no D-Bus, and reads only what the install lane wrote; what a `run` lacks is brought by another process, of the install lane.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | clap types, one file per verb, printer, progress |
//! | [`recipe`] | schema of recipes, parse with spans, lint |
//! | [`catalog`] | names -> recipes, search, provenance |
//! | [`image`] | reference, digest, platform, config |
//! | [`resolve`] | recipe + settings + host -> [`resolve::Plan`]; pure |
//! | [`registry`] | OCI distribution client; the only `reqwest` |
//! | [`layer`] | decompress, tar -> store objects and index entries |
//! | [`store`] | on-disk format, references, locks, gc, fsck |
//! | [`idmap`] | id maps, subordinate ids |
//! | [`yard`] | U0, image file server, descriptor store, socket for supervisors |
//! | [`rootfs`] | root file system drivers |
//! | [`spec`] | plan -> OCI runtime spec; pure |
//! | [`runtime`] | namespaces, mounts, pivot, capabilities, seccomp, exec, reaping, handover |
//! | [`ready`] | readiness and watchdog probes |
//! | [`unit`] | plan -> unit text |
//! | [`systemd`] | user manager over D-Bus; the only `zbus` |
//! | [`service`] | use cases and their transactions |
//! | [`state`] | services, generations, ports, secrets, settings on disk |
//! | [`doctor`] | host checks: name, severity, cause, remedy |
//! | [`sys`] | all `unsafe`; safe wrappers that return errno with the path |
//! | [`error`], [`report`] | the error type with hints; progress as a trait |
//!
//! Decisions that measurement made, each told where it is carried out:
//!
//! - Units lie in `$XDG_DATA_HOME/systemd/user`, not in `$XDG_CONFIG_HOME/systemd/user`: `systemctl --user mask` works only so
//!   ([`state::Paths::units`]).
//! - A published socket is handed to a process once, though it binds 0.0.0.0 and `::`; what binds loopback stays private
//!   (`runtime/handover.rs`).
//! - Where Landlock can forbid a service all TCP, its supervisor binds and connects for it: nothing else is safe from a thread that swaps
//!   descriptors under a call that was looked at (`runtime/handover.rs`).
//! - The system call policy is compiled when a generation is written, to one filter that searches instead of two that walk: 0.1 ms to
//!   install instead of 0.8 (`runtime/condense.rs`); which calls and why is told in [`spec::seccomp`].
//! - The supervisor confines itself by namespaces, since Landlock would forbid it to look at its service (`runtime/harden.rs`).
//! - The old root goes before any path of the image is followed (`runtime/child.rs`).
//! - Id maps are in the runtime spec in ids of the host, fixed at install: a range that changes later makes an error, not files of
//!   strangers. `private` ids come from a part of the range that no other service has ([`idmap`]).
//! - PostgreSQL asks clients from 127.0.0.1 for a password, as their real addresses are seen (`catalog/postgres.toml`).

pub mod catalog;
pub mod cli;
pub mod doctor;
pub mod error;
pub mod idmap;
pub mod image;
pub mod layer;
pub mod ready;
pub mod recipe;
pub mod registry;
pub mod report;
pub mod resolve;
pub mod rootfs;
pub mod runtime;
pub mod service;
pub mod spec;
pub mod state;
pub mod store;
pub mod sys;
pub mod systemd;
pub mod unit;
pub mod yard;
