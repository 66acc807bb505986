//! Rules that hold between the parts of a recipe. What one value alone can break is refused by its type already.

use super::did_you_mean;
use super::schema::{Parts, ProbeKind, Recipe, Version};
use super::setting::{Kind, Setting};
use super::template::{Hole, Template, Unit};
use super::words::{Name, flat};
use crate::image::Reference;
use crate::resolve::{IdKind, Protocol, ServiceName};
use std::collections::{BTreeMap, BTreeSet};

/// A broken rule and where: keys from the top of the tables.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) path: Vec<String>,
    pub(super) message: String,
}

type Outcome = Result<(), Wrong>;

fn wrong(path: &[&str], message: impl Into<String>) -> Outcome {
    Err(Wrong { path: path.iter().map(|part| (*part).to_owned()).collect(), message: message.into() })
}

/// Rules for the recipe as a whole.
pub(super) fn recipe(recipe: &Recipe) -> Outcome {
    let head = &recipe.head;
    for (key, text) in [("title", &head.title), ("summary", &head.summary)] {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return wrong(&["recipe", key], format!("`{key}` is one line of text"));
        }
    }
    if head.aliases.contains(&head.name) {
        return wrong(&["recipe", "aliases"], "the recipe's own name needs no alias");
    }
    let mut seen = BTreeSet::new();
    for version in &recipe.versions {
        for name in std::iter::once(&version.name).chain(&version.aliases) {
            if !seen.insert(name) {
                return wrong(&[], format!("version `{name}` is there twice, as a name or an alias"));
            }
        }
        if let Err(error) = format!("{}@{}", head.name, version.name).parse::<ServiceName>() {
            return wrong(&["recipe", "name"], flat(&error));
        }
    }
    if let Err(error) = recipe.version(None) {
        return wrong(&["recipe", "default-version"], error.to_string());
    }
    Ok(())
}

/// Rules for one version.
pub(super) fn version(version: &Version) -> Outcome {
    let parts = &version.parts;
    image(version)?;
    if parts.run.uid == u32::MAX {
        return wrong(&["run", "uid"], "4294967295 is no user id");
    }
    if parts.run.gid == Some(u32::MAX) {
        return wrong(&["run", "gid"], "4294967295 is no group id");
    }
    if parts.run.entrypoint.as_ref().is_some_and(Vec::is_empty) && parts.run.args.as_ref().is_some_and(Vec::is_empty) {
        return wrong(&["run", "args"], "with an empty `entrypoint` there must be `args`");
    }
    for (name, setting) in &parts.settings {
        one_setting(name, setting)?;
    }
    for (name, secret) in &parts.secrets {
        if !(8..=1024).contains(&secret.length) {
            return wrong(&["secrets", name.as_str(), "length"], "a secret has 8 to 1024 characters");
        }
    }
    for (name, data) in &parts.data {
        if !data.path.may_be_volume() {
            return wrong(&["data", name.as_str(), "path"], format!("`{}` cannot be a volume", data.path));
        }
    }
    ready(parts)?;
    isolation(parts)?;
    limits(parts)?;
    if parts.stop.timeout.seconds() == 0 {
        return wrong(&["stop", "timeout"], "the timeout must be above 0");
    }
    // Neither can be caught: that is no way to ask a service to stop.
    if parts.stop.signal.as_ref().is_some_and(|signal| ["SIGKILL", "SIGSTOP"].contains(&signal.as_str())) {
        return wrong(
            &["stop", "signal"],
            "a service cannot answer this signal; what is left after `timeout` gets SIGKILL anyway",
        );
    }
    no_duplicates(parts)?;
    templates(parts)
}

