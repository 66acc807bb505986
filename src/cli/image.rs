//! `steading image`.

use super::dispatch::App;
use super::{human, printer};
use crate::error::Result;
use crate::image::Reference;
use crate::service::{self, ImageReport};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Pull, list and remove images
#[derive(Debug, Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Bring an image from its registry into the store
    Pull {
        /// E.g. postgres:14, quay.io/coreos/etcd:v3.5
        #[arg(value_name = "REFERENCE")]
        reference: Reference,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List the images of the store
    #[command(visible_alias = "ls")]
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show an image and its config
    Show {
        /// Reference, digest, or the beginning of one
        #[arg(value_name = "IMAGE")]
        image: String,
        /// As JSON, with the whole config
        #[arg(long)]
        json: bool,
    },
    /// Remove an image that no service uses
    #[command(visible_alias = "rm")]
    Remove {
        /// Reference, digest, or the beginning of one
        #[arg(value_name = "IMAGE", required_unless_present = "all", conflicts_with = "all")]
        image: Option<String>,
        /// All that no service uses
        #[arg(long)]
        all: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove all images that no service uses, and downloads that were left
    Prune {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

impl Image {
    pub(crate) async fn run(self, app: &App) -> Result<()> {
        let context = app.context()?;
        match self.what {
            What::Pull { reference, json } => {
                let digest = service::pull_image(&context, &reference).await?;
                app.progress.clear();
                if json {
                    return app.printer.json(&json!({ "reference": reference.to_string(), "digest": digest }));
                }
                app.printer.line(digest)
            }
            What::List { json } => list(app, &service::images(&context)?, json),
            What::Show { image, json } => {
                let (report, config, parsed) = service::show_image(&context, &image)?;
                if json {
                    let config: Value = serde_json::from_slice(&config).unwrap_or(Value::Null);
                    let mut value = describe(&report);
                    if let Value::Object(map) = &mut value {
                        map.insert("config".to_owned(), config);
                    }
                    return app.printer.json(&value);
                }
                app.printer.bytes(show(&report, &parsed).as_bytes())
            }
            What::Remove { image: Some(image), json, .. } => {
                let (digest, freed) = service::remove_image(&context, &image).await?;
                app.progress.clear();
                if json {
                    return app.printer.json(&json!({ "removed": [digest], "freed_bytes": freed.bytes }));
                }
                printer::note(&format!("{image} is removed, {} freed", human::bytes(freed.bytes)));
                Ok(())
            }
            What::Remove { image: None, json, .. } => {
                let (removed, kept, freed) = service::remove_all_images(&context).await?;
                kept.iter()
                    .filter(|_| !json)
                    .for_each(|report| printer::note(&format!("{} stays: {}", name(report), users(report))));
                gone(app, &removed, freed.bytes, json)
            }
            What::Prune { json } => {
                let (removed, freed) = service::prune(&context).await?;
                gone(app, &removed, freed.bytes, json)
            }
        }
    }
}

fn gone(app: &App, removed: &[ImageReport], bytes: u64, json: bool) -> Result<()> {
    app.progress.clear();
    if json {
        let digests: Vec<_> = removed.iter().map(|report| report.digest).collect();
        return app.printer.json(&json!({ "removed": digests, "freed_bytes": bytes }));
    }
    removed.iter().for_each(|report| printer::note(&format!("{} is removed", name(report))));
    printer::note(&format!("{} freed", human::bytes(bytes)));
    Ok(())
}

fn name(report: &ImageReport) -> String {
    report.references.first().cloned().unwrap_or_else(|| report.digest.to_string())
}

fn users(report: &ImageReport) -> String {
    report.used_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn describe(report: &ImageReport) -> Value {
    json!({
        "digest": report.digest,
        "references": report.references,
        "size_bytes": report.size,
        "entries": report.entries,
        "layers": report.layers,
        "created": human::rfc3339(report.created),
        "used_by": report.used_by,
    })
}

fn list(app: &App, images: &[ImageReport], json: bool) -> Result<()> {
    if json {
        return app.printer.json(&images.iter().map(describe).collect::<Vec<_>>());
    }
    if images.is_empty() {
        printer::note("the store has no image");
        return Ok(());
    }
    let row = |report: &ImageReport| {
        let references = if report.references.is_empty() { "-".to_owned() } else { report.references.join(" ") };
        vec![references, report.digest.short(), human::bytes(report.size), human::ago(report.created), users(report)]
    };
    app.printer.table(&["IMAGE", "DIGEST", "SIZE", "PULLED", "USED BY"], &images.iter().map(row).collect::<Vec<_>>())
}

fn show(report: &ImageReport, config: &crate::image::ImageConfig) -> String {
    let words = |list: &[String]| list.join(" ");
    let size = format!("{} in {} entries of {} layers", human::bytes(report.size), report.entries, report.layers);
    let mut lines = vec![
        ("digest", report.digest.to_string()),
        ("names", words(&report.references)),
        ("platform", format!("{}/{}", config.os, config.architecture)),
        ("size", size),
        ("pulled", human::ago(report.created)),
        ("used by", users(report)),
        ("user", config.user.clone()),
        ("command", words(&[config.entrypoint.clone(), config.cmd.clone()].concat())),
        ("workdir", config.workdir.clone()),
        ("volumes", words(&config.volumes)),
        ("ports", words(&config.exposed)),
        ("stop", config.stop_signal.clone().unwrap_or_default()),
    ];
    lines.extend(config.env.iter().map(|(key, value)| ("env", format!("{key}={value}"))));
    let mut text = String::new();
    for (key, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key:9} {}", printer::clean(&value));
    }
    text
}
