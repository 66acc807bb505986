//! How a service is reached: its URL, environment and client, with the secrets filled in.

use super::Context;
use crate::error::{Error, Result};
use crate::resolve::{Connect, ServiceName};
use crate::state::{Secret, Services};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

/// The URL of a service, secrets percent-encoded into it.
///
/// # Errors
/// When the service is not installed or has no URL; those of reading its secrets.
pub fn url(context: &Context, name: &ServiceName) -> Result<String> {
    connect(context, name)?.url.ok_or_else(|| Error::failed(format!("`{name}` has no URL")))
}

/// The environment for clients of a service.
///
/// # Errors
/// When the service is not installed; those of reading its secrets.
pub fn environment(context: &Context, name: &ServiceName) -> Result<BTreeMap<String, String>> {
    connect(context, name).map(|connect| connect.env)
}

/// All of it.
pub(super) fn connect(context: &Context, name: &ServiceName) -> Result<Connect> {
    let plan = Services::new(&context.paths).load(name)?;
    reveal(&plan.connect, &context.paths.service(name).secrets())
}

/// The URL with `***` for every secret, for screens and logs.
pub(super) fn public_url(connect: &Connect) -> Option<String> {
    // Not by way of `reveal`, which would percent-encode the stars.
    let hidden = |_: &str| Some("***".to_owned());
    crate::recipe::fill_secrets(connect.url.as_deref()?, crate::recipe::Form::Plain, &hidden).ok()
}

fn reveal(connect: &Connect, directory: &Path) -> Result<Connect> {
    // The first failure is kept aside: templates can only be told that there is no value.
    let failure = RefCell::new(None);
    let value = |name: &str| match read(directory, name) {
        Ok(text) => Some(text),
        Err(error) => {
            failure.borrow_mut().get_or_insert(error);
            None
        }
    };
    let revealed = connect.reveal(&value);
    failure.take().map_or(revealed, Err)
}

fn read(directory: &Path, name: &str) -> Result<String> {
    let secret = Secret::read(directory, name)?;
    // Whoever writes the file with an editor ends it with a newline; the entrypoints of images drop that too.
    let bytes = secret.expose().strip_suffix(b"\n").unwrap_or(secret.expose());
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::failed(format!("the secret `{name}` is not UTF-8 text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_filled_in_and_hidden() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("password"), "a b/ü\n").unwrap();
        let connect = Connect {
            url: Some("x://u:{secret.password}@h/{{db}}".into()),
            env: [("PW".to_owned(), "{secret.password}".to_owned())].into(),
            shell: vec![],
        };
        let revealed = reveal(&connect, dir.path()).unwrap();
        assert_eq!(revealed.url.as_deref(), Some("x://u:a%20b%2F%C3%BC@h/{db}"));
        assert_eq!(revealed.env["PW"], "a b/ü");
        assert_eq!(public_url(&connect).as_deref(), Some("x://u:***@h/{db}"));
        std::fs::remove_file(dir.path().join("password")).unwrap();
        assert!(reveal(&connect, dir.path()).unwrap_err().what().contains("secret"));
    }
}