fn image(version: &Version) -> Outcome {
    let path = ["image", "reference"];
    let text = &version.parts.image.reference;
    match text.parse::<Reference>() {
        Err(error) => return wrong(&path, flat(&error)),
        // Without a tag it is read as `latest`; any other reading means that one was written.
        Ok(reference)
            if reference.digest.is_some() || text.ends_with(":latest") || reference.tag.as_deref() != Some("latest") =>
        {
            return wrong(&path, "the reference is written without tag and digest; each version has its own `tag`");
        }
        Ok(_) => {}
    }
    match format!("{text}:{}", version.tag).parse::<Reference>() {
        Ok(reference) if reference.tag.as_ref() == Some(&version.tag) && reference.digest.is_none() => Ok(()),
        _ => wrong(&["tag"], format!("`{}` is not the tag of an image", version.tag.escape_debug())),
    }
}

fn one_setting(name: &Name, setting: &Setting) -> Outcome {
    let at = |key: &str, message: String| wrong(&["settings", name.as_str(), key], message);
    if (setting.kind == Kind::Enum) == setting.choices.is_empty() {
        return at("choices", "`choices` belong to type `enum`, which needs at least one".into());
    }
    if setting.kind != Kind::Int && (setting.min.is_some() || setting.max.is_some()) {
        return at("type", "`min` and `max` belong to type `int`".into());
    }
    if let Some(default) = &setting.default
        && let Err(error) = setting.check(default)
    {
        return at("default", flat(&error));
    }
    for unit in setting.arg.iter().flat_map(Template::holes) {
        let fits = match unit {
            Hole::Value(Unit::Kib | Unit::Mib) => setting.kind == Kind::Size,
            Hole::Value(Unit::Ms) => setting.kind == Kind::Duration,
            _ => true,
        };
        if !fits {
            return at("arg", format!("`{{{unit}}}` does not fit the type of the setting"));
        }
    }
    Ok(())
}

fn ready(parts: &Parts) -> Outcome {
    let ready = &parts.ready;
    let (kind, exec) = (ready.probe, ready.probe == ProbeKind::Exec);
    let (tcp, http) = (matches!(kind, ProbeKind::Tcp | ProbeKind::Http), kind == ProbeKind::Http);
    for (key, given, belongs, needed, of) in [
        ("command", ready.command.is_some(), exec, exec, "`exec`"),
        ("port", ready.port.is_some(), tcp, tcp, "`tcp` and `http`"),
        ("path", ready.path.is_some(), http, false, "`http`"),
        ("text", ready.text.is_some(), kind == ProbeKind::Log, kind == ProbeKind::Log, "`log`"),
        ("phases", !ready.phases.is_empty(), exec, false, "`exec`"),
    ] {
        if given && !belongs {
            return wrong(&["ready", key], format!("`{key}` belongs to probe {of}"));
        }
        if needed && !given {
            return wrong(&["ready"], format!("this probe needs a `{key}`"));
        }
    }
    if ready.command.as_ref().is_some_and(Vec::is_empty) {
        return wrong(&["ready", "command"], "the command is empty");
    }
    if let Some(name) = &ready.port {
        known(&["ready", "port"], "port", name, parts.ports.keys())?;
        if parts.ports.get(name).is_some_and(|port| port.protocol != Protocol::Tcp) {
            return wrong(&["ready", "port"], format!("port `{name}` is not of TCP"));
        }
    }
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic());
    if ready.path.as_ref().is_some_and(|path| !path.starts_with('/') || !visible(path)) {
        return wrong(&["ready", "path"], "a path begins with `/` and has neither spaces nor letters beyond ASCII");
    }
    if ready.text.as_ref().is_some_and(|text| text.trim().is_empty() || text.contains(['\n', '\0'])) {
        return wrong(&["ready", "text"], "the text is part of one line");
    }
    for (code, text) in &ready.phases {
        if !code.parse::<u8>().is_ok_and(|code| (1..=125).contains(&code)) {
            return wrong(&["ready", "phases", code], "a phase is told by an exit code from 1 to 125");
        }
        one_line(&["ready", "phases", code], text)?;
    }
    if let Some(text) = &ready.first_start {
        one_line(&["ready", "first-start"], text)?;
    }
    if ready.watchdog.is_some_and(|period| period.seconds() < 3) {
        return wrong(&["ready", "watchdog"], "the watchdog looks three times in its period, so that has at least 3 s");
    }
    if ready.probe == ProbeKind::Listen && !parts.ports.values().any(|port| port.protocol == Protocol::Tcp) {
        return wrong(&["ready", "probe"], "probe `listen` needs a TCP port; without one use `started` or `exec`");
    }
    for (key, period) in [("interval", ready.interval), ("timeout", ready.timeout), ("start-timeout", ready.start_timeout)] {
        if period.milliseconds() == 0 {
            return wrong(&["ready", key], format!("`{key}` must be above 0"));
        }
    }
    Ok(())
}

