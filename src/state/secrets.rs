//! Secrets of services: generated, kept in 0600 files of a 0700 directory, never in a unit, an argument list or a log.

use crate::error::{Context, Error, Result};
use crate::sys::file;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The characters of generated secrets: no shell, URL or configuration file needs to quote them.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The value of a secret. `Debug` does not show it, so that no log can.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// `length` random letters and digits (5.95 bits each).
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate(length: u16) -> Result<Secret> {
        let random = SystemRandom::new();
        let mut text = Vec::with_capacity(usize::from(length));
        let mut bytes = [0u8; 64];
        while text.len() < usize::from(length) {
            random.fill(&mut bytes).map_err(|_| Error::failed("the system gives no random numbers"))?;
            // 248 is the greatest multiple of 62 in a byte: to take the rest too would favour some characters.
            let fair = bytes.iter().filter(|byte| **byte < 248).map(|byte| ALPHABET[usize::from(byte % 62)]);
            text.extend(fair.take(usize::from(length) - text.len()));
        }
        Ok(Secret(text))
    }

    /// Reads `secrets/NAME`.
    ///
    /// # Errors
    /// Those of reading, with the path.
    pub fn read(directory: &Path, name: &str) -> Result<Secret> {
        let path = directory.join(name);
        fs::read(&path).map(Secret).context(|| format!("cannot read the secret `{}`", path.display()))
    }

    /// The secret `name` of `directory`, generated and written if there is none yet. Tells whether it was made now.
    ///
    /// # Errors
    /// Those of reading, generating and writing.
    pub fn read_or_generate(directory: &Path, name: &str, length: u16) -> Result<(Secret, bool)> {
        match fs::read(directory.join(name)) {
            Ok(bytes) => Ok((Secret(bytes), false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret = Secret::generate(length)?;
                secret.write(directory, name)?;
                Ok((secret, true))
            }
            Err(error) => Err(error).context(|| format!("cannot read the secret `{}`", directory.join(name).display())),
        }
    }

    fn write(&self, directory: &Path, name: &str) -> Result<()> {
        file::create_dir_all(directory, 0o700)?;
        // The directory may be older, with other permissions.
        fs::set_permissions(directory, Permissions::from_mode(0o700))
            .context(|| format!("cannot restrict `{}`", directory.display()))?;
        file::write_atomic(&directory.join(name), &self.0, 0o600)
    }

    /// The value.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_secrets_have_their_length_their_alphabet_and_differ() {
        let one = Secret::generate(200).unwrap();
        let two = Secret::generate(200).unwrap();
        assert_eq!(one.expose().len(), 200);
        assert!(one.expose().iter().all(u8::is_ascii_alphanumeric));
        assert_ne!(one, two);
        assert!(Secret::generate(0).unwrap().expose().is_empty());
        assert!(!format!("{one:?}").contains(&String::from_utf8_lossy(&one.expose()[..4]).into_owned()));
    }

    #[test]
    fn every_character_is_about_equally_frequent() {
        let mut counts = [0u32; 256];
        for _ in 0..20 {
            for byte in Secret::generate(u16::MAX).unwrap().expose() {
                counts[usize::from(*byte)] += 1;
            }
        }
        // 1.31 million draws: 21140 each, standard deviation 144; a modulo bias would be 25 %.
        for c in ALPHABET {
            let count = counts[usize::from(*c)];
            assert!((20_000..22_300).contains(&count), "{} {count}", char::from(*c));
        }
    }

    #[test]
    fn a_kept_secret_is_used_again_and_nobody_else_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = dir.path().join("secrets");
        let (first, made) = Secret::read_or_generate(&secrets, "password", 24).unwrap();
        let (second, again) = Secret::read_or_generate(&secrets, "password", 24).unwrap();
        assert_eq!((&first, made, again), (&second, true, false));
        assert_eq!(Secret::read(&secrets, "password").unwrap(), first);
        assert_eq!(fs::metadata(&secrets).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(secrets.join("password")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
