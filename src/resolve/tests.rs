//! Whole plans.

use super::*;
use crate::catalog::Catalog;
use crate::error::{Kind, Result};
use crate::image::{Digest, ImageConfig, Platform};
use crate::recipe::{Recipe, Selected, parse};
use std::net::Ipv6Addr;

/// The config of an official image of PostgreSQL, as far as it matters.
fn postgres_config(major: &str, volume: &str, pgdata: &str) -> ImageConfig {
    let pair = |key: &str, value: String| (key.to_owned(), value);
    ImageConfig {
        env: vec![
            pair("PATH", format!("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/{major}/bin")),
            pair("LANG", "en_US.utf8".into()),
            pair("PG_MAJOR", major.into()),
            pair("PGDATA", pgdata.into()),
        ],
        entrypoint: vec!["docker-entrypoint.sh".into()],
        cmd: vec!["postgres".into()],
        volumes: vec![volume.into()],
        exposed: vec!["5432/tcp".into()],
        stop_signal: Some("SIGINT".into()),
        os: "linux".into(),
        architecture: "amd64".into(),
        ..ImageConfig::default()
    }
}

fn facts(reference: &str, config: ImageConfig) -> ImageFacts {
    let layer = |text: &str| PlanLayer {
        digest: Digest::of(text.as_bytes()),
        size: 1234,
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
        diff_id: Digest::of(format!("{text} unpacked").as_bytes()),
    };
    ImageFacts {
        reference: reference.parse().unwrap(),
        digest: Digest::of(b"manifest"),
        index_digest: Some(Digest::of(b"index")),
        config_digest: Digest::of(b"config"),
        platform: Platform { os: "linux".into(), architecture: "amd64".into(), variant: None },
        layers: vec![layer("base"), layer("server")],
        config,
    }
}

fn old_postgres() -> ImageFacts {
    facts("postgres:14", postgres_config("14", "/var/lib/postgresql/data", "/var/lib/postgresql/data"))
}

fn host() -> Host {
    Host::new([127, 0, 0, 1].into())
}

fn postgres14(request: &Request) -> Result<Plan> {
    plan(request, &Catalog::built_in().unwrap().find("postgres@14").unwrap(), &old_postgres(), &host())
}

fn request(settings: &[&str]) -> Request {
    let settings = settings.iter().map(|text| key_value("--set", text).unwrap()).collect();
    Request { settings, ..Request::default() }
}

/// What is written is what is read, to the byte.
fn round_trip(plan: &Plan) -> String {
    let text = toml::to_string(plan).unwrap();
    let back: Plan = toml::from_str(&text).unwrap();
    assert_eq!(&back, plan);
    assert_eq!(toml::to_string(&back).unwrap(), text);
    text
}

#[test]
fn plan_of_postgres_14() {
    insta::assert_snapshot!(round_trip(&postgres14(&Request::default()).unwrap()));
}

#[test]
fn plan_of_postgres_18_with_every_option() {
    let catalog = Catalog::built_in().unwrap();
    let image = facts("postgres:18", postgres_config("18", "/var/lib/postgresql", "/var/lib/postgresql/18/docker"));
    let request = Request {
        name: Some("orders".parse().unwrap()),
        env: vec![("TZ".into(), "Europe/Berlin".into()), ("LANG".into(), "C".into())],
        ports: vec!["db=[::]:5433".parse().unwrap()],
        volumes: vec![
            VolumeOverride::parse("data=/big/pg".as_ref()).unwrap(),
            VolumeOverride::parse("/etc/seed:/docker-entrypoint-initdb.d:ro".as_ref()).unwrap(),
        ],
        memory: Some("512M".parse().unwrap()),
        cpus: Some("1.5".parse().unwrap()),
        tasks: Some(200),
        ..request(&["user=o'b@{x}", "database=a b", "initdb-args=--data-checksums", "max-connections=7", "shared-buffers=1.5M"])
    };
    let plan = plan(&request, &catalog.find("pg").unwrap(), &image, &host()).unwrap();
    let text = round_trip(&plan);
    insta::assert_snapshot!(text);
    let shown = plan.connect.reveal(&|name| (name == "password").then(|| "p/w{}".into())).unwrap();
    assert_eq!(shown.url.unwrap(), "postgresql://o%27b%40%7Bx%7D:p%2Fw%7B%7D@[::1]:5433/a%20b");
    assert_eq!((shown.env["PGUSER"].as_str(), shown.env["PGPASSWORD"].as_str()), ("o'b@{x}", "p/w{}"));
    assert_eq!(shown.shell, ["psql", "--username=o'b@{x}", "--dbname=a b"]);
    assert!(plan.connect.reveal(&|_| None).is_err());
}

