//! Limits that this host will not hold a service to. systemd takes them all without a word.

use super::Context;
use crate::error::Result;
use crate::resolve::Plan;
use crate::systemd::Manager;
use crate::unit;

/// What an administrator does to give users' services all controllers.
const DELEGATE: &str = "root can delegate it: in /etc/systemd/system/user@.service.d/delegate.conf the lines [Service] and \
    Delegate=cpu cpuset io memory pids, then `systemctl daemon-reload` and a new login (or a reboot)";

/// Warns of each limit of `plan` that will have no effect.
pub(super) async fn warn(context: &Context, plan: &Plan, manager: &Manager) -> Result<()> {
    if let Some(controllers) = manager.controllers().await? {
        for (property, controller) in unit::unenforced(&plan.limits, &controllers) {
            context.reporter.warn(&format!(
                "{property} will not be enforced: the user's systemd has no controller `{controller}`; {DELEGATE}"
            ));
        }
    }
    if let (Some(asked), Some(least)) = (plan.limits.oom_score_adjust, manager.oom_score().await?)
        && asked < least
    {
        context.reporter.warn(&format!(
            "OOMScoreAdjust={asked} will not be set: the user's systemd has {least}, and only root can go below that"
        ));
    }
    Ok(())
}