fn one_line(path: &[&str], text: &str) -> Outcome {
    if text.trim().is_empty() || text.len() > 100 || text.chars().any(char::is_control) {
        return wrong(path, "this is one line of at most 100 bytes");
    }
    Ok(())
}

fn isolation(parts: &Parts) -> Outcome {
    let isolation = &parts.isolation;
    if !isolation.extra_ids.is_empty() && isolation.ids != IdKind::Private {
        return wrong(&["isolation", "extra-ids"], "`extra-ids` belong to ids `private`");
    }
    if isolation.extra_ids.len() > 64 || isolation.extra_ids.contains(&u32::MAX) {
        return wrong(&["isolation", "extra-ids"], "there are at most 64 ids, none of them 4294967295");
    }
    for path in isolation.tmpfs.keys() {
        if !path.may_be_volume() {
            return wrong(&["isolation", "tmpfs", path.as_str()], format!("nothing can be mounted at `{path}`"));
        }
        if parts.data.values().any(|data| data.path == *path) {
            return wrong(&["isolation", "tmpfs", path.as_str()], format!("`{path}` is persistent data"));
        }
    }
    for (path, size) in
        isolation.tmpfs.iter().map(|(path, size)| (path.as_str(), size)).chain(isolation.shm.iter().map(|s| ("", s)))
    {
        if size.0 < 4096 {
            let at: &[&str] = if path.is_empty() { &["isolation", "shm"] } else { &["isolation", "tmpfs", path] };
            return wrong(at, "a file system in memory has at least 4 KiB");
        }
    }
    for (key, value) in &isolation.sysctls {
        // The kernel goes by the id there, not by capabilities (ipc_permissions() of ipc/ipc_sysctl.c).
        if !key.as_str().starts_with("net.") && isolation.ids == IdKind::User && parts.run.uid != 0 {
            return wrong(
                &["isolation", "sysctls", key.as_str()],
                "only id 0 of a container may set this: it needs `ids` that have one, or uid 0",
            );
        }
        one_line(&["isolation", "sysctls", key.as_str()], value)?;
    }
    Ok(())
}

fn limits(parts: &Parts) -> Outcome {
    let limits = &parts.limits;
    for (key, weight) in [("cpu-weight", limits.cpu_weight), ("io-weight", limits.io_weight)] {
        if weight.is_some_and(|weight| !(1..=10_000).contains(&weight)) {
            return wrong(&["limits", key], "a weight is from 1 to 10000");
        }
    }
    if limits.oom_score_adjust.is_some_and(|score| !(0..=1000).contains(&score)) {
        return wrong(&["limits", "oom-score-adjust"], "it is from 0 to 1000; only root may protect a process");
    }
    Ok(())
}