#[test]
fn settings_are_checked_and_answered_with_what_would_be_right() {
    for (settings, what, cause, hint) in [
        (&["usr=x"][..], "there is no setting `usr`", None, Some("did you mean `user`? settings: database, initdb-args")),
        (&["max-connections=0"], "cannot set `max-connections`", Some("0 is too small: the least is 1"), None),
        (&["shared-buffers=much"], "cannot set `shared-buffers`", Some("`much` is not a size"), Some("`512M`")),
    ] {
        let error = postgres14(&request(settings)).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(error.causes().first().map(String::as_str), cause);
        assert!(hint.is_none_or(|hint| error.find_hint().unwrap().contains(hint)), "{:?}", error.find_hint());
    }
    let redis = Catalog::built_in().unwrap();
    let image = facts(
        "redis:7",
        ImageConfig { entrypoint: vec!["e".into()], cmd: vec!["redis-server".into()], ..ImageConfig::default() },
    );
    let redis = |settings: &[&str]| plan(&request(settings), &redis.find("redis@7").unwrap(), &image, &host());
    let error = redis(&["max-memory-policy=lru"]).unwrap_err();
    assert!(error.find_hint().unwrap().starts_with("choose one of: noeviction, allkeys-lru"));
    let base = ["e", "redis-server", "--unixsocket", "/tmp/redis.sock"];
    assert_eq!(redis(&[]).unwrap().process.args, base);
    let all = redis(&["append-only=yes", "max-memory=1K", "append-only=no", "append-only=on"]).unwrap();
    assert_eq!(all.process.args, [&base[..], &["--appendonly", "yes", "--maxmemory", "1024"]].concat());
    assert_eq!(all.settings["append-only"], "true");
    assert_eq!(all.stop.signal, "SIGTERM");
}

#[test]
fn the_last_of_several_counts() {
    let mut twice = request(&["user=a", "user=b"]);
    twice.env = vec![("A".into(), "1".into()), ("A".into(), "2".into())];
    let plan = postgres14(&twice).unwrap();
    assert_eq!((plan.process.env["POSTGRES_USER"].as_str(), plan.process.env["A"].as_str()), ("b", "2"));
}

/// A recipe around `[run]` and more, and a plan of it.
fn small(rest: &str, config: ImageConfig) -> Result<Plan> {
    let text = format!(
        "[recipe]\nschema = 1\nname = \"small\"\ntitle = \"Small\"\nsummary = \"s\"\ndefault-version = \"1\"\n\
         [versions.1]\ntag = \"1\"\n[image]\nreference = \"small\"\n[ready]\nprobe = \"started\"\n[run]\nuid = 7\n{rest}"
    );
    let recipe: Recipe = parse(&text, "small.toml")?;
    let selected = Selected { version: recipe.version(None)?, recipe: &recipe, source: "user" };
    let request = Request { name: Some("My_App:x.y@Z".parse()?), ..Request::default() };
    plan(&request, &selected, &facts("small:1", config), &host())
}

