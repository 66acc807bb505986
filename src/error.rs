//! The one error type: *what* failed, *why* (a chain of causes), a *hint* what to do, and a [`Kind`] that
//! becomes the exit code. The three texts are separate channels and never repeat each other.

use std::error::Error as StdError;
use std::fmt;

/// Result with steading's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What class of failure it is; decides the exit code (design: 1 failed, 2 usage, 3 not found, 4 host cannot;
/// 126 and 127 as with env(1)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The thing was tried and failed.
    Failed,
    /// The words of the command, a setting or a file are wrong.
    Usage,
    /// A recipe, version, service or image of that name does not exist.
    NotFound,
    /// This host lacks something; `steading doctor` says what.
    HostCannot,
    /// The program in the container is there and cannot be executed.
    NotExecutable,
    /// There is no such program in the container.
    NoProgram,
}

impl Kind {
    /// Exit code of the process.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NotFound => 3,
            Kind::HostCannot => 4,
            Kind::NotExecutable => 126,
            Kind::NoProgram => 127,
        }
    }
}

/// An error: what failed, why, and what to do about it.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `what` failed.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, what: what.into(), hint: None, source: None }))
    }

    /// [`Kind::Failed`] with `what`.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Kind::Failed, what)
    }

    /// [`Kind::Usage`] with `what`.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// [`Kind::NotFound`] with `what`.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, what)
    }

    /// [`Kind::HostCannot`] with `what`.
    pub fn host(what: impl Into<String>) -> Self {
        Self::new(Kind::HostCannot, what)
    }

    /// Sets why it failed.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Sets what the reader can do about it (no final period, no `hint:` prefix).
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The class of the failure.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What failed, without the causes.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// The hint nearest to the top of the chain.
    #[must_use]
    pub fn find_hint(&self) -> Option<&str> {
        if let Some(hint) = &self.0.hint {
            return Some(hint);
        }
        let mut next = StdError::source(self);
        while let Some(cause) = next {
            if let Some(Error(inner)) = cause.downcast_ref::<Error>()
                && let Some(hint) = &inner.hint
            {
                return Some(hint);
            }
            next = cause.source();
        }
        None
    }

    /// The causes, outermost first, as texts.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let mut list = Vec::new();
        let mut next = StdError::source(self);
        while let Some(cause) = next {
            let text = cause.to_string();
            if list.last() != Some(&text) {
                list.push(text);
            }
            next = cause.source();
        }
        list
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Adds *what failed* to a foreign error, which becomes the *why*.
pub trait Context<T> {
    /// Wraps the error; `what` is made only on failure. A wrapped [`Error`] keeps its [`Kind`].
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E> Context<T> for std::result::Result<T, E>
where
    E: StdError + Send + Sync + 'static,
{
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| {
            let source: Box<dyn StdError + Send + Sync> = Box::new(source);
            let kind = source.downcast_ref::<Error>().map_or(Kind::Failed, Error::kind);
            Error::new(kind, what()).because(source)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_error_keeps_kind_and_hint_and_says_nothing_twice() {
        let inner = Error::not_found("no recipe `postgre`").hint("did you mean `postgres`?");
        let outer = Err::<(), _>(inner).context(|| "cannot install").unwrap_err();
        assert_eq!(outer.kind(), Kind::NotFound);
        assert_eq!(outer.find_hint(), Some("did you mean `postgres`?"));
        assert_eq!(outer.causes(), ["no recipe `postgre`"]);
        assert_eq!(outer.to_string(), "cannot install");
    }
}