fn no_duplicates(parts: &Parts) -> Outcome {
    let (mut inside, mut outside) = (BTreeSet::new(), BTreeSet::new());
    for (name, port) in &parts.ports {
        if !inside.insert((port.container, port.protocol)) {
            return wrong(&["ports", name.as_str()], format!("port {} is there twice", port.container));
        }
        if !outside.insert((port.default.unwrap_or(port.container), port.protocol)) {
            return wrong(&["ports", name.as_str()], "two ports have the same port on the host");
        }
    }
    let mut paths = BTreeSet::new();
    for (name, data) in &parts.data {
        if !paths.insert(&data.path) {
            return wrong(&["data", name.as_str(), "path"], format!("`{}` is there twice", data.path));
        }
    }
    let settings = parts.settings.iter().filter_map(|(name, setting)| Some((("settings", name, "env"), setting.env.as_ref()?)));
    let secrets =
        parts.secrets.iter().filter_map(|(name, secret)| Some((("secrets", name, "env-file"), secret.env_file.as_ref()?)));
    let mut variables = BTreeSet::new();
    for ((table, name, key), variable) in settings.chain(secrets) {
        if !variables.insert(variable) || parts.run.env.contains_key(variable) {
            return wrong(&[table, name.as_str(), key], format!("the variable `{variable}` is set twice"));
        }
    }
    Ok(())
}

/// What a text may ask for.
#[derive(Clone, Copy)]
struct Allowed {
    secret: bool,
    value: bool,
}

fn templates(parts: &Parts) -> Outcome {
    let plain = Allowed { secret: false, value: false };
    let with_secret = Allowed { secret: true, value: false };
    let list = |path: &[&str], list: &[Template], allowed: Allowed| -> Outcome {
        for (at, text) in list.iter().enumerate() {
            one_template(parts, &[path, &[&at.to_string()]].concat(), text, allowed)?;
        }
        Ok(())
    };
    let map = |path: &[&str], map: &BTreeMap<super::EnvName, Template>, allowed: Allowed| -> Outcome {
        for (key, text) in map {
            one_template(parts, &[path, &[key.as_str()]].concat(), text, allowed)?;
        }
        Ok(())
    };
    map(&["run", "env"], &parts.run.env, plain)?;
    list(&["run", "entrypoint"], parts.run.entrypoint.as_deref().unwrap_or_default(), plain)?;
    list(&["run", "args"], parts.run.args.as_deref().unwrap_or_default(), plain)?;
    for (name, setting) in &parts.settings {
        list(&["settings", name.as_str(), "arg"], &setting.arg, Allowed { secret: false, value: true })?;
    }
    list(&["ready", "command"], parts.ready.command.as_deref().unwrap_or_default(), plain)?;
    list(&["stop", "command"], &parts.stop.command, plain)?;
    if let Some(url) = &parts.connect.url {
        one_template(parts, &["connect", "url"], url, with_secret)?;
    }
    map(&["connect", "env"], &parts.connect.env, with_secret)?;
    list(&["connect", "shell"], &parts.connect.shell, plain)
}

fn one_template(parts: &Parts, path: &[&str], text: &Template, allowed: Allowed) -> Outcome {
    for hole in text.holes() {
        match hole {
            Hole::Name => {}
            Hole::Value(_) if allowed.value => {}
            Hole::Value(_) => return wrong(path, format!("`{{{hole}}}` has a meaning only in the `arg` of a setting")),
            Hole::Secret(_) if !allowed.secret => {
                return wrong(path, "a secret stands only in `connect.url` and `connect.env`; the service gets it by `env-file`");
            }
            Hole::Secret(name) => known(path, "secret", name, parts.secrets.keys())?,
            Hole::Port(name, _) => known(path, "port", name, parts.ports.keys())?,
            Hole::Setting(name) => {
                known(path, "setting", name, parts.settings.keys())?;
                if parts.settings.get(name).is_some_and(|setting| setting.default.is_none()) {
                    return wrong(path, format!("setting `{name}` has no default, so this text could not always be written"));
                }
            }
        }
    }
    Ok(())
}

fn known<'a>(path: &[&str], what: &str, name: &Name, names: impl Iterator<Item = &'a Name> + Clone) -> Outcome {
    if names.clone().any(|known| known == name) {
        return Ok(());
    }
    let hint = did_you_mean(name.as_str(), names.map(Name::as_str)).map(|hint| format!("; {hint}")).unwrap_or_default();
    wrong(path, format!("there is no {what} `{name}`{hint}"))
}
