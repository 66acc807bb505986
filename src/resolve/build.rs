//! Puts a [`Plan`] together.

use super::connect::form_of_variable;
use super::ports::{self, Host};
use super::request::Request;
use super::{Connect, Limits, PLAN_FORMAT, Plan, PlanImage, PlanLayer, PlanPort, PlanProcess, PlanRecipe, PlanSecret, volumes};
use super::{Isolation, Probe, Ready, ServiceName, Stop};
use crate::error::{Context, Error, Result};
use crate::image::{Digest, ImageConfig, Platform, Reference};
use crate::recipe::did_you_mean;
use crate::recipe::{
    ContainerPath, EnvName, Form, Hole, Name, Parts, Period, PortPart, ProbeKind, Selected, SignalName, Template, Unit, Value,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a registry said of the image, pinned.
#[derive(Clone, Debug)]
pub struct ImageFacts {
    /// What was asked for.
    pub reference: Reference,
    /// Digest of the manifest of this platform.
    pub digest: Digest,
    /// Digest of the index it was chosen from, if there was one.
    pub index_digest: Option<Digest>,
    /// Digest of the config.
    pub config_digest: Digest,
    /// The platform chosen.
    pub platform: Platform,
    /// Layers, lowest first.
    pub layers: Vec<PlanLayer>,
    /// The config.
    pub config: ImageConfig,
}

/// Everything of one install, pinned.
///
/// # Errors
/// Usage when the request does not fit the recipe; failed when a port is taken or the image cannot be run.
pub fn plan(request: &Request, selected: &Selected<'_>, image: &ImageFacts, host: &Host) -> Result<Plan> {
    let parts = &selected.version.parts;
    let name = match &request.name {
        Some(name) => name.clone(),
        None => format!("{}@{}", selected.recipe.name(), selected.version.name).parse()?,
    };
    let given = settings(parts, request)?;
    let ports = ports::publish(&parts.ports, &request.ports, host)?;
    let filler = Filler { name: &name, settings: &given, ports: &ports };
    let stop_signal = match (&parts.stop.signal, &image.config.stop_signal) {
        (Some(signal), _) => signal.clone(),
        (None, Some(text)) => text.parse().context(|| "the image has a STOPSIGNAL that is none")?,
        (None, None) => SignalName::term(),
    };
    Ok(Plan {
        format: PLAN_FORMAT,
        recipe: PlanRecipe {
            name: selected.recipe.name().to_owned(),
            version: selected.version.name.to_string(),
            source: selected.source.to_owned(),
            title: selected.recipe.head.title.clone(),
        },
        image: PlanImage {
            reference: image.reference.to_string(),
            digest: image.digest,
            index_digest: image.index_digest,
            config: image.config_digest,
            platform: image.platform.to_string(),
            layers: image.layers.clone(),
        },
        process: PlanProcess {
            args: args(parts, &image.config, &filler)?,
            cwd: cwd(parts, &image.config)?,
            env: env(parts, request, &image.config, &filler)?,
            uid: parts.run.uid,
            gid: parts.run.gid.unwrap_or(parts.run.uid),
            hostname: hostname(&name),
            init: parts.run.init,
        },
        volumes: volumes::mount(&parts.data, &image.config.volumes, &request.volumes)?,
        secrets: parts
            .secrets
            .iter()
            .map(|(name, secret)| PlanSecret { name: name.to_string(), length: secret.length })
            .collect(),
        isolation: Isolation::of(&parts.isolation),
        ready: Ready {
            probe: probe(parts, &filler)?,
            interval_ms: parts.ready.interval.milliseconds(),
            timeout_ms: parts.ready.timeout.milliseconds(),
            start_timeout_s: parts.ready.start_timeout.seconds(),
            watchdog_s: parts.ready.watchdog.map(Period::seconds),
            first_start: parts.ready.first_start.clone(),
            phases: parts.ready.phases.clone(),
        },
        stop: Stop {
            signal: stop_signal.to_string(),
            timeout_s: parts.stop.timeout.seconds(),
            command: filler.list(&parts.stop.command)?,
            no_sigkill: parts.stop.no_sigkill,
        },
        limits: Limits {
            memory_high_bytes: parts.limits.memory_high.map(|size| size.0),
            cpu_weight: parts.limits.cpu_weight,
            io_weight: parts.limits.io_weight,
            oom_score_adjust: parts.limits.oom_score_adjust,
            memory_bytes: request.memory.or(parts.limits.memory).map(|size| size.0),
            cpu_percent: request.cpus.or(parts.limits.cpus).map(|cpus| cpus.0),
            tasks: request.tasks.or(parts.limits.tasks).map(u64::from),
        },
        connect: Connect {
            url: parts.connect.url.as_ref().map(|text| filler.keeping_secrets(text, Form::Url)),
            env: parts
                .connect
                .env
                .iter()
                .map(|(key, text)| (key.to_string(), filler.keeping_secrets(text, form_of_variable(key.as_str()))))
                .collect(),
            shell: parts.connect.shell.iter().map(|text| filler.keeping_secrets(text, Form::Plain)).collect(),
        },
        settings: given.iter().map(|(name, value)| (name.to_string(), value.as_given())).collect(),
        ports,
        name,
    })
}

fn probe(parts: &Parts, filler: &Filler<'_>) -> Result<Probe> {
    let ready = &parts.ready;
    // The lint has seen to it that a probe has what it needs.
    let port = || ready.port.as_ref().map(ToString::to_string).unwrap_or_default();
    Ok(match ready.probe {
        ProbeKind::Started => Probe::Started,
        ProbeKind::Listen => Probe::Listen,
        ProbeKind::Notify => Probe::Notify,
        ProbeKind::Tcp => Probe::Tcp { port: port() },
        ProbeKind::Http => Probe::Http { port: port(), path: ready.path.clone().unwrap_or_else(|| "/".into()) },
        ProbeKind::Log => Probe::Log { text: ready.text.clone().unwrap_or_default() },
        ProbeKind::Exec => Probe::Exec { command: filler.list(ready.command.as_deref().unwrap_or_default())? },
    })
}

/// Defaults and what the user set, checked.
fn settings<'a>(parts: &'a Parts, request: &Request) -> Result<BTreeMap<&'a Name, Value>> {
    let mut given = BTreeMap::new();
    for (name, setting) in &parts.settings {
        if let Some(default) = &setting.default {
            given.insert(name, setting.check(default)?);
        }
    }
    for (key, text) in &request.settings {
        let Some((name, setting)) = parts.settings.iter().find(|(name, _)| name.as_str() == key) else {
            let names = || parts.settings.keys().map(Name::as_str);
            let all = names().collect::<Vec<_>>().join(", ");
            let all = if all.is_empty() {
                "this recipe has no settings; `--env` sets a variable".into()
            } else {
                format!("settings: {all}")
            };
            let near = did_you_mean(key, names()).map(|near| format!("{near} ")).unwrap_or_default();
            return Err(Error::usage(format!("there is no setting `{}`", key.escape_debug())).hint(format!("{near}{all}")));
        };
        let value = setting.check(text).context(|| format!("cannot set `{name}` ({})", setting.summary))?;
        given.insert(name, value);
    }
    Ok(given)
}

