//! Start, stop, restart: a job of the manager, waited for to its end.

use super::connect::{plain, refused};
use super::manager::Manager;
use super::status::UnitStatus;
use crate::error::{Error, Result};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::time::Duration;
use zbus::message::Type;
use zbus::{MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant};

const SERVICE: &str = "org.freedesktop.systemd1";

/// How often a silent job is looked after: its end is lost when the manager re-executes itself at that moment.
const LOOK: Duration = Duration::from_secs(3);

/// How a job ended, in systemd's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// As wished.
    Done,
    /// The unit failed.
    Failed,
    /// The unit or the job took too long.
    Timeout,
    /// Another job replaced it.
    Canceled,
    /// A unit that it requires failed.
    Dependency,
    /// It did not apply to the unit's state.
    Skipped,
    /// Any other.
    Other(String),
}

impl JobResult {
    fn parse(text: &str) -> JobResult {
        match text {
            "done" => JobResult::Done,
            "failed" => JobResult::Failed,
            "timeout" => JobResult::Timeout,
            "canceled" => JobResult::Canceled,
            "dependency" => JobResult::Dependency,
            "skipped" => JobResult::Skipped,
            other => JobResult::Other(other.to_owned()),
        }
    }
}

/// The end of a job, and the unit right after it.
#[derive(Clone, Debug)]
pub struct JobOutcome {
    /// How the job ended.
    pub result: JobResult,
    /// The unit after the job.
    pub status: UnitStatus,
}

impl JobOutcome {
    /// An error unless the job is done. `what` says what failed, e.g. "`postgres@14` did not start".
    ///
    /// # Errors
    /// With the reason that systemd knows and the command that shows the service's own words.
    pub fn require(self, what: &str) -> Result<UnitStatus> {
        let unit = self.status.name.clone();
        let why = match &self.result {
            JobResult::Done => return Ok(self.status),
            JobResult::Canceled => "another job for the unit took its place".to_owned(),
            JobResult::Dependency => "a unit that it requires failed".to_owned(),
            JobResult::Timeout => self.status.why().unwrap_or_else(|| "it took too long".to_owned()),
            JobResult::Failed => self.status.why().unwrap_or_else(|| "systemd gives no reason".to_owned()),
            JobResult::Skipped => "the job was skipped".to_owned(),
            JobResult::Other(result) => format!("systemd says `{result}`"),
        };
        let why = match self.status.status_text.as_str() {
            "" => why,
            text => format!("{why}; its last words: {text}"),
        };
        Err(Error::failed(what).because(why).hint(format!("read its journal: journalctl --user -u {unit} -e")))
    }
}

/// What is done to a unit.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Start,
    Stop,
    Restart,
}

impl Manager {
    /// Starts a unit and waits until it is ready or has failed. `watch` gets what the service says of itself meanwhile.
    ///
    /// # Errors
    /// When there is no such unit, it is masked or not valid, or the manager is lost; a failed start is a [`JobOutcome`].
    pub async fn start(&self, unit: &str, watch: &mut (dyn FnMut(&str) + Send)) -> Result<JobOutcome> {
        self.job(Verb::Start, unit, watch).await
    }

    /// Stops a unit and waits until it is gone.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn stop(&self, unit: &str) -> Result<JobOutcome> {
        self.job(Verb::Stop, unit, &mut |_| {}).await
    }

    /// Restarts a unit (starts it if it is not running) and waits until it is ready or has failed.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&self, unit: &str, watch: &mut (dyn FnMut(&str) + Send)) -> Result<JobOutcome> {
        self.job(Verb::Restart, unit, watch).await
    }

    async fn job(&self, verb: Verb, unit: &str, watch: &mut (dyn FnMut(&str) + Send)) -> Result<JobOutcome> {
        let word = match verb {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
        };
        let wrong = |error: zbus::Error| refused(format!("cannot {word} `{unit}`"), unit, &error);
        let object = self.load(unit).await?;
        // Both listen before the job exists, so that nothing is missed.
        let mut removed = self.listen(job_removed(unit)).await.map_err(wrong)?;
        let mut changed = self.listen(properties_changed(&object)).await.map_err(wrong)?;
        let job = match verb {
            Verb::Start => self.proxy.start_unit(unit, "replace").await,
            Verb::Stop => self.proxy.stop_unit(unit, "replace").await,
            Verb::Restart => self.proxy.restart_unit(unit, "replace").await,
        }
        .map_err(wrong)?;
        let mut look = tokio::time::interval(LOOK);
        // The first tick comes at once.
        look.tick().await;
        let mut said = String::new();
        let result = loop {
            tokio::select! {
                biased;
                message = changed.next() => {
                    if let Some(text) = status_text(&received(message, unit)?)
                        && text != said && !text.is_empty()
                    {
                        watch(&text);
                        said = text;
                    }
                }
                message = removed.next() => {
                    if let Some(result) = end_of(&received(message, unit)?, &job) {
                        break result;
                    }
                }
                _ = look.tick() => {
                    if self.job_is_gone(&job).await {
                        break self.guess(verb, unit).await?;
                    }
                }
            }
        };
        Ok(JobOutcome { result, status: self.status(unit).await? })
    }

    async fn listen(&self, rule: zbus::Result<MatchRule<'static>>) -> zbus::Result<MessageStream> {
        MessageStream::for_match_rule(rule?, &self.connection, None).await
    }

    async fn job_is_gone(&self, job: &OwnedObjectPath) -> bool {
        let asked = self
            .connection
            .call_method(
                Some(SERVICE),
                job,
                Some("org.freedesktop.DBus.Properties"),
                "Get",
                &("org.freedesktop.systemd1.Job", "State"),
            )
            .await;
        matches!(asked, Err(zbus::Error::MethodError(..) | zbus::Error::FDO(_)))
    }

    /// The result of a job whose end was not seen, from the state of its unit.
    async fn guess(&self, verb: Verb, unit: &str) -> Result<JobResult> {
        let status = self.status(unit).await?;
        let done = match verb {
            Verb::Stop => !status.is_active(),
            Verb::Start | Verb::Restart => status.is_active(),
        };
        Ok(if done { JobResult::Done } else { JobResult::Failed })
    }
}

fn job_removed(unit: &str) -> zbus::Result<MatchRule<'static>> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(SERVICE)
        .path("/org/freedesktop/systemd1")
        .interface("org.freedesktop.systemd1.Manager")
        .member("JobRemoved")
        .arg(2, unit);
    Ok(rule.build()?.to_owned())
}

fn properties_changed(object: &OwnedObjectPath) -> zbus::Result<MatchRule<'static>> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(SERVICE)
        .path(object.as_str())
        .interface("org.freedesktop.DBus.Properties")
        .member("PropertiesChanged")
        .arg(0, "org.freedesktop.systemd1.Service");
    Ok(rule.build()?.to_owned())
}

fn received(message: Option<zbus::Result<Message>>, unit: &str) -> Result<Message> {
    let lost = || Error::failed(format!("lost the connection to systemd while it works on `{unit}`"));
    match message {
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(lost().because(plain(&error))),
        None => Err(lost()),
    }
}

fn status_text(message: &Message) -> Option<String> {
    let body = message.body();
    let (_, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) = body.deserialize().ok()?;
    changed.get("StatusText")?.try_clone().ok()?.try_into().ok()
}

fn end_of(message: &Message, job: &OwnedObjectPath) -> Option<JobResult> {
    let body = message.body();
    let (_, path, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize().ok()?;
    (path == *job).then(|| JobResult::parse(&result))
}
