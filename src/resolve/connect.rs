//! The texts by which people and programs reach a service, with the secrets filled in.

use super::Connect;
use crate::error::Result;
use crate::recipe::{Form, fill_secrets};

impl Connect {
    /// The same with every text final: secrets filled in, percent-encoded where the text is a URL, and braces unescaped.
    /// Made only to be shown or handed to a client; it is never stored.
    ///
    /// # Errors
    /// When a text asks for a secret that `secret` does not know.
    pub fn reveal(&self, secret: &dyn Fn(&str) -> Option<String>) -> Result<Connect> {
        let url = self.url.as_deref().map(|url| fill_secrets(url, Form::Url, secret)).transpose()?;
        let mut env = std::collections::BTreeMap::new();
        for (key, text) in &self.env {
            env.insert(key.clone(), fill_secrets(text, form_of_variable(key), secret)?);
        }
        let shell: Result<Vec<String>> = self.shell.iter().map(|text| fill_secrets(text, Form::Plain, secret)).collect();
        Ok(Connect { url, env, shell: shell? })
    }
}

/// A variable for clients whose name says that it holds a URL is filled as one.
pub(super) fn form_of_variable(key: &str) -> Form {
    if key.ends_with("_URL") || key.ends_with("_URI") { Form::Url } else { Form::Plain }
}