/// Entrypoint, command, then the arguments that settings carry.
fn args(parts: &Parts, image: &ImageConfig, filler: &Filler<'_>) -> Result<Vec<String>> {
    let mut args = match &parts.run.entrypoint {
        Some(list) => filler.list(list)?,
        None => image.entrypoint.clone(),
    };
    match &parts.run.args {
        Some(list) => args.extend(filler.list(list)?),
        // A command is written for its entrypoint; with another one it means nothing.
        None if parts.run.entrypoint.is_none() => args.extend(image.cmd.iter().cloned()),
        None => {}
    }
    if args.first().is_none_or(String::is_empty) {
        return Err(Error::failed("neither the image nor the recipe says what to run"));
    }
    for (name, setting) in &parts.settings {
        let Some(value) = filler.settings.get(name) else { continue };
        let shows_value = setting.arg.iter().flat_map(Template::holes).any(|hole| matches!(hole, Hole::Value(_)));
        if *value == Value::Bool(false) && !shows_value {
            continue;
        }
        for text in &setting.arg {
            args.push(filler.text(text, Some(value))?);
        }
    }
    if args.iter().any(|arg| arg.contains('\0')) {
        return Err(Error::failed("an argument of the image's command has a NUL byte"));
    }
    Ok(args)
}

/// The image's environment, then the recipe's, the settings', the paths of secrets, the user's.
fn env(parts: &Parts, request: &Request, image: &ImageConfig, filler: &Filler<'_>) -> Result<BTreeMap<String, String>> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in &image.env {
        if key.is_empty() || key.contains('\0') || value.contains('\0') {
            return Err(Error::failed(format!("the image sets a variable `{}` that cannot be passed on", key.escape_debug())));
        }
        env.insert(key.clone(), value.clone());
    }
    for (key, text) in &parts.run.env {
        env.insert(key.to_string(), filler.text(text, None)?);
    }
    for (name, value) in filler.settings {
        if let Some(key) = parts.settings.get(*name).and_then(|setting| setting.env.as_ref()) {
            env.insert(key.to_string(), value.render(Unit::Plain));
        }
    }
    for (name, secret) in &parts.secrets {
        if let Some(key) = &secret.env_file {
            env.insert(key.to_string(), format!("/run/secrets/{name}"));
        }
    }
    for (key, value) in &request.env {
        let key: EnvName = key.parse()?;
        if value.contains('\0') {
            return Err(Error::usage(format!("the value of `{key}` has a NUL byte")));
        }
        env.insert(key.to_string(), value.clone());
    }
    Ok(env)
}

