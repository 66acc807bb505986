//! References: what people call an image, to its digest.

use super::root::Store;
use crate::error::{Context, Result};
use crate::image::Digest;
use crate::sys::file;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Longest escaped name; temporary names add to it and 255 is the end.
const NAME_MAX: usize = 180;

fn escape(reference: &str) -> String {
    let mut name = String::with_capacity(reference.len() * 2);
    for byte in reference.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            name.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    if name.len() > NAME_MAX { format!("sha256-{}", Digest::of(reference.as_bytes()).hex()) } else { name }
}

impl Store {
    fn ref_path(&self, reference: &str) -> PathBuf {
        self.root.join("refs").join(escape(reference))
    }

    /// Makes `reference` mean the image `digest`, whatever it meant before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_reference(&self, reference: &str, digest: &Digest) -> Result<()> {
        self.must_write()?;
        let text = format!("{digest}\n{reference}\n");
        if fs::read(self.ref_path(reference)).is_ok_and(|old| old == text.as_bytes()) {
            return Ok(());
        }
        file::write_atomic(&self.ref_path(reference), text.as_bytes(), 0o600).map_err(super::root::with_space_hint)
    }

    /// What `reference` means, if that image is here.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn reference(&self, reference: &str) -> Result<Option<Digest>> {
        let path = self.ref_path(reference);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(|| format!("cannot read `{}`", path.display())),
        };
        Ok(parse(&text)
            .filter(|(_, named)| *named == reference)
            .map(|(digest, _)| digest)
            .filter(|digest| self.has_image(digest)))
    }

    /// All references by image, sorted. Files that are no references are left out.
    pub(super) fn references(&self) -> Result<BTreeMap<Digest, Vec<String>>> {
        let mut all: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        let dir = self.root.join("refs");
        for name in self.list(&dir)? {
            if let Ok(text) = fs::read_to_string(dir.join(name))
                && let Some((digest, reference)) = parse(&text)
            {
                all.entry(digest).or_default().push(reference.to_owned());
            }
        }
        for list in all.values_mut() {
            list.sort_unstable();
        }
        Ok(all)
    }

    /// Forgets all references to an image.
    pub(super) fn drop_references(&self, digest: &Digest) -> Result<()> {
        for reference in self.references()?.remove(digest).unwrap_or_default() {
            super::recover::remove(&self.ref_path(&reference))?;
        }
        file::sync_dir(&self.root.join("refs"))
    }
}

fn parse(text: &str) -> Option<(Digest, &str)> {
    let (digest, reference) = text.strip_suffix('\n')?.split_once('\n')?;
    Some((digest.parse().ok()?, reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_and_differ() {
        assert_eq!(escape("registry.example/library/postgres:14"), "registry%2Eexample%2Flibrary%2Fpostgres%3A14");
        assert_eq!(escape("."), "%2E");
        assert_ne!(escape("a%2Fb"), escape("a/b"));
        let long = "x/".repeat(300);
        assert_eq!(escape(&long).len(), 71);
        // Nothing short can take the name of something long: it would have to be that digest's text itself.
        assert_eq!(parse(&format!("{}\nsha256-x\n", Digest::of(b""))).unwrap().1, "sha256-x");
    }
}
