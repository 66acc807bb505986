//! Id maps of user namespaces (user_namespaces(7)).
//!
//! The `user` map is one line: the user's own id becomes the service's id. It needs no `/etc/subuid` and no setuid helper.

use std::fmt;

/// Consecutive ids: `count` of them, from `inside` in the namespace and from `outside` in its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id in the parent namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdRange {
    /// One id.
    #[must_use]
    pub fn single(inside: u32, outside: u32) -> Self {
        IdRange { inside, outside, count: 1 }
    }
}

impl fmt::Display for IdRange {
    /// A line of `uid_map`, with its line feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} {}", self.inside, self.outside, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_the_kernel_reads() {
        assert_eq!(IdRange::single(999, 0).to_string(), "999 0 1\n");
    }
}
