//! An image and wishes -> the plan of a container that runs once. Pure.

use super::build::cwd_of;
use super::request::VolumeOverride;
use super::{Connect, Isolation, Limits, PLAN_FORMAT, Plan, PlanImage, PlanProcess, PlanRecipe, PlanVolume, volumes};
use super::{Probe, Ready, ServiceName, Stop};
use crate::error::{Error, Result};
use crate::image::{Digest, Identity, ImageConfig};
use crate::recipe::{ContainerPath, EnvName};
use std::collections::BTreeMap;

/// What is wanted otherwise than the image has it.
#[derive(Clone, Debug, Default)]
pub struct OneOff {
    /// In place of the image's entrypoint, and of its command; an empty text means none.
    pub entrypoint: Option<String>,
    /// In place of the image's command.
    pub command: Vec<String>,
    /// Variables.
    pub env: Vec<(String, String)>,
    /// In place of the image's working directory.
    pub workdir: Option<String>,
    /// Directories of the host.
    pub volumes: Vec<VolumeOverride>,
    /// The root file system cannot be written.
    pub read_only: bool,
    /// A small reaper is pid 1.
    pub init: bool,
}

/// The image of a container that runs once.
#[derive(Clone, Copy, Debug)]
pub struct OneOffImage<'a> {
    /// What the user calls it.
    pub reference: &'a str,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Its config.
    pub config: &'a ImageConfig,
}

/// The plan of a container of that `name` that runs once, as `who`.
///
/// # Errors
/// Usage when a wish cannot be carried out; failed when the image says nothing usable of what to run.
pub fn one_off(wishes: &OneOff, image: &OneOffImage<'_>, who: &Identity, name: ServiceName) -> Result<Plan> {
    let config = image.config;
    let mut args = match &wishes.entrypoint {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
        None => config.entrypoint.clone(),
    };
    // A command is written for its entrypoint; with another one it means nothing.
    let own = if wishes.entrypoint.is_none() { config.cmd.as_slice() } else { &[] };
    args.extend_from_slice(if wishes.command.is_empty() { own } else { &wishes.command });
    if args.first().is_none_or(String::is_empty) {
        return Err(Error::usage("the image does not say what to run").hint("name a command: `steading run --image REF -- CMD`"));
    }
    if args.iter().any(|arg| arg.contains('\0')) {
        return Err(Error::failed("an argument of the image's command has a NUL byte"));
    }
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for (key, _) in &wishes.env {
        key.parse::<EnvName>()?;
    }
    for (key, value) in config.env.iter().chain(&wishes.env) {
        if key.is_empty() || key.contains('\0') || value.contains('\0') {
            return Err(Error::failed(format!("a variable `{}` cannot be passed on", key.escape_debug())));
        }
        env.insert(key.clone(), value.clone());
    }
    env.entry("HOME".into()).or_insert_with(|| who.home.clone().unwrap_or_else(|| "/".into()));
    let cwd = match &wishes.workdir {
        Some(path) => path.parse::<ContainerPath>()?.as_str().to_owned(),
        None => cwd_of(&config.workdir)?,
    };
    // All that is written goes at the end, so an image's own VOLUME needs no mount, unless there is nowhere else to write.
    let kept = if wishes.read_only { config.volumes.as_slice() } else { &[] };
    Ok(Plan {
        format: PLAN_FORMAT,
        recipe: PlanRecipe { name: "run".into(), version: "1".into(), source: "image".into(), title: image.reference.into() },
        image: PlanImage {
            reference: image.reference.into(),
            digest: image.digest,
            index_digest: None,
            config: image.digest,
            platform: format!("{}/{}", config.os, config.architecture),
            layers: Vec::new(),
        },
        process: PlanProcess {
            args,
            cwd,
            env,
            uid: who.uid,
            // As with other tools: a user that the image does not know is in root's group.
            gid: who.gid.unwrap_or(0),
            hostname: name.to_string(),
            init: wishes.init,
        },
        ports: Vec::new(),
        volumes: mounts(kept, &wishes.volumes)?,
        secrets: Vec::new(),
        isolation: Isolation { read_only: wishes.read_only, ..Isolation::default() },
        ready: Ready {
            probe: Probe::Started,
            interval_ms: 0,
            timeout_ms: 0,
            start_timeout_s: 0,
            watchdog_s: None,
            first_start: None,
            phases: BTreeMap::new(),
        },
        stop: Stop { signal: "SIGTERM".into(), timeout_s: 0, command: Vec::new(), no_sigkill: false },
        limits: Limits::default(),
        connect: Connect::default(),
        settings: BTreeMap::new(),
        name,
    })
}

