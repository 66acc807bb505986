//! TOML text -> [`Recipe`]. Versions are laid over the common tables while all values still know their places.

use super::diagnose::diagnose;
use super::lint;
use super::schema::{Head, Lifecycle, Parts, Recipe, SCHEMA, Version};
use super::words::VersionName;
use super::{Date, did_you_mean};
use crate::error::Result;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

/// Most bytes of a recipe.
pub const LONGEST: usize = 1 << 20;

/// The tables of [`Parts`].
const PARTS: [&str; 11] =
    ["image", "run", "settings", "secrets", "ports", "data", "isolation", "ready", "stop", "connect", "limits"];

/// Reads a recipe; `file` is how it is called in errors.
///
/// # Errors
/// Usage, with file, line, column and the line itself, when the text is not TOML, not of the schema, or breaks a rule of the lint.
pub fn parse(text: &str, file: &str) -> Result<Recipe> {
    if text.len() > LONGEST {
        return Err(diagnose(file, "", None, "a recipe has at most 1 MiB"));
    }
    read(text).map_err(|fault| diagnose(file, text, fault.span, &fault.message))
}

/// What is wrong, and where in the text.
#[derive(Debug)]
struct Fault {
    span: Option<Range<usize>>,
    message: String,
}

impl From<toml::de::Error> for Fault {
    fn from(error: toml::de::Error) -> Self {
        Fault { span: error.span(), message: error.message().to_owned() }
    }
}

type Outcome<T> = std::result::Result<T, Fault>;

fn fault<T>(span: Range<usize>, message: impl Into<String>) -> Outcome<T> {
    Err(Fault { span: Some(span), message: message.into() })
}

/// `[recipe]` and `[lifecycle]`.
#[derive(Deserialize)]
struct Top {
    recipe: Head,
    #[serde(default)]
    lifecycle: Lifecycle,
}

/// The keys of a version that are its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct VersionHead {
    tag: String,
    eol: Option<Date>,
    #[serde(default)]
    aliases: Vec<VersionName>,
}

fn read(text: &str) -> Outcome<Recipe> {
    let root = DeTable::parse(text)?;
    let span = root.span();
    let mut root = root.into_inner();
    check_schema(&root)?;
    known_keys(&root, &["recipe", "lifecycle", "versions"])?;
    let common = take(&mut root, &PARTS);
    let versions = root.remove("versions");
    let top: Top = deserialize(root.clone(), span.clone())?;

    let Some(versions) = versions else {
        return fault(span, "a recipe needs at least one version, e.g. [versions.\"1\"]");
    };
    let versions_span = versions.span();
    let DeValue::Table(versions) = versions.into_inner() else {
        return fault(versions_span, "`versions` has a table for each version, e.g. [versions.\"1\"]");
    };
    let mut in_order: Vec<_> = versions.into_iter().collect();
    in_order.sort_by_key(|(key, _)| key.span().start);
    let mut all = Vec::with_capacity(in_order.len());
    for (key, value) in in_order {
        all.push(version(&common, &key, value)?);
    }
    let recipe = Recipe { head: top.recipe, lifecycle: top.lifecycle, versions: all };
    lint::recipe(&recipe).or_else(|wrong| fault(find(&root, &wrong.path).unwrap_or(versions_span), wrong.message))?;
    Ok(recipe)
}

fn version(common: &DeTable<'_>, key: &Spanned<toml::de::DeString<'_>>, value: Spanned<DeValue<'_>>) -> Outcome<Version> {
    let span = value.span();
    let DeValue::Table(mut table) = value.into_inner() else {
        return fault(span, "a version is a table with at least `tag`");
    };
    let name: VersionName = match key.get_ref().parse() {
        Ok(name) => name,
        Err(error) => return fault(key.span(), super::words::flat(&error)),
    };
    known_keys(&table, &["tag", "eol", "aliases"])?;
    let own = take(&mut table, &PARTS);
    let mut merged = common.clone();
    lay_over(&mut merged, own);
    let head: VersionHead = deserialize(table.clone(), span.clone())?;
    let parts: Parts = deserialize(merged.clone(), span.clone())?;
    let version = Version { name, tag: head.tag, eol: head.eol, aliases: head.aliases, parts };
    lint::version(&version).or_else(|wrong| {
        let place = find(&merged, &wrong.path).or_else(|| find(&table, &wrong.path));
        fault(place.unwrap_or(span), wrong.message)
    })?;
    Ok(version)
}

fn deserialize<T: DeserializeOwned>(table: DeTable<'_>, span: Range<usize>) -> Outcome<T> {
    Ok(T::deserialize(Deserializer::from(Spanned::new(span, table)))?)
}

/// Before anything else, so that a recipe of a later schema is not called full of errors.
fn check_schema(root: &DeTable<'_>) -> Outcome<()> {
    let head = root.get("recipe").and_then(|head| head.get_ref().as_table());
    let Some(schema) = head.and_then(|head| head.get("schema")) else {
        return Ok(());
    };
    let number = schema.get_ref().as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
    match number {
        Some(number) if number > u64::from(SCHEMA) => fault(
            schema.span(),
            format!("schema {number} is newer than this steading knows ({SCHEMA}); a newer steading may read it"),
        ),
        Some(0) => fault(schema.span(), format!("there is no schema 0; the first is {SCHEMA}")),
        _ => Ok(()),
    }
}

