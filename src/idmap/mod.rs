//! Id maps of user namespaces (user_namespaces(7)) and the ids that this user may put into them (subuid(5), subgid(5)).
//!
//! The yard's namespace U0 maps the user's own id to 0 and, where the user has a range and newuidmap(1) is there, the range to 1 and up.
//! A service's namespace is nested in it. Three kinds of map, in ids of the host (`config.json` has them so):
//!
//! | kind | map |
//! |---|---|
//! | `user` | one line: the user's own id is the service's id. Needs no range, no setuid helper |
//! | `range` | the service's ids are U0's: 0 is the user, the others are the range, but for a [`HOLE`] that is kept for `private` |
//! | `private` | only the ids that the service needs, each onto an id of the hole that no other service has |
//!
//! So two `private` services share no host id with each other, nor with any service of another kind.
//!
//! Maps are fixed at install, in ids of the host: when the range changes afterwards, a service that lost its ids does not start,
//! rather than find its files owned by strangers.

mod build;
mod find;
mod namespace;
mod subid;

pub use build::{HOLE, IDMAPPED_FUSE, MOST, Needs, USUAL, kind_for_image, private, range, u0, user};
pub use find::{Helpers, remedy, subordinate};
pub use namespace::{run_as_root, write_own};
pub use subid::{Extent, Subordinate};

use serde::{Deserialize, Serialize};
use std::fmt;

/// Consecutive ids: `count` of them, from `inside` in the namespace and from `outside` in its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

/// `id` of the ids from `from` on, counted from `to`.
fn shift(id: u32, from: u32, to: u32, count: u32) -> Option<u32> {
    let offset = id.checked_sub(from)?;
    if offset < count { to.checked_add(offset) } else { None }
}

/// The lines of a `uid_map` or `gid_map`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdMap(pub Vec<IdRange>);

impl IdMap {
    /// Reads what /proc/PID/uid_map shows; `None` when it is no map.
    #[must_use]
    pub fn parse(text: &str) -> Option<IdMap> {
        let line = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<u32>().ok());
            let range = IdRange { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? };
            numbers.next().is_none().then_some(range)
        };
        text.lines().map(line).collect::<Option<Vec<_>>>().map(IdMap)
    }

    /// The parent's id of an id inside.
    #[must_use]
    pub fn outside(&self, inside: u32) -> Option<u32> {
        self.0.iter().find_map(|range| shift(inside, range.inside, range.outside, range.count))
    }

    /// The id inside of an id of the parent.
    #[must_use]
    pub fn inside(&self, outside: u32) -> Option<u32> {
        self.0.iter().find_map(|range| shift(outside, range.outside, range.inside, range.count))
    }

    /// Whether some id inside is in the map.
    #[must_use]
    pub fn has(&self, inside: u32) -> bool {
        self.outside(inside).is_some()
    }

    /// How many ids there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.iter().map(|range| u64::from(range.count)).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same map for a namespace nested in one that has the map `parent`: every outside id, so far one of the parent's parent, becomes
    /// the parent's. A line is split where the parent's lines part. The error is the first id that the parent does not have.
    ///
    /// # Errors
    /// The id that `parent` does not have.
    pub fn nested_in(&self, parent: &IdMap) -> Result<IdMap, u32> {
        let mut lines: Vec<IdRange> = Vec::new();
        for range in &self.0 {
            let mut done = 0;
            while done < range.count {
                let (inside, wanted) = (range.inside + done, range.outside + done);
                let found = parent.0.iter().find(|line| shift(wanted, line.outside, line.inside, line.count).is_some());
                let line = found.ok_or(wanted)?;
                let skipped = wanted - line.outside;
                let count = (line.count - skipped).min(range.count - done);
                lines.push(IdRange { inside, outside: line.inside + skipped, count });
                done += count;
            }
        }
        Ok(IdMap(lines))
    }
}

impl fmt::Display for IdMap {
    /// What is written into `uid_map`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|range| range.fmt(f))
    }
}