fn mounts(kept: &[String], wishes: &[VolumeOverride]) -> Result<Vec<PlanVolume>> {
    if let Some(VolumeOverride::Named { name, .. }) = wishes.iter().find(|wish| matches!(wish, VolumeOverride::Named { .. })) {
        return Err(Error::usage(format!("there is no volume `{}`: an image has none with a name", name.escape_debug()))
            .hint("write /host/directory:/path/in/container"));
    }
    volumes::mount(&BTreeMap::new(), kept, wishes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(wishes: &OneOff, config: &ImageConfig) -> Result<Plan> {
        let image = OneOffImage { reference: "docker.io/library/x:1", digest: Digest::of(b"x"), config };
        let who = Identity { uid: 999, gid: None, groups: vec![], home: Some("/home/x".into()) };
        one_off(wishes, &image, &who, "run-1".parse().unwrap())
    }

    fn image() -> ImageConfig {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        ImageConfig {
            entrypoint: words(&["/entry"]),
            cmd: words(&["serve", "-x"]),
            env: vec![("PATH".into(), "/bin".into()), ("A".into(), "1".into())],
            workdir: "/srv".into(),
            volumes: words(&["/data"]),
            ..ImageConfig::default()
        }
    }

    #[test]
    fn the_image_says_what_runs_and_wishes_say_otherwise() {
        let own = plan(&OneOff::default(), &image()).unwrap();
        assert_eq!(own.process.args, ["/entry", "serve", "-x"]);
        assert_eq!((own.process.uid, own.process.gid, own.process.cwd.as_str()), (999, 0, "/srv"));
        assert_eq!((own.process.env["HOME"].as_str(), own.process.env["A"].as_str()), ("/home/x", "1"));
        assert!(own.volumes.is_empty());

        let command = plan(&OneOff { command: vec!["true".into()], ..OneOff::default() }, &image()).unwrap();
        assert_eq!(command.process.args, ["/entry", "true"]);
        let entry = OneOff { entrypoint: Some("sh".into()), env: vec![("A".into(), "2".into())], ..OneOff::default() };
        let entry = plan(&entry, &image()).unwrap();
        assert_eq!((entry.process.args.as_slice(), entry.process.env["A"].as_str()), (&["sh".to_owned()][..], "2"));
        let none = OneOff { entrypoint: Some(String::new()), command: vec!["a".into()], ..OneOff::default() };
        assert_eq!(plan(&none, &image()).unwrap().process.args, ["a"]);
        assert!(plan(&OneOff { entrypoint: Some(String::new()), ..OneOff::default() }, &image()).is_err());
    }

    #[test]
    fn a_root_that_cannot_be_written_keeps_the_images_volumes_writable() {
        let wishes = OneOff {
            read_only: true,
            volumes: vec![VolumeOverride::parse("/host:/work:ro".as_ref()).unwrap()],
            ..OneOff::default()
        };
        let plan = plan(&wishes, &image()).unwrap();
        let volumes: Vec<_> = plan.volumes.iter().map(|volume| (volume.target.as_str(), volume.read_only)).collect();
        assert_eq!(volumes, [("/data", false), ("/work", true)]);
        assert!(plan.isolation.read_only);
        let named = OneOff { volumes: vec![VolumeOverride::parse("data=/x".as_ref()).unwrap()], ..OneOff::default() };
        assert!(super::tests::plan(&named, &image()).is_err());
    }
}
