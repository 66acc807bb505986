//! What a process of a container may do: capabilities kept, resource limits. The same for the service and for what joins it.

use crate::error::{Error, Result};
use crate::recipe::CAPABILITIES;
use crate::resolve::{Isolation, Rlimit};
use crate::sys::caps::{self, Set};
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Capabilities and limits of a plan.
#[derive(Clone, Debug, Default)]
pub(super) struct Privileges {
    capabilities: Set,
    limits: Vec<(String, Rlimit)>,
}

impl Privileges {
    /// Those of a plan.
    pub(super) fn of(isolation: &Isolation) -> Self {
        let number = |name: &String| CAPABILITIES.iter().zip(0_u8..).find(|(known, _)| *known == name).map(|(_, number)| number);
        let capabilities = isolation.capabilities.iter().filter_map(number).fold(Set::EMPTY, Set::with);
        let limits = isolation.rlimits.iter().map(|(name, limit)| (name.clone(), *limit)).collect();
        Privileges { capabilities, limits }
    }

    /// The capabilities.
    pub(super) fn capabilities(&self) -> Set {
        self.capabilities
    }

    /// Takes on the limits.
    pub(super) fn limit(&self) -> Result<()> {
        self.limits.iter().try_for_each(|(name, limit)| set_limit(name, limit))
    }

    /// Gives up all other capabilities, for good.
    pub(super) fn keep(&self) -> Result<()> {
        caps::keep(self.capabilities).map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::EINVAL) => "this kernel does not know a capability that the recipe asks for",
                _ => "see `steading doctor`",
            };
            Error::failed("cannot give up capabilities").because(error).hint(hint)
        })
    }
}

/// The kernel's limit of a name of [`crate::recipe::RLIMITS`].
fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

fn shown(limit: u64) -> String {
    if limit == RLIM_INFINITY { "infinity".to_owned() } else { limit.to_string() }
}

fn set_limit(name: &str, limit: &Rlimit) -> Result<()> {
    let kind = resource(name).ok_or_else(|| Error::failed(format!("there is no resource limit `{name}`")))?;
    let (soft, hard) = (limit.soft.unwrap_or(RLIM_INFINITY), limit.hard.unwrap_or(RLIM_INFINITY));
    setrlimit(kind, soft, hard).map_err(|errno| {
        let error = Error::host(format!("cannot set the resource limit `{name}` to {}", shown(hard))).because(errno);
        // setrlimit(2): only a process with CAP_SYS_RESOURCE on the host may raise a hard limit.
        match getrlimit(kind) {
            Ok((_, most)) if errno == Errno::EPERM => error.hint(format!(
                "the user's systemd allows {} at most; root raises that with the lines [Service] and Limit{}={} in \
                 /etc/systemd/system/user@.service.d/limits.conf, from the user's next login (or the next boot) on",
                shown(most),
                name.to_ascii_uppercase(),
                shown(hard)
            )),
            _ => error,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::RLIMITS;

    #[test]
    fn every_name_that_a_recipe_may_say_is_known() {
        for name in RLIMITS {
            assert!(resource(name).is_some(), "{name}");
        }
        let asked = Isolation { capabilities: vec!["NET_ADMIN".into(), "CHECKPOINT_RESTORE".into()], ..Isolation::default() };
        assert_eq!(Privileges::of(&asked).capabilities, Set::EMPTY.with(12).with(40));
    }
}
