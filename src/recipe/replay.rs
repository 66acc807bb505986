//! Hostile recipes: errors are fine, panics are bugs.