#[test]
fn the_recipe_replaces_what_it_names_and_the_image_gives_the_rest() {
    let list = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let config = ImageConfig {
        entrypoint: list(&["entry"]),
        cmd: list(&["cmd", "-x"]),
        workdir: "srv//app/".into(),
        stop_signal: Some("3".into()),
        ..ImageConfig::default()
    };
    let plan = small("", config.clone()).unwrap();
    assert_eq!(plan.process.args, ["entry", "cmd", "-x"]);
    assert_eq!((plan.process.cwd.as_str(), plan.stop.signal.as_str()), ("/srv/app", "SIGQUIT"));
    assert_eq!((plan.process.uid, plan.process.gid), (7, 7));
    assert_eq!(plan.process.hostname, "my-app-x-y-z");
    assert_eq!(small("args = [\"{name}\", \"{{\"]", config.clone()).unwrap().process.args, ["entry", "My_App:x.y@Z", "{"]);
    assert_eq!(small("entrypoint = [\"other\"]", config.clone()).unwrap().process.args, ["other"]);
    let other = small("cwd = \"/x\"\ngid = 8\n[stop]\nsignal = \"usr1\"", config).unwrap();
    assert_eq!((other.process.cwd.as_str(), other.process.gid, other.stop.signal.as_str()), ("/x", 8, "SIGUSR1"));
}

#[test]
fn images_that_cannot_be_run_are_refused_with_the_reason() {
    let run = ImageConfig { cmd: vec!["x".into()], ..ImageConfig::default() };
    let nul = |key: &str, value: &str| ImageConfig { env: vec![(key.into(), value.into())], ..run.clone() };
    assert!(small("", run.clone()).is_ok());
    for (config, what) in [
        (ImageConfig::default(), "neither the image nor the recipe says what to run"),
        (ImageConfig { stop_signal: Some("SIGNOT".into()), ..run.clone() }, "STOPSIGNAL"),
        (ImageConfig { workdir: "/a/../..".into(), ..run.clone() }, "WORKDIR"),
        (ImageConfig { volumes: vec!["/".into()], ..run.clone() }, "VOLUME"),
        (ImageConfig { cmd: vec!["x".into(), "a\0b".into()], ..run.clone() }, "NUL"),
        (nul("A", "\0"), "cannot be passed on"),
        (nul("", "x"), "cannot be passed on"),
    ] {
        let error = small("", config).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn a_service_on_every_address_is_reached_on_loopback() {
    let open = Request { ports: vec!["0.0.0.0".parse().unwrap()], ..Request::default() };
    let plan = postgres14(&open).unwrap();
    assert_eq!(plan.ports[0].host.to_string(), "0.0.0.0:5432");
    assert!(plan.connect.url.unwrap().ends_with("@127.0.0.1:5432/postgres"));
    assert_eq!(plan.connect.env["PGHOST"], "127.0.0.1");
    let catalog = Catalog::built_in().unwrap();
    let six = Host::new(Ipv6Addr::LOCALHOST.into());
    let plan = super::plan(&Request::default(), &catalog.find("postgres@14").unwrap(), &old_postgres(), &six).unwrap();
    assert!(plan.connect.url.unwrap().ends_with("@[::1]:5432/postgres"));
    assert_eq!(plan.connect.env["PGHOST"], "::1");
}

#[test]
fn every_built_in_version_can_be_planned() {
    let catalog = Catalog::built_in().unwrap();
    for entry in catalog.entries() {
        for version in &entry.recipe.versions {
            let selected = Selected { recipe: &entry.recipe, version, source: entry.source };
            let config = ImageConfig { cmd: vec!["x".into()], ..ImageConfig::default() };
            let reference = selected.reference().unwrap().to_string();
            let plan = plan(&Request::default(), &selected, &facts(&reference, config), &host()).unwrap();
            round_trip(&plan);
            plan.connect.reveal(&|_| Some("secret".into())).unwrap();
        }
    }
}