fn cwd(parts: &Parts, image: &ImageConfig) -> Result<String> {
    let path = match &parts.run.cwd {
        Some(path) => path.clone(),
        None => return cwd_of(&image.workdir),
    };
    Ok(path.as_str().to_owned())
}

/// The working directory that a WORKDIR means.
pub(super) fn cwd_of(workdir: &str) -> Result<String> {
    let path = ContainerPath::lenient(workdir).context(|| "the image has a WORKDIR that cannot be used")?;
    Ok(path.as_str().to_owned())
}

/// A host name (RFC 1123) from the service's: `postgres-14`.
fn hostname(name: &ServiceName) -> String {
    let mut out = String::new();
    for c in name.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }) {
        if c != '-' || !(out.is_empty() || out.ends_with('-')) {
            out.push(c);
        }
    }
    out.truncate(63);
    out.trim_end_matches('-').to_owned()
}

/// What holes are filled with.
struct Filler<'a> {
    name: &'a ServiceName,
    settings: &'a BTreeMap<&'a Name, Value>,
    ports: &'a [PlanPort],
}

impl Filler<'_> {
    fn hole(&self, hole: &Hole, form: Form, value: Option<&Value>) -> Option<String> {
        match hole {
            Hole::Name => Some(self.name.to_string()),
            Hole::Setting(name) => self.settings.get(name).map(|value| value.render(Unit::Plain)),
            Hole::Value(unit) => value.map(|value| value.render(*unit)),
            Hole::Secret(_) => None,
            Hole::Port(name, part) => {
                let mut place = self.ports.iter().find(|port| port.name == name.as_str())?.host;
                // Who listens on every address is reached on loopback.
                match place.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => place.set_ip(Ipv4Addr::LOCALHOST.into()),
                    IpAddr::V6(ip) if ip.is_unspecified() => place.set_ip(Ipv6Addr::LOCALHOST.into()),
                    _ => {}
                }
                Some(match part {
                    PortPart::Both => place.to_string(),
                    PortPart::Port => place.port().to_string(),
                    PortPart::Host if form == Form::Url && place.is_ipv6() => format!("[{}]", place.ip()),
                    PortPart::Host => place.ip().to_string(),
                })
            }
        }
    }

    fn text(&self, text: &Template, value: Option<&Value>) -> Result<String> {
        text.fill(Form::Plain, &|hole| self.hole(hole, Form::Plain, value)).finish()
    }

    fn list(&self, list: &[Template]) -> Result<Vec<String>> {
        list.iter().map(|text| self.text(text, None)).collect()
    }

    /// Again the text of a template, in which only secrets are left.
    fn keeping_secrets(&self, text: &Template, form: Form) -> String {
        text.fill(form, &|hole| self.hole(hole, form, None)).to_string()
    }
}
