//! The types of a recipe, schema 1.

use super::isolation::Isolation;
use super::setting::Setting;
use super::template::Template;
use super::words::{ContainerPath, Cpus, EnvName, Name, Period, SignalName, Size, VersionName};
use super::{Date, did_you_mean};
use crate::error::{Error, Result};
use crate::image::Reference;
use crate::resolve::Protocol;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroU16;

/// The schema of recipes that this build reads.
pub const SCHEMA: u32 = 1;

/// A recipe: how one kind of service is installed, in all its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// `[recipe]`.
    pub head: Head,
    /// `[lifecycle]`.
    pub lifecycle: Lifecycle,
    /// `[versions]`, in the order of the file.
    pub versions: Vec<Version>,
}

/// `[recipe]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Head {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name in the catalog.
    pub name: Name,
    /// Name for people.
    pub title: String,
    /// One line.
    pub summary: String,
    /// Where the software is at home.
    pub homepage: Option<String>,
    /// SPDX expression of the software's licence.
    pub license: Option<String>,
    /// Groups it belongs to.
    #[serde(default)]
    pub categories: Vec<Name>,
    /// Other names it is found by.
    #[serde(default)]
    pub aliases: Vec<Name>,
    /// The version when none is asked for.
    pub default_version: VersionName,
}

/// `[lifecycle]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Lifecycle {
    /// How alive the software is.
    pub status: Status,
    /// What a user should know.
    pub notes: Option<String>,
    /// Recipes to use instead.
    pub replaced_by: Vec<Name>,
}

/// How alive the software is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Developed.
    #[default]
    Active,
    /// Only repaired.
    Maintenance,
    /// Given up.
    Archived,
}

/// One version, with the recipe's tables and its own merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Its name, e.g. `14`.
    pub name: VersionName,
    /// Tag of the image.
    pub tag: String,
    /// First day without updates by its makers.
    pub eol: Option<Date>,
    /// Other names it is found by.
    pub aliases: Vec<VersionName>,
    /// How it is installed.
    pub parts: Parts,
}

/// The tables that a version may lay its own over.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Parts {
    /// `[image]`.
    pub image: Image,
    /// `[run]`.
    pub run: Run,
    /// `[settings.NAME]`.
    #[serde(default)]
    pub settings: BTreeMap<Name, Setting>,
    /// `[secrets.NAME]`.
    #[serde(default)]
    pub secrets: BTreeMap<Name, Secret>,
    /// `[ports.NAME]`.
    #[serde(default)]
    pub ports: BTreeMap<Name, Port>,
    /// `[data.NAME]`.
    #[serde(default)]
    pub data: BTreeMap<Name, Data>,
    /// `[isolation]`.
    #[serde(default)]
    pub isolation: Isolation,
    /// `[ready]`.
    #[serde(default)]
    pub ready: Ready,
    /// `[stop]`.
    #[serde(default)]
    pub stop: Stop,
    /// `[connect]`.
    #[serde(default)]
    pub connect: Connect,
    /// `[limits]`.
    #[serde(default)]
    pub limits: Limits,
}

/// `[image]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Image {
    /// Registry and repository, without tag and digest.
    pub reference: String,
}

/// `[run]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Run {
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container; the same number when not given.
    pub gid: Option<u32>,
    /// A small reaper is pid 1.
    #[serde(default)]
    pub init: bool,
    /// Working directory in place of the image's.
    pub cwd: Option<ContainerPath>,
    /// In place of the image's entrypoint.
    pub entrypoint: Option<Vec<Template>>,
    /// In place of the image's command; the arguments of settings follow it.
    pub args: Option<Vec<Template>>,
    /// Environment, over the image's.
    #[serde(default)]
    pub env: BTreeMap<EnvName, Template>,
}

/// `[secrets.NAME]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Secret {
    /// Characters to generate.
    #[serde(default = "usual_length")]
    pub length: u16,
    /// Variable that gets the path of the file with the value.
    pub env_file: Option<EnvName>,
}

fn usual_length() -> u16 {
    24
}

/// `[ports.NAME]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Port {
    /// The port that the service binds.
    pub container: NonZeroU16,
    /// Transport.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    /// Port on the host; the container's when not given.
    pub default: Option<NonZeroU16>,
    /// What is spoken, e.g. `postgresql`, `http`.
    pub app: Option<String>,
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

/// `[data.NAME]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Data {
    /// Where the persistent directory is in the container.
    pub path: ContainerPath,
}

/// `[ready]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Ready {
    /// What is looked at.
    pub probe: ProbeKind,
    /// Command of `exec`.
    pub command: Option<Vec<Template>>,
    /// Port of `tcp` and `http`, a name of `[ports]`.
    pub port: Option<Name>,
    /// Path of `http`.
    pub path: Option<String>,
    /// Text of `log`.
    pub text: Option<String>,
    /// Between two tries.
    pub interval: Period,
    /// For one try.
    pub timeout: Period,
    /// Until a start is given up.
    pub start_timeout: Period,
    /// A ready service that fails its probe for so long is restarted.
    pub watchdog: Option<Period>,
    /// What a first start does, with its volumes still empty, e.g. `initialising database`.
    pub first_start: Option<String>,
    /// What exit codes of an `exec` probe tell, e.g. `"1" = "recovering"`. A start that tells such a thing is given more time.
    pub phases: BTreeMap<String, String>,
}

