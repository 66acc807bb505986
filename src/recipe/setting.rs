//! Settings: typed options of a recipe, checked when the user gives them.

use super::template::{Template, Unit};
use super::words::{ContainerPath, EnvName, Period, Size};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use std::fmt;
use std::time::Duration;

/// The type of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Any text.
    String,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A number of bytes, e.g. `512M`.
    Size,
    /// A period, e.g. `30s`.
    Duration,
    /// One of `choices`.
    Enum,
    /// An absolute path in the container.
    Path,
}

/// An option of a recipe.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Setting {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What it is when nobody sets it. Without one the setting is then not passed on at all.
    #[serde(default, deserialize_with = "scalar")]
    pub default: Option<String>,
    /// One line for people.
    pub summary: String,
    /// Environment variable that gets the value.
    pub env: Option<EnvName>,
    /// Arguments that carry the value (`{value}`). Those of a bool without `{value}` are passed when it is true.
    #[serde(default)]
    pub arg: Vec<Template>,
    /// The values of an enum.
    #[serde(default)]
    pub choices: Vec<String>,
    /// Least int.
    pub min: Option<i64>,
    /// Greatest int.
    pub max: Option<i64>,
}

/// A checked value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a string, enum or path.
    Text(String),
    /// Of a bool.
    Bool(bool),
    /// Of an int.
    Int(i64),
    /// Of a size, with the text as given.
    Size(Size, String),
    /// Of a duration, with the text as given.
    Period(Period, String),
}

impl Setting {
    /// Checks a text against the type.
    ///
    /// # Errors
    /// Says what it should be; names the choices of an enum.
    pub fn check(&self, text: &str) -> Result<Value> {
        let wrong = |what: &str| Error::usage(format!("`{}` is not {what}", text.escape_debug()));
        match self.kind {
            Kind::String if text.contains('\0') => Err(wrong("a text that can be passed on: it has a NUL byte")),
            Kind::String => Ok(Value::Text(text.to_owned())),
            Kind::Bool => match text {
                "true" | "yes" | "on" | "1" => Ok(Value::Bool(true)),
                "false" | "no" | "off" | "0" => Ok(Value::Bool(false)),
                _ => Err(wrong("true or false")),
            },
            Kind::Int => {
                let number: i64 = text.parse().map_err(|_| wrong("a whole number"))?;
                match (self.min, self.max) {
                    (Some(min), _) if number < min => Err(Error::usage(format!("{number} is too small: the least is {min}"))),
                    (_, Some(max)) if number > max => Err(Error::usage(format!("{number} is too great: the most is {max}"))),
                    _ => Ok(Value::Int(number)),
                }
            }
            Kind::Size => Ok(Value::Size(text.parse()?, text.to_owned())),
            Kind::Duration => Ok(Value::Period(text.parse()?, text.to_owned())),
            Kind::Enum if self.choices.iter().any(|choice| choice == text) => Ok(Value::Text(text.to_owned())),
            Kind::Enum => Err(wrong("a choice").hint(format!("choose one of: {}", self.choices.join(", ")))),
            Kind::Path => text.parse::<ContainerPath>().map(|path| Value::Text(path.as_str().to_owned())),
        }
    }
}

impl Value {
    /// The text that gives this value again: what the plan keeps.
    #[must_use]
    pub fn as_given(&self) -> String {
        match self {
            Value::Text(text) | Value::Size(_, text) | Value::Period(_, text) => text.clone(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
        }
    }

    /// The value as programs read it: sizes in bytes, durations in seconds, or in the unit asked for.
    #[must_use]
    pub fn render(&self, unit: Unit) -> String {
        match (self, unit) {
            (Value::Size(size, _), Unit::Kib) => size.0.div_ceil(1 << 10).to_string(),
            (Value::Size(size, _), Unit::Mib) => size.0.div_ceil(1 << 20).to_string(),
            (Value::Size(size, _), _) => size.0.to_string(),
            (Value::Period(period, _), Unit::Ms) => period.milliseconds().to_string(),
            (Value::Period(period, _), _) => seconds(period.0),
            (value, _) => value.as_given(),
        }
    }
}

/// `1.5` for 1500 ms.
fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => duration.as_secs().to_string(),
        rest => format!("{}.{rest:03}", duration.as_secs()).trim_end_matches('0').to_owned(),
    }
}

/// A default may be written as TOML's own text, whole number or bool.
fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<String>, D::Error> {
    struct Scalar;
    impl Visitor<'_> for Scalar {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text, a whole number or a bool")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<String, E> {
            Ok(text.to_owned())
        }
        fn visit_bool<E: de::Error>(self, value: bool) -> std::result::Result<String, E> {
            Ok(value.to_string())
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> std::result::Result<String, E> {
            Ok(value.to_string())
        }
    }
    deserializer.deserialize_any(Scalar).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(text: &str) -> Setting {
        toml::from_str(&format!("summary = \"x\"\n{text}")).unwrap()
    }

    #[test]
    fn values_are_checked_by_type() {
        let int = setting("type = \"int\"\nmin = 1\nmax = 9\ndefault = 5");
        assert_eq!(int.default.as_deref(), Some("5"));
        assert_eq!(int.check("9").unwrap(), Value::Int(9));
        for bad in ["0", "10", "x", "", "1.0", "99999999999999999999"] {
            assert!(int.check(bad).is_err(), "{bad}");
        }
        let bool = setting("type = \"bool\"\ndefault = true");
        assert_eq!(bool.check("off").unwrap().as_given(), "false");
        assert!(bool.check("maybe").is_err());
        assert!(setting("type = \"path\"").check("../x").is_err());
        assert!(setting("type = \"string\"").check("a\0").is_err());
    }

    #[test]
    fn a_wrong_choice_is_answered_with_the_choices() {
        let error = setting("type = \"enum\"\nchoices = [\"off\", \"replica\"]").check("of").unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.find_hint()),
            ("`of` is not a choice", Some("choose one of: off, replica"))
        );
    }

    #[test]
    fn sizes_and_durations_are_written_in_the_unit_asked_for_and_kept_as_given() {
        let size = setting("type = \"size\"").check("1.5K").unwrap();
        let units = [Unit::Plain, Unit::Kib, Unit::Mib].map(|unit| size.render(unit));
        assert_eq!((units, size.as_given()), (["1536".to_owned(), "2".into(), "1".into()], "1.5K".to_owned()));
        let period = setting("type = \"duration\"").check("1500ms").unwrap();
        assert_eq!([Unit::Plain, Unit::Ms].map(|unit| period.render(unit)), ["1.5", "1500"]);
        assert_eq!(seconds(Duration::from_millis(60_000)), "60");
    }
}
