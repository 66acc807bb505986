//! Paths of entries.
//!
//! As docker and podman do, a leading `/` or `./` is dropped, and so are empty and `.` components. Unlike them, `..`
//! is refused everywhere: no tool that makes layers writes it.

use super::Limits;
use crate::store::format::NAME_MAX;

/// The components of `path`; none for the root.
///
/// # Errors
/// Why the path is refused.
pub(super) fn components<'a>(path: &'a [u8], limits: &Limits) -> Result<Vec<&'a [u8]>, &'static str> {
    if path.len() > limits.max_path {
        return Err("its path is too long");
    }
    if path.contains(&0) {
        return Err("its path has a NUL byte");
    }
    let mut list = Vec::with_capacity(8);
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err("its path has a `..`"),
            _ if name.len() > NAME_MAX => return Err("a name in its path is longer than 255 bytes"),
            _ => list.push(name),
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_or_refused() {
        let limits = Limits::default();
        for (path, expected) in [
            (&b"./usr//bin/."[..], Some(vec![&b"usr"[..], b"bin"])),
            (b"/etc/passwd", Some(vec![b"etc", b"passwd"])),
            (b"./", Some(vec![])),
            (b"", Some(vec![])),
            (b"a/...", Some(vec![b"a", b"..."])),
            (b"\xff/\n", Some(vec![b"\xff", b"\n"])),
            (b"../x", None),
            (b"a/../b", None),
            (b"a/..", None),
            (b"a\0b", None),
        ] {
            assert_eq!(components(path, &limits).ok(), expected, "{}", path.escape_ascii());
        }
        assert!(components(&[b'x'; 256], &limits).is_err());
        assert!(components(&[b'x'; 255], &limits).is_ok());
        assert!(components(&b"x/".repeat(2049), &limits).is_err());
    }
}