impl Default for Ready {
    fn default() -> Self {
        Ready {
            probe: ProbeKind::Listen,
            command: None,
            port: None,
            path: None,
            text: None,
            interval: Period(std::time::Duration::from_millis(250)),
            timeout: Period::of_seconds(5),
            start_timeout: Period::of_seconds(90),
            watchdog: None,
            first_start: None,
            phases: BTreeMap::new(),
        }
    }
}

/// What tells that the service is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeKind {
    /// It listens on its TCP ports.
    Listen,
    /// It says so itself, as sd_notify(3) does.
    Notify,
    /// A port takes connections.
    Tcp,
    /// A page is served.
    Http,
    /// It listens, and a command in the container exits 0.
    Exec,
    /// A text appears in its output.
    Log,
    /// The program was executed.
    Started,
}

/// `[stop]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Stop {
    /// In place of the image's signal.
    pub signal: Option<SignalName>,
    /// Until what is left is killed.
    pub timeout: Period,
    /// Command in the container before the signal.
    pub command: Vec<Template>,
    /// What does not end is left alone rather than killed.
    pub no_sigkill: bool,
}

impl Default for Stop {
    fn default() -> Self {
        Stop { signal: None, timeout: Period::of_seconds(90), command: Vec::new(), no_sigkill: false }
    }
}

/// `[connect]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Connect {
    /// URL for clients.
    pub url: Option<Template>,
    /// Environment for clients.
    pub env: BTreeMap<EnvName, Template>,
    /// Client command, run in the container.
    pub shell: Vec<Template>,
}

/// `[limits]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// Most memory.
    pub memory: Option<Size>,
    /// Memory above which it is slowed down.
    pub memory_high: Option<Size>,
    /// Most processors.
    pub cpus: Option<Cpus>,
    /// Share of the processors beside other services, 1 to 10000; 100 is usual.
    pub cpu_weight: Option<u32>,
    /// Share of the disks beside other services, 1 to 10000; 100 is usual.
    pub io_weight: Option<u32>,
    /// Most tasks.
    pub tasks: Option<u32>,
    /// How soon it is killed when memory ends, up to 1000 for first.
    pub oom_score_adjust: Option<i32>,
}

impl Recipe {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.head.name.as_str()
    }

    /// The version of that name or alias; the default one without a name.
    ///
    /// # Errors
    /// Not found, with the versions there are.
    pub fn version(&self, wanted: Option<&str>) -> Result<&Version> {
        let wanted = wanted.unwrap_or(self.head.default_version.as_str());
        let named = self.versions.iter().find(|version| version.name.as_str() == wanted);
        let version = named.or_else(|| self.versions.iter().find(|v| v.aliases.iter().any(|alias| alias.as_str() == wanted)));
        version.ok_or_else(|| {
            let all: Vec<&str> = self.versions.iter().map(|version| version.name.as_str()).collect();
            let mut hint = format!("versions of {}: {}", self.name(), all.join(", "));
            // `16.4` is a slip for `16`, the only form that is kept up to date.
            let major = all.iter().find(|name| wanted.strip_prefix(**name).is_some_and(|rest| rest.starts_with('.')));
            if let Some(near) = major.map(|name| format!("did you mean `{name}`?")).or_else(|| did_you_mean(wanted, all)) {
                hint = format!("{near} {hint}");
            }
            Error::not_found(format!("{} has no version `{}`", self.name(), wanted.escape_debug())).hint(hint)
        })
    }
}

/// A recipe with one of its versions, and where it was found: `built-in`, `user` or a path.
#[derive(Clone, Copy, Debug)]
pub struct Selected<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The version.
    pub version: &'a Version,
    /// Provenance.
    pub source: &'a str,
}

impl Selected<'_> {
    /// The image to ask a registry for.
    ///
    /// # Errors
    /// Never for a parsed recipe, whose lint has read it already.
    pub fn reference(&self) -> Result<Reference> {
        format!("{}:{}", self.version.parts.image.reference, self.version.tag).parse()
    }

    /// What a user should know before installing it on the day `today`.
    #[must_use]
    pub fn notices(&self, today: Date) -> Vec<String> {
        let title = &self.recipe.head.title;
        let mut list = Vec::new();
        if let Some(eol) = self.version.eol.filter(|eol| *eol <= today) {
            list.push(format!("{title} {} has had no updates since {eol}", self.version.name));
        }
        let lifecycle = &self.recipe.lifecycle;
        if lifecycle.status == Status::Archived {
            list.push(format!("{title} is no longer developed"));
        }
        if !lifecycle.replaced_by.is_empty() {
            let names: Vec<String> = lifecycle.replaced_by.iter().map(|name| format!("`{name}`")).collect();
            list.push(format!("instead of {title} use {}", names.join(" or ")));
        }
        list.extend(lifecycle.notes.clone());
        list
    }
}
