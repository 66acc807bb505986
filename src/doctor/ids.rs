//! Subordinate ids: what services with `range` or `private` ids need. Others need none, so nothing here is fatal.

use super::facts::Facts;
use super::probe::{Outcome, Probe};
use super::report::Finding;
use crate::idmap::{self, Helpers, IDMAPPED_FUSE, USUAL};
use crate::sys::kernel::version_of;

/// What this host gives the user of subordinate ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdFacts {
    /// How many user ids and group ids there are; or what is wrong in the files that should tell, and what to do.
    pub counts: Result<(u64, u64), (String, String)>,
    /// Whether newuidmap(1) and newgidmap(1) are installed.
    pub helpers: bool,
    /// What gives a range.
    pub remedy: String,
}

impl IdFacts {
    pub(super) fn gather(user: &str) -> IdFacts {
        let sum = |extents: &[idmap::Extent]| extents.iter().map(|extent| u64::from(extent.count)).sum();
        let helpers = Helpers::find().is_some();
        IdFacts {
            counts: idmap::subordinate()
                .map(|found| (sum(&found.uids), sum(&found.gids)))
                .map_err(|error| (error.to_string(), error.find_hint().unwrap_or_default().to_owned())),
            helpers,
            remedy: idmap::remedy(user, helpers),
        }
    }
}

pub(super) fn check(facts: &Facts) -> Finding {
    const NEEDED: &str = "services with `range` or `private` ids cannot be installed";
    let ids = &facts.ids;
    let (uids, gids) = match &ids.counts {
        Ok(counts) => *counts,
        Err((what, remedy)) => return Finding::warning(what.clone()).cause(NEEDED).remedy(remedy.clone()),
    };
    let count = uids.min(gids);
    if uids == 0 && gids == 0 {
        return Finding::ok("none; few services need them (those with `range` or `private` ids)");
    }
    if count == 0 {
        return Finding::warning(format!("{uids} user ids and {gids} group ids; a map needs both"))
            .cause(NEEDED)
            .remedy(ids.remedy.clone());
    }
    if !ids.helpers {
        return Finding::warning(format!("{count}, but newuidmap and newgidmap are not installed"))
            .cause(NEEDED)
            .remedy("install the package `uidmap` (Debian, Ubuntu) or `shadow-utils`");
    }
    if let Some(Outcome::Fails { step, error, .. }) = facts.probes.get(&Probe::Range)
        && !matches!(facts.probes.get(&Probe::Userns), Some(Outcome::Fails { .. }))
    {
        return Finding::warning(format!("{count}, but they cannot be used"))
            .cause(format!("cannot {step}: {error}"))
            .remedy("newuidmap and newgidmap must be setuid root (or have file capabilities); reinstall the package `uidmap`");
    }
    if count < u64::from(USUAL) {
        return Finding::ok(format!("{count}; `private` ids need a range of {USUAL}"));
    }
    match version_of(&facts.kernel) {
        Some(found) if found < IDMAPPED_FUSE => Finding::ok(format!("{count} for `range` ids; `private` ones need Linux 6.12")),
        _ => Finding::ok(format!("{count}, for services with `range` or `private` ids")),
    }
}
