//! `steading run`, and its hidden helper `steading prepare`.

use super::dispatch::App;
use super::exec::Options;
use crate::error::{Error, Result};
use crate::image::{Reference, UserText};
use crate::resolve::{OneOff, VolumeOverride};
use crate::service::{self, RunRequest};
use clap::{Args, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run an image once, in the foreground
///
/// A container that is isolated as a service is, from any image; the image is pulled if it is not here. What it writes goes when it ends,
/// but for what it writes into directories of the host that it was given. The image's own entrypoint, command,
/// environment, user and working directory apply. The image's user is mapped to you, and there is no other user inside; but an image
/// that starts as root has all ids of your subordinate range, if you have one, and may become any of them: it has those of Docker's
/// capabilities that this takes (CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETPCAP, SETUID), any other image has none.
///
/// In a directory of the host that it was given, what its root or an image's own user wrote belongs to you; what a user wrote whom root
/// became belongs to an id of your range, and only a container can change or delete it: `steading run --image busybox --volume DIR:/d --
/// chown -R 0:0 /d` gives it to you.
///
/// The command has a terminal of its own when standard input and output are terminals; otherwise it has the standard streams of
/// `steading run`. Signals are passed on. If `steading run` is killed, so is the container, and what it left goes with the next run.
///
/// Exit code: the command's; 128 and the signal's number when a signal ended it; 127 when there is no such command, 126 when it cannot
/// be executed; 1 to 4 when the container cannot be made.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  steading run --image debian:trixie\n  \
    steading run --image postgres:14 --volume $PWD:/work:ro --workdir /work -- psql --version\n  \
    steading run --image busybox --entrypoint sh -- -c 'echo $HOSTNAME'")]
pub(crate) struct Run {
    /// The image: NAME[:TAG] or NAME@DIGEST
    #[arg(long, value_name = "REF")]
    image: Reference,
    #[command(flatten)]
    options: Options,
    /// User inside, USER[:GROUP] by name or number [default: the image's]
    #[arg(short, long, value_name = "USER")]
    user: Option<UserText>,
    /// A directory or file of the host: /HOST:/PATH, with `:ro` read-only; ./HOST is below the working directory
    #[arg(short, long, value_name = "VOLUME")]
    volume: Vec<OsString>,
    /// In place of the image's entrypoint and command; '' for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Which network it has; only loopback so far
    #[arg(long, value_name = "NETWORK", value_enum, default_value_t = Network::None)]
    network: Network,
    /// The root file system cannot be written, only the image's volumes and those given
    #[arg(long)]
    read_only: bool,
    /// A small process is pid 1, which reaps orphans and passes signals on; always so with a terminal
    #[arg(long)]
    init: bool,
    /// For habit's sake: what the container wrote always goes when it ends
    #[arg(long)]
    rm: bool,
    /// Write the OCI bundle (config.json, rootfs/, etc/) into this directory and run nothing
    #[arg(long, value_name = "DIR", conflicts_with = "runtime")]
    bundle: Option<PathBuf>,
    /// Run it by this OCI runtime, e.g. crun, from a copy of the image's files; to compare: it is slower, your own id is the only one
    /// inside, and exit codes of what cannot be started are the runtime's
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<OsString>,
    /// In place of the image's command
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Networks of a container that runs once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Network {
    /// Loopback alone
    None,
}

impl Run {
    pub(crate) fn run(self, quiet: bool) -> Result<ExitCode> {
        let Network::None = self.network;
        let text = |what: &str, value: OsString| {
            value.into_string().map_err(|value| Error::usage(format!("`{what} {}` is not UTF-8", value.display())))
        };
        let env = self.options.env()?.into_iter().map(|(key, value)| Ok((key, text("--env", value)?)));
        let wishes = OneOff {
            entrypoint: self.entrypoint,
            command: self.command,
            env: env.collect::<Result<_>>()?,
            workdir: self.options.workdir()?.map(|path| text("--workdir", path)).transpose()?,
            volumes: self.volume.iter().map(|text| VolumeOverride::parse(&absolute(text)?)).collect::<Result<_>>()?,
            read_only: self.read_only,
            init: self.init,
        };
        let terminal = self.options.terminal();
        let mut request = RunRequest { image: self.image, user: self.user, wishes, terminal, quiet };
        if let Some(term) = std::env::var("TERM").ok().filter(|_| terminal) {
            // What the user gave comes after it.
            request.wishes.env.insert(0, ("TERM".to_owned(), term));
        }
        match (&self.bundle, &self.runtime) {
            (Some(directory), _) => service::bundle(&request, directory),
            (None, Some(program)) => service::run_by(&request, program),
            (None, None) => service::run(&request),
        }
    }
}

/// A volume whose host part begins with `.`, from the root.
fn absolute(volume: &OsStr) -> Result<OsString> {
    let bytes = volume.as_bytes();
    let rest = match bytes {
        [b'.', b'/', rest @ ..] => rest,
        [b'.', rest @ ..] if rest.starts_with(b":") => rest,
        _ => return Ok(volume.to_owned()),
    };
    let mut path =
        std::env::current_dir().map_err(|error| Error::failed("there is no working directory").because(error))?.into_os_string();
    if !rest.starts_with(b":") {
        path.push("/");
    }
    path.push(OsStr::from_bytes(rest));
    Ok(path)
}

/// Brings what a run needs: the image, the yard
#[derive(Debug, Args)]
pub(crate) struct Prepare {
    /// Pull this image
    #[arg(long, value_name = "REF")]
    image: Option<Reference>,
    /// Start the yard
    #[arg(long)]
    yard: bool,
}

impl Prepare {
    pub(crate) async fn run(self, app: &App) -> Result<()> {
        service::prepare(&app.context()?, self.image.as_ref(), self.yard).await
    }
}
