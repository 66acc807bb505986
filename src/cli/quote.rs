//! Values as words of shells and of `.env` files. In bytes: a secret need not be UTF-8.

use clap::ValueEnum;

/// How `steading env` writes variables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// `export KEY='value'` for POSIX shells.
    #[default]
    Sh,
    /// `set -gx KEY 'value'` for fish.
    Fish,
    /// `KEY="value"` for .env files and systemd's EnvironmentFile=.
    Dotenv,
    /// A JSON object.
    Json,
}

/// A line that sets `key`; empty for [`Format::Json`], which is not made of lines.
pub(crate) fn assignment(format: Format, key: &str, value: &[u8]) -> Vec<u8> {
    let (before, between, value) = match format {
        Format::Sh => ("export ", "=", sh(value)),
        Format::Fish => ("set -gx ", " ", fish(value)),
        Format::Dotenv => ("", "=", dotenv(value)),
        Format::Json => return Vec::new(),
    };
    [before.as_bytes(), key.as_bytes(), between.as_bytes(), &value, b"\n"].concat()
}

fn is_plain(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|c| c.is_ascii_alphanumeric() || b"_-./:@%+,".contains(c))
}

/// Quoted for POSIX shells.
pub(crate) fn sh(value: &[u8]) -> Vec<u8> {
    if is_plain(value) { value.to_vec() } else { quoted(value, b'\'', |c| if c == b'\'' { b"'\\''" } else { b"" }) }
}

fn fish(value: &[u8]) -> Vec<u8> {
    let escape = |c| match c {
        b'\'' => &b"\\'"[..],
        b'\\' => b"\\\\",
        _ => b"",
    };
    if is_plain(value) { value.to_vec() } else { quoted(value, b'\'', escape) }
}

fn dotenv(value: &[u8]) -> Vec<u8> {
    let escape = |c| match c {
        b'"' => &b"\\\""[..],
        b'\\' => b"\\\\",
        b'$' => b"\\$",
        b'`' => b"\\`",
        b'\n' => b"\\n",
        _ => b"",
    };
    if is_plain(value) { value.to_vec() } else { quoted(value, b'"', escape) }
}

/// `value` between two `quote`s, each byte replaced by what `escape` gives unless that is empty.
fn quoted(value: &[u8], quote: u8, escape: impl Fn(u8) -> &'static [u8]) -> Vec<u8> {
    let mut text = vec![quote];
    for c in value {
        match escape(*c) {
            b"" => text.push(*c),
            instead => text.extend_from_slice(instead),
        }
    }
    text.push(quote);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_shell_reads_back_every_byte() {
        let all: Vec<u8> = (1..=255).collect();
        for value in [&all[..], b"", b"plain", b"it's", b"$HOME `id` \"x\" \\", b"-n", b"a\nb"] {
            let script = [&assignment(Format::Sh, "X", value)[..], b"printf %s \"$X\""].concat();
            let script = std::os::unix::ffi::OsStringExt::from_vec(script);
            let script: std::ffi::OsString = script;
            let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
            assert_eq!(output.stdout, value);
        }
    }

    #[test]
    fn other_formats_escape_what_is_special_there() {
        assert_eq!(assignment(Format::Fish, "A", b"it's \\ $x"), b"set -gx A 'it\\'s \\\\ $x'\n");
        assert_eq!(assignment(Format::Dotenv, "A", b"a \"$b\"\n"), b"A=\"a \\\"\\$b\\\"\\n\"\n");
        assert_eq!(assignment(Format::Dotenv, "A", b"5432"), b"A=5432\n");
    }
}