fn known_keys(table: &DeTable<'_>, own: &[&str]) -> Outcome<()> {
    for key in table.keys() {
        let name: &str = key.get_ref();
        if !own.contains(&name) && !PARTS.contains(&name) {
            let known = || own.iter().chain(&PARTS).copied();
            let hint =
                did_you_mean(name, known()).unwrap_or_else(|| format!("known are {}", known().collect::<Vec<_>>().join(", ")));
            return fault(key.span(), format!("`{}` is not known here; {hint}", name.escape_debug()));
        }
    }
    Ok(())
}

/// Takes the entries of these names out.
fn take<'i>(table: &mut DeTable<'i>, names: &[&str]) -> DeTable<'i> {
    names.iter().filter_map(|name| table.remove_entry(*name)).collect()
}

/// Tables merge, everything else is replaced.
fn lay_over<'i>(base: &mut DeTable<'i>, own: DeTable<'i>) {
    for (key, value) in own {
        if let Some(below) = base.get_mut(key.get_ref().as_ref())
            && matches!((below.get_ref(), value.get_ref()), (DeValue::Table(_), DeValue::Table(_)))
        {
            if let (DeValue::Table(below), DeValue::Table(own)) = (below.get_mut(), value.into_inner()) {
                lay_over(below, own);
            }
        } else {
            base.insert(key, value);
        }
    }
}

