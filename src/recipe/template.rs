//! Texts with holes: `{setting.user}`, `{port.db}`, `{secret.password}`, `{name}`; `{{` and `}}` are braces.
//!
//! Holes are filled in two steps: the plan fills all but the secrets, and what remains is again the text of a template; a
//! secret is filled in only where it is shown ([`fill_secrets`]), so that no plan holds its value.

use super::words::Name;
use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// A text with holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Hole(Hole),
}

/// What a hole asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hole {
    /// `{name}`: the service's name.
    Name,
    /// `{setting.X}`: the value of a setting.
    Setting(Name),
    /// `{port.X}`, `{port.X.host}`, `{port.X.port}`: where a port is published.
    Port(Name, PortPart),
    /// `{secret.X}`: the value of a secret.
    Secret(Name),
    /// `{value}`, `{value.mib}`, ...: the value of the setting that the text belongs to.
    Value(Unit),
}

/// Which part of a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortPart {
    /// `ADDRESS:PORT`.
    Both,
    /// The address.
    Host,
    /// The number.
    Port,
}

/// In which unit a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Sizes in bytes, durations in seconds.
    Plain,
    /// Sizes in KiB, rounded up.
    Kib,
    /// Sizes in MiB, rounded up.
    Mib,
    /// Durations in milliseconds.
    Ms,
}

/// How values are written into the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Plain,
    /// Percent-encoded (RFC 3986), but for ports, which are `host:port` already.
    Url,
}

impl Template {
    /// Reads the text of a template.
    ///
    /// # Errors
    /// When a brace is not closed, stands alone, or has something unknown in it.
    pub fn parse(text: &str) -> Result<Template> {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = brace.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else if let Some(after) = brace.strip_prefix('{') {
                let (inside, after) = after.split_once('}').ok_or_else(|| Error::usage("a `{` is not closed").hint(BRACES))?;
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Hole(hole(inside)?));
                rest = after;
            } else {
                return Err(Error::usage("a `}` stands alone").hint(BRACES));
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Template(pieces))
    }

    /// The holes, in order.
    pub fn holes(&self) -> impl Iterator<Item = &Hole> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Hole(hole) => Some(hole),
            Piece::Text(_) => None,
        })
    }

    /// Fills the holes for which `value` has one; the others stay.
    #[must_use]
    pub fn fill(&self, form: Form, value: &dyn Fn(&Hole) -> Option<String>) -> Template {
        let mut pieces = Vec::with_capacity(self.0.len());
        for piece in &self.0 {
            let filled = match piece {
                Piece::Hole(hole) => match (value(hole), form, hole) {
                    (None, ..) => Piece::Hole(hole.clone()),
                    (Some(text), Form::Plain, _) | (Some(text), Form::Url, Hole::Port(..)) => Piece::Text(text),
                    (Some(text), Form::Url, _) => Piece::Text(percent_encode(&text)),
                },
                Piece::Text(text) => Piece::Text(text.clone()),
            };
            // Neighbouring texts become one, so that equal templates compare equal.
            match (pieces.last_mut(), filled) {
                (Some(Piece::Text(last)), Piece::Text(text)) => last.push_str(&text),
                (_, filled) => pieces.push(filled),
            }
        }
        Template(pieces)
    }

    /// The plain text, if no hole is left.
    ///
    /// # Errors
    /// Names the first hole that is left.
    pub fn finish(&self) -> Result<String> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Hole(hole) => return Err(Error::failed(format!("nothing is known for `{{{hole}}}`"))),
            }
        }
        Ok(out)
    }
}

const BRACES: &str = "a brace itself is written `{{` or `}}`";

fn hole(inside: &str) -> Result<Hole> {
    let unknown = || {
        let shown: String = inside.chars().take(60).flat_map(char::escape_debug).collect();
        Error::usage(format!("`{{{shown}}}` is not known")).hint(
            "known are {name} {setting.X} {port.X} {port.X.host} {port.X.port} {secret.X}, and in `arg` {value}; a brace is `{{`",
        )
    };
    let name = |text: &str| text.parse::<Name>().map_err(|_| unknown());
    match *inside.split('.').collect::<Vec<_>>() {
        ["name"] => Ok(Hole::Name),
        ["setting", x] => Ok(Hole::Setting(name(x)?)),
        ["secret", x] => Ok(Hole::Secret(name(x)?)),
        ["port", x] => Ok(Hole::Port(name(x)?, PortPart::Both)),
        ["port", x, "host"] => Ok(Hole::Port(name(x)?, PortPart::Host)),
        ["port", x, "port"] => Ok(Hole::Port(name(x)?, PortPart::Port)),
        ["value"] => Ok(Hole::Value(Unit::Plain)),
        ["value", "kib"] => Ok(Hole::Value(Unit::Kib)),
        ["value", "mib"] => Ok(Hole::Value(Unit::Mib)),
        ["value", "ms"] => Ok(Hole::Value(Unit::Ms)),
        _ => Err(unknown()),
    }
}

