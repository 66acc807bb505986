//! Which kernel runs.

/// Major and minor of a release such as `6.12.43+deb13-amd64` (uname(2)); `None` when it does not begin so.
#[must_use]
pub fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
