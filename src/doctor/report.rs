//! What the checks found, as plain data.

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Services run, but something is missing.
    Warning,
    /// No service can run.
    Fatal,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, in a few words.
    pub found: String,
    /// What it leads to, or what stands behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn new(severity: Severity, found: impl Into<String>) -> Finding {
        Finding { name: "", severity, found: found.into(), cause: None, remedy: None }
    }

    pub(super) fn ok(found: impl Into<String>) -> Finding {
        Self::new(Severity::Ok, found)
    }

    pub(super) fn warning(found: impl Into<String>) -> Finding {
        Self::new(Severity::Warning, found)
    }

    pub(super) fn fatal(found: impl Into<String>) -> Finding {
        Self::new(Severity::Fatal, found)
    }

    pub(super) fn cause(mut self, cause: impl Into<String>) -> Finding {
        self.cause = Some(cause.into());
        self
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = Some(remedy.into());
        self
    }

    pub(super) fn named(mut self, name: &'static str) -> Finding {
        self.name = name;
        self
    }
}

/// All findings, in the order of the checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One for each check.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The worst severity.
    #[must_use]
    pub fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
    }

    /// The finding of a check.
    #[must_use]
    pub fn finding(&self, name: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.name == name)
    }
}
