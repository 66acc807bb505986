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
    /// The credential files name a helper.
    helper: bool,
    faults: Vec<(Endpoint, Fault)>,
}

impl<'a> Blame<'a> {
    pub fn new(reference: &'a Reference, what: String, helper: bool) -> Self {
        Blame { reference, what, helper, faults: Vec::new() }
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
        let Blame { reference, what, helper, faults } = self;
        let why: Vec<String> = faults.iter().map(|(endpoint, fault)| format!("{endpoint}: {}", fault.why)).collect();
        // The registry itself decides what kind of failure it is; its mirrors only know what they hold.
        let Some(own) = faults.iter().max_by_key(|(endpoint, _)| !endpoint.mirror) else {
            return Error::failed(format!("{what} `{reference}`"));
        };
        let (kind, what) = match own.1.class {
            Class::Missing => (Kind::NotFound, format!("no image `{reference}`")),
            Class::Host => (Kind::HostCannot, format!("{what} `{reference}`")),
            _ => (Kind::Failed, format!("{what} `{reference}`")),
        };
        // But where the registry cannot be reached at all, help with the mirror that could have done it.
        let close = |(_, fault): &&(Endpoint, Fault)| !matches!(fault.class, Class::Missing | Class::Unreachable { .. });
        let helpful = match own.1.class {
            Class::Unreachable { .. } => faults.iter().find(close).unwrap_or(own),
            _ => own,
        };
        Error::new(kind, what).because(why.join("; ")).hint(advice(reference, helpful, helper))
    }
}

fn advice(reference: &Reference, (endpoint, fault): &(Endpoint, Fault), helper: bool) -> String {
    let registry = &reference.registry;
    let mirror = format!("[registry.\"{registry}\"] mirrors = [\"http://HOST:PORT\"]");
    match fault.class {
        _ if fault.hint.is_some() => fault.hint.clone().unwrap_or_default(),
        Class::Missing => format!("check the name and the tag at {registry}"),
        Class::Denied => {
            let host = &endpoint.account;
            let helper = if helper { " (credential helpers are not used: it must store the password itself)" } else { "" };
            format!(
                "the repository may not exist, or be private: log in with `podman login {host}` or `docker login {host}`{helper}"
            )
        }
        Class::Unreachable { .. } => format!("is {endpoint} reachable from here? A mirror can be named in config.toml: {mirror}"),
        Class::Limited { .. } => format!("wait, log in to {}, or name a mirror in config.toml: {mirror}", endpoint.account),
        Class::Passing { .. } => {
            format!("try again later, or name a mirror in config.toml: {mirror}; what was downloaded is kept")
        }
        Class::Wrong | Class::Host | Class::Local(_) => format!("nothing of it was kept; tell the operator of {endpoint}"),
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
        let login = error(Class::Denied, Class::Unreachable { silent: true });
        assert!(login.find_hint().unwrap().contains("podman login 127.0.0.1:5000"), "{login:?}");
        assert_eq!(error(Class::Wrong, Class::Host).kind(), Kind::HostCannot);
    }
}
