//! How a service is reached: its URL and environment, with the secrets filled in.

use super::Context;
use crate::error::{Error, Result};
use crate::resolve::ServiceName;
use crate::state::{Secret, Services};
use std::collections::BTreeMap;

/// The URL of a service, secrets percent-encoded into it. Bytes, though only a secret that is not UTF-8 is not ASCII.
///
/// # Errors
/// When the service is not installed or has no URL; those of reading its secrets.
pub fn url(context: &Context, name: &ServiceName) -> Result<String> {
    let plan = Services::new(&context.paths).load(name)?;
    let template = plan.connect.url.ok_or_else(|| Error::failed(format!("`{name}` has no URL")))?;
    let secrets = context.paths.service(name).secrets();
    let text = fill(&template, |secret| Ok(percent_encoded(Secret::read(&secrets, secret)?.expose())))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The environment for clients of a service.
///
/// # Errors
/// When the service is not installed; those of reading its secrets.
pub fn environment(context: &Context, name: &ServiceName) -> Result<BTreeMap<String, Vec<u8>>> {
    let plan = Services::new(&context.paths).load(name)?;
    let secrets = context.paths.service(name).secrets();
    let filled = |(key, template): (String, String)| {
        let value = fill(&template, |secret| Ok(Secret::read(&secrets, secret)?.expose().to_vec()))?;
        Ok((key, value))
    };
    plan.connect.env.into_iter().map(filled).collect()
}

/// The URL with `***` for every secret, for screens and logs.
pub(super) fn public_url(template: &str) -> Option<String> {
    let text = fill(template, |_| Ok(b"***".to_vec())).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Replaces `{secret.NAME}`; `{{` and `}}` are braces.
fn fill(template: &str, mut secret: impl FnMut(&str) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let bad = || Error::failed(format!("`{}` in the plan is no template", template.escape_debug()));
    let mut bytes = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        bytes.extend_from_slice(before.as_bytes());
        if let Some(after) = from.strip_prefix("{{") {
            bytes.push(b'{');
            rest = after;
        } else if let Some(after) = from.strip_prefix("}}") {
            bytes.push(b'}');
            rest = after;
        } else {
            let (name, after) = from.strip_prefix("{secret.").and_then(|text| text.split_once('}')).ok_or_else(bad)?;
            // The name becomes a path component.
            if name.is_empty() || !name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-".contains(&c)) {
                return Err(bad());
            }
            bytes.extend(secret(name)?);
            rest = after;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// RFC 3986: all but the unreserved characters are encoded.
fn percent_encoded(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(*byte),
            _ => text.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_filled_in_and_braces_stay() {
        let secret = |name: &str| Ok(percent_encoded(if name == "password" { b"a b/\xff" } else { b"?" }));
        let filled = fill("x://u:{secret.password}@h/{{db}}", secret).unwrap();
        assert_eq!(filled, b"x://u:a%20b%2F%FF@h/{db}");
        assert_eq!(public_url("x://u:{secret.password}@h").as_deref(), Some("x://u:***@h"));
        for bad in ["{", "}", "{secret.", "{secret.}", "{secret.../x}", "{name}", "{secret.a/b}"] {
            assert!(fill(bad, secret).is_err(), "{bad}");
        }
    }
}
