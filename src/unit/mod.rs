//! Plan -> text of unit files; pure. The templates lie in `units/` and are part of the binary.
//!
//! What was measured with user managers of systemd 252 and 257, and is relied on here:
//!
//! - A unit file may be called `postgres@14.service` with no template `postgres@.service` beside it: start, enable, disable,
//!   reenable, preset, `is-enabled` and `EnableUnitFiles` treat it as any other file; `enable` links
//!   `default.target.wants/postgres@14.service`. Only its default slice differs (`app-postgres.slice`), and ours is named anyway.
//! - `systemctl --user mask` refuses every unit whose file lies in `~/.config/systemd/user` ("already exists"), whatever its name.
//! - `FileDescriptorStorePreserve=` is unknown to 252 and its default (`restart`) is what we want: kept over restart and crash,
//!   closed at stop. So it is not written.
//! - `SendSIGKILL=no` with `KillMode=mixed`: systemd does not start the unit while processes of a former start exist ("Will not start
//!   SendSIGKILL=no service"), and tries again and again; with `process` it starts.
//! - `RestartSec=0` restarts in 12-30 ms; 1 ms and more in up to 250 ms longer, since the manager coalesces its timers.
//! - `Documentation=` is absent until there is a page to name: `systemd-analyze verify` fails on a man page that is not installed.

mod escape;
mod render;
mod template;
#[cfg(test)]
mod tests;

pub use render::{Marker, RUN, SLICE, START_MARGIN, Shared, UnitFile, Units, YARD, is_ours, marker, render, shared, unenforced};
