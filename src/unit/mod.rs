//! Plan -> unit text.