/// Where the value at `path` stands, or the nearest part of the path that exists.
fn find(table: &DeTable<'_>, path: &[String]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let mut value = table.get(first.as_str())?;
    for step in rest {
        let next = match value.get_ref() {
            DeValue::Table(table) => table.get(step.as_str()),
            DeValue::Array(array) => step.parse::<usize>().ok().and_then(|at| array.get(at)),
            _ => None,
        };
        match next {
            Some(next) => value = next,
            None => break,
        }
    }
    Some(value.span())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[recipe]
schema = 1
name = \"small\"
title = \"Small\"
summary = \"a small one\"
default-version = \"1\"
[image]
reference = \"docker.io/library/small\"
[run]
uid = 7
env = { A = \"1\", B = \"{setting.user}\" }
[settings.user]
type = \"string\"
default = \"me\"
summary = \"who\"
[ports.web]
container = 80
[data.data]
path = \"/data\"
[versions.\"2\"]
tag = \"2\"
data.data.path = \"/data2\"
[versions.\"2\".run.env]
A = \"2\"
[versions.\"1\"]
tag = \"1-slim\"
eol = 2026-11-12
aliases = [\"one\"]
";

    fn said(text: &str) -> String {
        parse(text, "small.toml").unwrap_err().to_string()
    }

    #[test]
    fn a_version_is_the_common_tables_with_its_own_laid_over() {
        let recipe = parse(SMALL, "small.toml").unwrap();
        let [two, one] = recipe.versions.as_slice() else { panic!("{recipe:?}") };
        assert_eq!((two.name.as_str(), one.name.as_str()), ("2", "1"));
        assert_eq!(two.parts.run.env["A"].to_string(), "2");
        assert_eq!(two.parts.run.env["B"].to_string(), "{setting.user}");
        assert_eq!(one.parts.run.env["A"].to_string(), "1");
        assert_eq!((two.parts.data["data"].path.as_str(), one.parts.data["data"].path.as_str()), ("/data2", "/data"));
        assert_eq!(one.eol.map(|date| date.to_string()).as_deref(), Some("2026-11-12"));
        assert_eq!(recipe.version(None).unwrap().name.as_str(), "1");
        assert_eq!(recipe.version(Some("one")).unwrap().tag, "1-slim");
    }

    #[test]
    fn a_missing_version_is_answered_with_those_there_are() {
        let recipe = parse(SMALL, "small.toml").unwrap();
        let error = recipe.version(Some("2.4")).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::NotFound);
        assert_eq!(error.to_string(), "small has no version `2.4`");
        assert_eq!(error.find_hint(), Some("did you mean `2`? versions of small: 2, 1"));
    }

    #[test]
    fn an_error_in_a_versions_table_points_into_that_table() {
        let text = SMALL.replace("data.data.path = \"/data2\"", "data.data.path = \"data2\"");
        let said = said(&text);
        assert!(said.starts_with("small.toml:22:18: `data2` is not a path in the container; "), "{said}");
        assert!(said.ends_with("\n22 | data.data.path = \"data2\"\n   |                  ^^^^^^^"), "{said}");
    }

    /// Each: what is replaced, by what, the line it must point at, a part of what it says.
    #[test]
    fn faults_are_named_and_placed() {
        for (from, to, line, part) in [
            ("schema = 1", "schema = 2", 2, "newer than this steading knows"),
            ("schema = 1", "", 1, "missing field `schema`"),
            ("title =", "titel =", 4, "unknown field `titel`"),
            ("[ports.web]", "[port.web]", 16, "did you mean `ports`"),
            ("uid = 7", "uid = -1", 10, "invalid value"),
            ("uid = 7", "uid = 4294967295", 10, "no user id"),
            ("container = 80", "container = 0", 17, "nonzero"),
            ("container = 80", "container = 65536", 17, "65536"),
            ("\"{setting.user}\"", "\"{setting.usr}\"", 11, "there is no setting `usr`; did you mean `user`?"),
            ("\"{setting.user}\"", "\"{secret.user}\"", 11, "secret"),
            ("\"{setting.user}\"", "\"{value}\"", 11, "only in the `arg` of a setting"),
            ("\"{setting.user}\"", "\"{setting.user\"", 11, "is not closed"),
            ("default = \"me\"\n", "", 11, "has no default"),
            ("default = \"me\"", "default = 1.5", 14, "expected a text"),
            ("type = \"string\"", "type = \"int\"", 14, "`me` is not a whole number"),
            ("type = \"string\"", "type = \"text\"", 13, "unknown variant `text`"),
            ("path = \"/data\"\n", "path = \"/proc/x\"\n", 19, "cannot be a volume"),
            ("default-version = \"1\"", "default-version = \"3\"", 6, "no version `3`"),
            ("aliases = [\"one\"]", "aliases = [\"2\"]", 20, "twice"),
            ("name = \"small\"", "name = \"Small\"", 3, "is not a name"),
            ("library/small", "library/small:1", 8, "without tag"),
            ("tag = \"1-slim\"", "tag = \"a b\"", 26, "tag"),
            ("eol = 2026-11-12", "eol = 2026-11-12T00:00:00Z", 27, "without a time"),
            ("[versions.\"1\"]", "[versions.\"1/2\"]", 25, "is not a version"),
            ("[data.data]", "[ready]\nprobe = \"exec\"\n[data.data]", 18, "needs a `command`"),
            ("[data.data]", "[stop]\nsignal = \"SIGFOO\"\n[data.data]", 19, "is not a signal"),
            ("[data.data]", "[isolation]\ncapabilities = [\"ALL\"]\n[data.data]", 19, "is not a capability"),
            ("[data.data]", "[isolation]\nextra-ids = [1]\n[data.data]", 19, "belong to ids `private`"),
            ("[data.data]", "[isolation]\nids = \"all\"\n[data.data]", 19, "unknown variant"),
            ("[data.data]", "[isolation]\ntmpfs = { \"/data\" = \"1M\" }\n[data.data]", 19, "is persistent data"),
            ("[data.data]", "[isolation]\ntmpfs = { \"/proc\" = \"1M\" }\n[data.data]", 19, "nothing can be mounted"),
            ("[data.data]", "[isolation]\nshm = \"1K\"\n[data.data]", 19, "at least 4 KiB"),
            (
                "[data.data]",
                "[isolation]\nsysctls = { \"vm.swappiness\" = \"1\" }\n[data.data]",
                19,
                "is not a kernel setting of a container",
            ),
            ("[data.data]", "[isolation]\nrlimits = { nofile = [2, 1] }\n[data.data]", 19, "not above the hard one"),
            ("[data.data]", "[ready]\nprobe = \"http\"\n[data.data]", 18, "needs a `port`"),
            ("[data.data]", "[ready]\nprobe = \"tcp\"\nport = \"db\"\n[data.data]", 20, "there is no port `db`"),
            ("[data.data]", "[ready]\nprobe = \"log\"\n[data.data]", 18, "needs a `text`"),
            ("[data.data]", "[ready]\npath = \"/\"\n[data.data]", 19, "`path` belongs to probe `http`"),
            ("[data.data]", "[ready]\nwatchdog = \"2s\"\n[data.data]", 19, "at least 3 s"),
            (
                "[data.data]",
                "[ready]\nprobe = \"exec\"\ncommand = [\"x\"]\nphases = { \"0\" = \"x\" }\n[data.data]",
                21,
                "from 1 to 125",
            ),
            ("[data.data]", "[limits]\nio-weight = 0\n[data.data]", 19, "from 1 to 10000"),
            ("[data.data]", "[limits]\noom-score-adjust = -1\n[data.data]", 19, "only root"),
            ("[data.data]", "[ports.xtra]\ncontainer = 80\n[data.data]", 18, "twice"),
        ] {
            assert!(SMALL.contains(from), "{from}");
            let said = said(&SMALL.replacen(from, to, 1));
            let place: Vec<&str> = said.split(':').collect();
            assert_eq!(place[0], "small.toml", "{said}");
            assert_eq!(place[1], line.to_string(), "{from} -> {to}\n{said}");
            assert!(said.contains(part), "{from} -> {to}\n{said}");
        }
    }

    #[test]
    fn no_versions_and_too_long_texts_are_refused() {
        let (without, _) = SMALL.split_once("[versions").unwrap();
        assert!(said(without).contains("needs at least one version"));
        assert!(said(&format!("{SMALL}#{}", "x".repeat(LONGEST))).contains("at most 1 MiB"));
        assert!(said(&format!("versions = 1\n{without}")).starts_with("small.toml:1:12: `versions` has a table for each"));
    }
}
