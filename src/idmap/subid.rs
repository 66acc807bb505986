//! The text of /etc/subuid, /etc/subgid (subuid(5)) and of getsubids(1). Nothing is read here.

use crate::error::{Error, Result};
use std::fmt::Write as _;

/// Consecutive ids of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Extent {
    /// The last.
    #[must_use]
    pub fn last(self) -> u32 {
        self.first.saturating_add(self.count.saturating_sub(1))
    }

    fn overlaps(self, other: Extent) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }
}

/// The subordinate ids of a user, in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subordinate {
    /// Of /etc/subuid.
    pub uids: Vec<Extent>,
    /// Of /etc/subgid.
    pub gids: Vec<Extent>,
}

impl Subordinate {
    /// Whether there is at least one user id and one group id; a map needs both.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.uids.is_empty() && !self.gids.is_empty()
    }
}

/// Whose ids are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    /// Name of the user.
    pub name: &'a [u8],
    /// The user's id, by which lines may name the user too.
    pub uid: u32,
    /// The id (of the user, of the group) that is in the map anyway.
    pub own: u32,
}

/// Most lines that newuidmap(1) takes, less the user's own (`UID_GID_MAP_MAX_EXTENTS` of the kernel).
const MOST_LINES: usize = 339;

/// The ids that the text of /etc/subuid or /etc/subgid gives to `owner`. Lines of others may be as broken as they like.
pub(super) fn parse_file(text: &[u8], file: &str, owner: Owner<'_>) -> Result<Vec<Extent>> {
    let number = owner.uid.to_string();
    let mut found = Vec::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let mut fields = line.split(|byte| *byte == b':');
        if !fields.next().is_some_and(|name| !name.is_empty() && (name == owner.name || name == number.as_bytes())) {
            continue;
        }
        let place = format!("line {} of {file}", at + 1);
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.trim().parse::<u32>().ok();
        let extent = match (number(), number(), fields.next()) {
            (Some(first), Some(count), None) => Extent { first, count },
            _ => {
                return Err(Error::host(format!("{place} cannot be read: `{}`", line.escape_ascii()))
                    .hint("it should be NAME:FIRST:COUNT, e.g. `alice:100000:65536`"));
            }
        };
        found.push((extent, place));
    }
    sound(found, owner.own)
}

/// The ids in the output of getsubids(1): lines `INDEX: NAME FIRST COUNT`.
pub(super) fn parse_getsubids(text: &str, own: u32) -> Result<Vec<Extent>> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        // From the end: a name may have blanks.
        let mut words = line.split_ascii_whitespace().rev().map(|word| word.parse::<u32>().ok());
        let (Some(Some(count)), Some(Some(first))) = (words.next(), words.next()) else {
            return Err(Error::host(format!("getsubids says what cannot be read: `{}`", line.escape_debug())));
        };
        found.push((Extent { first, count }, format!("what getsubids says, `{}`,", line.trim().escape_debug())));
    }
    sound(found, own)
}

/// Checks what a map could be made of. A range that is given twice (by name and by number) counts once.
fn sound(found: Vec<(Extent, String)>, own: u32) -> Result<Vec<Extent>> {
    let mut list: Vec<(Extent, String)> = Vec::new();
    for (extent, place) in found.into_iter().filter(|(extent, _)| extent.count > 0) {
        let end = u64::from(extent.first) + u64::from(extent.count);
        let wrong = |why: String| Error::host(format!("{place} {why}")).hint("an administrator should correct it");
        // The last number is no id: it means "unchanged" to chown(2) and setuid(2).
        if end > u64::from(u32::MAX) {
            return Err(wrong(format!("goes beyond the largest id, {}", u32::MAX - 1)));
        }
        if extent.first == 0 {
            return Err(wrong("would give away the id of root".to_owned()));
        }
        if extent.overlaps(Extent { first: own, count: 1 }) {
            return Err(wrong(format!("includes the user's own id, {own}")));
        }
        match list.iter().find(|(other, _)| other.overlaps(extent)) {
            Some((other, _)) if *other == extent => {}
            Some((_, other)) => {
                let mut why = String::new();
                // Writing to a String cannot fail.
                let _ = write!(why, "overlaps with {}", other.trim_end_matches(','));
                return Err(wrong(why));
            }
            None => list.push((extent, place)),
        }
    }
    if list.len() > MOST_LINES {
        return Err(Error::host(format!("{} ranges of subordinate ids are more than a map can have", list.len()))
            .hint(format!("at most {MOST_LINES} are possible; join neighbours")));
    }
    Ok(list.into_iter().map(|(extent, _)| extent).collect())
}

