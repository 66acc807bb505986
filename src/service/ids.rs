//! The ids of a service: whether this host has what its plan needs, and the map that it gets.

use super::Context;
use super::transaction::Transaction;
use crate::error::{Error, Result};
use crate::idmap::{self, Helpers, IDMAPPED_FUSE, IdMaps, Needs, USUAL};
use crate::resolve::{IdKind, Plan};
use crate::state::PrivateIds;
use crate::sys::kernel::version_of;
use nix::sys::utsname::uname;
use nix::unistd::{User, getgid, getuid};
use std::io;

/// Fails when this host does not give what the plan's kind of map needs. Nothing is chosen yet.
pub(super) fn check(plan: &Plan) -> Result<()> {
    let needed = &plan.isolation;
    if needed.ids.is_user() {
        return Ok(());
    }
    let u0 = u0(plan)?;
    let (uid, gid) = (plan.process.uid, plan.process.gid);
    if needed.ids == IdKind::Range {
        let range = idmap::range(&u0);
        let missing = [(uid, range.uids.has(uid)), (gid, range.gids.has(gid))].into_iter().find(|(_, has)| !has);
        return match missing {
            Some((id, _)) => Err(lacks(plan, &format!("the id {id} is not in this user's range"))),
            None => Ok(()),
        };
    }
    if kernel().is_some_and(|found| found < IDMAPPED_FUSE) {
        let (major, minor) = IDMAPPED_FUSE;
        let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
        return Err(Error::host(format!(
            "`{}` runs with private ids, and this kernel cannot map the owners of an image's files",
            plan.name
        ))
        .because(io::Error::other(format!("Linux {major}.{minor} is the first that can; this is {release}")))
        .hint("boot a later kernel, or copy the recipe and change it to `ids = \"range\"`"));
    }
    let none = IdMaps::default();
    match idmap::private(&Needs::of((uid, gid), &needed.extra_ids), &none, &none, &u0) {
        Some(_) => Ok(()),
        None => Err(lacks(plan, &format!("private ids come from the end of a range of {USUAL}, and this user's is smaller"))),
    }
}

/// The map of the service, in ids of the host. Ids of a `private` one are chosen here and written down. The caller holds the lock on
/// what services share, and the service's directory exists.
pub(super) fn map(context: &Context, plan: &Plan, steps: &mut Transaction) -> Result<IdMaps> {
    let service = (plan.process.uid, plan.process.gid);
    match plan.isolation.ids {
        IdKind::User => Ok(one_line(plan)),
        IdKind::Range => Ok(idmap::range(&u0(plan)?)),
        IdKind::Private => {
            let directory = context.paths.service(&plan.name);
            let all = PrivateIds::new(&context.paths);
            let needs = Needs::of(service, &plan.isolation.extra_ids);
            let ids = idmap::private(&needs, &all.of(&directory)?, &all.taken(&directory)?, &u0(plan)?)
                .ok_or_else(|| lacks(plan, "all ids that private services may have are in use"))?;
            if !directory.ids().exists() {
                steps.made_file(directory.ids());
            }
            PrivateIds::write(&directory, &ids)?;
            Ok(ids)
        }
    }
}

/// The map of a plan with no other ids than the service's own.
pub(super) fn one_line(plan: &Plan) -> IdMaps {
    idmap::user((plan.process.uid, plan.process.gid), own())
}

/// The user's own ids, as the yard has them: not those of a shell under newgrp(1).
fn own() -> (u32, u32) {
    let uid = getuid();
    let gid = User::from_uid(uid).ok().flatten().map_or_else(getgid, |user| user.gid);
    (uid.as_raw(), gid.as_raw())
}

/// The maps that the yard has, or will have when it is started next.
fn u0(plan: &Plan) -> Result<IdMaps> {
    let found = idmap::subordinate()?;
    if !found.is_usable() {
        return Err(lacks(plan, "this user has no subordinate ids in /etc/subuid and /etc/subgid"));
    }
    if Helpers::find().is_none() {
        return Err(lacks(plan, "newuidmap and newgidmap, which map subordinate ids, are not installed"));
    }
    let (uid, gid) = own();
    Ok(idmap::u0(uid, gid, Some(&found)))
}

fn lacks(plan: &Plan, why: &str) -> Error {
    let kind = plan.isolation.ids.as_str();
    Error::host(format!("`{}` needs more ids than the user's own (`ids = \"{kind}\"` in its recipe)", plan.name))
        .because(io::Error::other(why.to_owned()))
        .hint(remedy())
}

/// What an administrator does.
fn remedy() -> String {
    let user = User::from_uid(getuid()).ok().flatten().map_or_else(|| getuid().to_string(), |user| user.name);
    idmap::remedy(&user, Helpers::find().is_some())
}

fn kernel() -> Option<(u32, u32)> {
    let name = uname().ok()?;
    version_of(name.release().to_str()?)
}