/// Fills the secrets of a text of the plan's `connect`; with [`Form::Url`] their values are percent-encoded.
///
/// # Errors
/// When the text is no template or asks for something that `secret` does not know.
pub fn fill_secrets(text: &str, form: Form, secret: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let value = |hole: &Hole| match hole {
        Hole::Secret(name) => secret(name.as_str()),
        _ => None,
    };
    Template::parse(text)?.fill(form, &value).finish()
}

/// All but the unreserved characters of RFC 3986 as `%XX`.
fn percent_encode(text: &str) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hole::Name => f.write_str("name"),
            Hole::Setting(name) => write!(f, "setting.{name}"),
            Hole::Secret(name) => write!(f, "secret.{name}"),
            Hole::Port(name, PortPart::Both) => write!(f, "port.{name}"),
            Hole::Port(name, PortPart::Host) => write!(f, "port.{name}.host"),
            Hole::Port(name, PortPart::Port) => write!(f, "port.{name}.port"),
            Hole::Value(Unit::Plain) => f.write_str("value"),
            Hole::Value(Unit::Kib) => f.write_str("value.kib"),
            Hole::Value(Unit::Mib) => f.write_str("value.mib"),
            Hole::Value(Unit::Ms) => f.write_str("value.ms"),
        }
    }
}

/// The text that [`Template::parse`] reads.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}"))?,
                Piece::Hole(hole) => write!(f, "{{{hole}}}")?,
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains('\0') {
            return Err(serde::de::Error::custom("a text cannot have a NUL byte"));
        }
        Template::parse(&text).map_err(|error| serde::de::Error::custom(super::words::flat(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(hole: &Hole) -> Option<String> {
        match hole {
            Hole::Name => Some("a@1".into()),
            Hole::Setting(name) if name.as_str() == "user" => Some("o'b {x}/@".into()),
            Hole::Port(_, PortPart::Both) => Some("[::1]:5432".into()),
            _ => None,
        }
    }

    #[test]
    fn a_url_keeps_its_secret_until_it_is_shown() {
        let url = Template::parse("pg://{setting.user}:{secret.password}@{port.db}/{{{name}}}").unwrap();
        let kept = url.fill(Form::Url, &value).to_string();
        assert_eq!(kept, "pg://o%27b%20%7Bx%7D%2F%40:{secret.password}@[::1]:5432/{{a%401}}");
        let shown = fill_secrets(&kept, Form::Url, &|name| (name == "password").then(|| "p/w {1}%".into())).unwrap();
        assert_eq!(shown, "pg://o%27b%20%7Bx%7D%2F%40:p%2Fw%20%7B1%7D%25@[::1]:5432/{a%401}");
    }

    #[test]
    fn values_with_braces_survive_both_steps_unchanged() {
        let text = Template::parse("{setting.user} {secret.password}").unwrap().fill(Form::Plain, &value).to_string();
        assert_eq!(text, "o'b {{x}}/@ {secret.password}");
        assert_eq!(fill_secrets(&text, Form::Plain, &|_| Some("{a}".into())).unwrap(), "o'b {x}/@ {a}");
    }

    #[test]
    fn an_unknown_secret_is_an_error_not_an_empty_text() {
        let error = fill_secrets("x{secret.other}", Form::Plain, &|_| None).unwrap_err();
        assert_eq!(error.to_string(), "nothing is known for `{secret.other}`");
    }

    #[test]
    fn wrong_braces_and_holes_are_refused() {
        for bad in
            ["{", "}", "a}b", "{name", "{}", "{nam}", "{secret}", "{secret.A}", "{port.db.x}", "{port.db.host.x}", "{ name }"]
        {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn display_and_parse_are_inverse(text in "([a-z{}]|\\{name\\}|\\{secret\\.x\\}|\\{\\{|\\}\\}|ü){0,12}") {
            if let Ok(template) = Template::parse(&text) {
                prop_assert_eq!(template.to_string(), text);
            }
        }

        #[test]
        fn any_value_comes_through_two_steps(value in ".{0,20}", secret in ".{0,20}") {
            let template = Template::parse("<{setting.a}|{secret.b}>").unwrap();
            let kept = template.fill(Form::Plain, &|hole| matches!(hole, Hole::Setting(_)).then(|| value.clone())).to_string();
            let shown = fill_secrets(&kept, Form::Plain, &|_| Some(secret.clone())).unwrap();
            prop_assert_eq!(shown, format!("<{value}|{secret}>"));
        }
    }
}