/// The first of `count` ids that these texts give to nobody, from 100000 on, where distributions begin.
pub(super) fn next_free(texts: &[&[u8]], count: u32) -> Option<u32> {
    let mut used = Vec::new();
    for line in texts.iter().flat_map(|text| text.split(|byte| *byte == b'\n')) {
        let numbers: Option<Vec<u64>> =
            line.split(|byte| *byte == b':').skip(1).map(|word| std::str::from_utf8(word).ok()?.trim().parse().ok()).collect();
        if let Some([first, count]) = numbers.as_deref() {
            used.push((*first, first.saturating_add(*count)));
        }
    }
    used.sort_unstable();
    let mut next = 100_000_u64;
    for (first, end) in used {
        if first >= next.saturating_add(u64::from(count)) {
            break;
        }
        next = next.max(end);
    }
    (next.saturating_add(u64::from(count)) <= u64::from(u32::MAX)).then(|| u32::try_from(next).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALICE: Owner<'_> = Owner { name: b"alice", uid: 1000, own: 1000 };

    fn read(text: &str) -> std::result::Result<Vec<(u32, u32)>, String> {
        let list = parse_file(text.as_bytes(), "/etc/subuid", ALICE).map_err(|error| error.to_string())?;
        Ok(list.into_iter().map(|extent| (extent.first, extent.count)).collect())
    }

    #[test]
    fn lines_by_name_and_by_number_count_in_their_order() {
        for (text, wanted) in [
            ("", vec![]),
            ("alice:100000:65536\n", vec![(100_000, 65_536)]),
            ("alice:100000:65536", vec![(100_000, 65_536)]),
            ("bob:1:1\n1000:200000:10\nalice:100000:5\n", vec![(200_000, 10), (100_000, 5)]),
            ("alice:100000:65536\n1000:100000:65536\n", vec![(100_000, 65_536)]),
            ("alice:100000:0\n", vec![]),
            ("alice: 100000 :65536\r\n", vec![(100_000, 65_536)]),
            ("alice2:1:1\n:1:1\nal:1:1\n#alice:1:1\n\n", vec![]),
            // Broken lines of others are theirs.
            ("bob:x\nbob\n\u{7f}\nalice:100000:1\n", vec![(100_000, 1)]),
            // Neighbours do not overlap.
            ("alice:100000:10\nalice:100010:10\n", vec![(100_000, 10), (100_010, 10)]),
            ("alice:4294967290:5\n", vec![(4_294_967_290, 5)]),
        ] {
            assert_eq!(read(text), Ok(wanted), "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, part) in [
            ("alice\n", "line 1 of /etc/subuid cannot be read: `alice`"),
            ("\nalice:x:1\n", "line 2"),
            ("alice:1\n", "line 1"),
            ("alice:100000:1:1\n", "line 1"),
            ("alice:-1:1\n", "line 1"),
            ("alice:100000:99999999999\n", "line 1"),
            ("alice:4294967290:6\n", "largest id"),
            ("alice:0:10\n", "root"),
            ("alice:900:200\n", "own id, 1000"),
            ("alice:100000:10\nalice:100009:10\n", "line 2 of /etc/subuid overlaps with line 1 of /etc/subuid"),
            ("1000:100000:10\nbob:1:1\nalice:99999:2\n", "line 3 of /etc/subuid overlaps with line 1"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        let many: String = (0..400).map(|at| format!("alice:{}:1\n", 100_000 + 2 * at)).collect();
        assert!(read(&many).unwrap_err().contains("400"));
    }

    #[test]
    fn the_words_of_getsubids_are_understood() {
        let extent = |first, count| Extent { first, count };
        let read = |text| parse_getsubids(text, 1000).ok();
        assert_eq!(read("0: alice 100000 65536\n"), Some(vec![extent(100_000, 65_536)]));
        assert_eq!(read("0: a b 100000 5\n1: a b 200000 6\n"), Some(vec![extent(100_000, 5), extent(200_000, 6)]));
        assert_eq!(read(""), Some(vec![]));
        assert_eq!(read("Error fetching ranges\n"), None);
        assert_eq!(read("0: alice 100000 10\n1: alice 100005 10\n"), None);
    }

    #[test]
    fn a_free_range_lies_between_or_above_those_of_others() {
        assert_eq!(next_free(&[b"", b""], 65_536), Some(100_000));
        assert_eq!(next_free(&[b"a:100000:65536\nb:x:y\n", b"c:165536:65536"], 65_536), Some(231_072));
        assert_eq!(next_free(&[b"a:231072:65536\nb:100000:65536\nc:4294900000:60000"], 65_536), Some(165_536));
        assert_eq!(next_free(&[b"a:231071:65536\nb:100000:65536\n"], 65_536), Some(296_607));
        assert_eq!(next_free(&[b"a:100000:4294850000\n"], 65_536), None);
        assert_eq!(next_free(&[b"a:18446744073709551615:18446744073709551615\n"], 1), Some(100_000));
    }

    proptest! {
        #[test]
        fn any_bytes_give_sound_ranges_or_an_error(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            check(&text)?;
        }

        #[test]
        fn any_fields_give_sound_ranges_or_an_error(lines in proptest::collection::vec("(alice|1000|bob)(:(0|1|999|1000|100000|4294967295|[0-9]{1,11})){0,4}", 0..8)) {
            check(lines.join("\n").as_bytes())?;
        }
    }

    /// Ranges of a text are apart, end below the last number, and have neither root nor the user.
    fn check(text: &[u8]) -> std::result::Result<(), TestCaseError> {
        let Ok(list) = parse_file(text, "/etc/subuid", ALICE) else { return Ok(()) };
        for (at, one) in list.iter().enumerate() {
            prop_assert!(one.count > 0 && one.first > 0 && u64::from(one.first) + u64::from(one.count) <= u64::from(u32::MAX));
            let own = Extent { first: 1000, count: 1 };
            prop_assert!(!one.overlaps(own));
            prop_assert!(list.iter().skip(at + 1).all(|other| !other.overlaps(*one)));
        }
        next_free(&[text], 65_536);
        let _ = parse_getsubids(&String::from_utf8_lossy(text), 1000);
        Ok(())
    }
}