/// The two maps of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdMaps {
    /// Of users.
    pub uids: IdMap,
    /// Of groups.
    pub gids: IdMap,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(lines: &[(u32, u32, u32)]) -> IdMap {
        IdMap(lines.iter().map(|&(inside, outside, count)| IdRange { inside, outside, count }).collect())
    }

    #[test]
    fn a_map_is_what_the_kernel_reads_and_shows() {
        assert_eq!(IdRange::single(999, 0).to_string(), "999 0 1\n");
        let both = map(&[(0, 1000, 1), (1, 100_000, 65_536)]);
        assert_eq!(both.to_string(), "0 1000 1\n1 100000 65536\n");
        let shown = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(IdMap::parse(shown), Some(both));
        assert_eq!(IdMap::parse("0 0 4294967295\n"), Some(map(&[(0, 0, u32::MAX)])));
        for bad in ["0 1000\n", "0 1000 1 1\n", "0 x 1\n", "-1 0 1\n", "0 4294967296 1\n"] {
            assert_eq!(IdMap::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ids_are_found_both_ways() {
        let u0 = map(&[(0, 1000, 1), (1, 100_000, 10)]);
        assert_eq!((u0.outside(0), u0.outside(10), u0.outside(11)), (Some(1000), Some(100_009), None));
        assert_eq!((u0.inside(1000), u0.inside(100_009), u0.inside(0)), (Some(0), Some(10), None));
        assert_eq!(u0.len(), 11);
        assert_eq!(map(&[(u32::MAX, 0, 1)]).outside(u32::MAX), Some(0));
    }

    #[test]
    fn a_nested_map_is_in_the_parents_ids_and_split_where_the_parents_lines_part() {
        // The kernel refuses a line that crosses two of the parent's (map_id_range_down of kernel/user_namespace.c).
        let u0 = map(&[(0, 1000, 1), (1, 100_000, 10), (11, 300_000, 10)]);
        for (lines, nested) in [
            (map(&[(999, 1000, 1)]), Ok(map(&[(999, 0, 1)]))),
            (map(&[(0, 1000, 1), (1, 100_000, 10)]), Ok(map(&[(0, 0, 1), (1, 1, 10)]))),
            (map(&[(0, 300_004, 1), (33, 300_005, 1)]), Ok(map(&[(0, 15, 1), (33, 16, 1)]))),
            (map(&[(0, 100_008, 3)]), Err(100_010)),
            (map(&[(0, 1001, 1)]), Err(1001)),
        ] {
            assert_eq!(lines.nested_in(&u0), nested);
        }
        let joined = map(&[(0, 500, 10), (10, 510, 10)]);
        assert_eq!(map(&[(0, 505, 10)]).nested_in(&joined), Ok(map(&[(0, 5, 5), (5, 10, 5)])));
    }

    proptest! {
        #[test]
        fn nesting_and_the_parent_together_are_the_map(
            parents in proptest::collection::vec(1_u32..50, 1..5), first in 0_u32..60, count in 1_u32..40,
        ) {
            // Parent lines lie side by side inside and apart outside.
            let mut next = 0;
            let lines: Vec<_> = parents.iter().enumerate().map(|(at, count)| {
                let line = (next, 1000 * (at as u32 + 1), *count);
                next += count;
                line
            }).collect();
            let parent = map(&lines);
            let outer = map(&[(0, 1000 + first, count)]);
            match outer.nested_in(&parent) {
                Ok(nested) => for id in 0..count {
                    prop_assert_eq!(nested.outside(id).and_then(|id| parent.outside(id)), Some(1000 + first + id));
                },
                Err(missing) => prop_assert_eq!(parent.inside(missing), None),
            }
        }

        #[test]
        fn any_text_is_a_map_or_none(text in "[0-9 \n-]{0,40}") {
            if let Some(map) = IdMap::parse(&text) {
                prop_assert_eq!(IdMap::parse(&map.to_string()), Some(map));
            }
        }
    }
}
