//! From the faults of all endpoints of a registry to the one error the user sees.

use super::retry::{Class, Fault};
use super::settings::Endpoint;
use crate::error::{Error, Kind};
use crate::image::Reference;
use crate::report::Reporter;

/// The faults of the endpoints asked so far.
#[derive(Debug)]
pub(super) struct Blame<'a> {
    reference: &'a Reference,
    /// What was to be done, e.g. `cannot get the manifest of`.
    what: String,
    /// Advice for a refused login.
    login: String,
    faults: Vec<(Endpoint, Fault)>,
}

impl<'a> Blame<'a> {
    pub fn new(reference: &'a Reference, what: String, helper: bool) -> Self {
        let host = &reference.registry;
        let helper = if helper { " (credential helpers are not used: it must store the password itself)" } else { "" };
        let login = format!(
            "the repository may not exist, or be private: log in with `podman login {host}` or `docker login {host}`{helper}"
        );
        Blame { reference, what, login, faults: Vec::new() }
    }

    /// Notes why `endpoint` did not do; gives the error when asking another makes no sense.
    pub fn add(&mut self, endpoint: &Endpoint, fault: Fault) -> Result<(), Error> {
        if let Class::Local(error) = fault.class {
            return Err(error);
        }
        self.faults.push((endpoint.clone(), fault));
        Ok(())
    }

    /// Another endpoint did it: tells of those that did worse than not having it.
    pub fn forgive(&self, reporter: &dyn Reporter) {
        for (endpoint, fault) in &self.faults {
            if !matches!(fault.class, Class::Missing) {
                let role = if endpoint.mirror { "mirror" } else { "registry" };
                reporter.warn(&format!("{role} {endpoint}: {}, ignoring", fault.why));
            }
        }
    }

    /// The error, when no endpoint did it.
    pub fn into_error(self) -> Error {
        let Blame { reference, what, login, faults } = self;
        let why: Vec<String> = faults.iter().map(|(endpoint, fault)| format!("{endpoint}: {}", fault.why)).collect();
        let why = why.join("; ");
        // The registry itself decides what kind of failure it is; its mirrors only know what they hold.
        let Some((endpoint, fault)) = faults.into_iter().max_by_key(|(endpoint, _)| !endpoint.mirror) else {
            return Error::failed(format!("{what} `{reference}`"));
        };
        let registry = &reference.registry;
        let mirror = format!("[registry.\"{registry}\"] mirrors = [\"http://HOST:PORT\"]");
        let (kind, hint) = match fault.class {
            Class::Missing => (Kind::NotFound, format!("check the name and the tag at {registry}")),
            Class::Denied => (Kind::Failed, login),
            Class::Unreachable { .. } => {
                (Kind::Failed, format!("is {endpoint} reachable from here? A mirror can be named in config.toml: {mirror}"))
            }
            Class::Limited { .. } => {
                (Kind::Failed, format!("wait, log in to {registry}, or name a mirror in config.toml: {mirror}"))
            }
            Class::Passing { .. } => {
                (Kind::Failed, format!("try again later, or name a mirror in config.toml: {mirror}; what was downloaded is kept"))
            }
            Class::Wrong | Class::Local(_) => (Kind::Failed, format!("nothing of it was kept; tell the operator of {endpoint}")),
        };
        let what = if kind == Kind::NotFound { format!("no image `{reference}`") } else { format!("{what} `{reference}`") };
        Error::new(kind, what).because(why).hint(fault.hint.unwrap_or(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Endpoints, RegistrySettings};
    use super::*;
    use std::collections::BTreeMap;

    fn error(mirror: Class, own: Class) -> Error {
        let settings = RegistrySettings { mirrors: vec!["http://127.0.0.1:5000".into()], insecure: false };
        let endpoints = Endpoints::new(BTreeMap::from([("docker.io".to_owned(), settings)])).unwrap().of("docker.io").unwrap();
        let reference: Reference = "postgres:99".parse().unwrap();
        let mut blame = Blame::new(&reference, "cannot get the manifest of".into(), false);
        blame.add(&endpoints[0], Fault::new(mirror, "one")).unwrap();
        blame.add(&endpoints[1], Fault::new(own, "two")).unwrap();
        blame.into_error()
    }

    #[test]
    fn the_registry_itself_decides_and_all_reasons_are_told() {
        let missing = error(Class::Unreachable { silent: false }, Class::Missing);
        assert_eq!((missing.kind(), missing.to_string().as_str()), (Kind::NotFound, "no image `docker.io/library/postgres:99`"));
        assert_eq!(missing.causes(), ["http://127.0.0.1:5000: one; registry-1.docker.io: two"]);
        let far = error(Class::Missing, Class::Unreachable { silent: true });
        assert_eq!(far.kind(), Kind::Failed);
        assert_eq!(far.to_string(), "cannot get the manifest of `docker.io/library/postgres:99`");
        assert!(far.find_hint().unwrap().contains("[registry.\"docker.io\"] mirrors"));
    }
}
