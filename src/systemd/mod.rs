//! The user's service manager over D-Bus. The only user of `zbus`.
