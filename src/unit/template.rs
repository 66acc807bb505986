//! The tiny template language of `units/*.in`: `{{key}}` stands for a value. Values are not looked into again.

use crate::error::{Error, Result};

/// Fills every `{{key}}` of `template`.
///
/// # Errors
/// When the template names a key that has no value or does not close a brace: a mistake in this program.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> Result<String> {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((key, after)) = after.split_once("}}") else {
            return Err(Error::failed("a unit template has `{{` without `}}`"));
        };
        let Some((_, value)) = values.iter().find(|(name, _)| *name == key) else {
            return Err(Error::failed(format!("a unit template wants `{key}`, which has no value")));
        };
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_in_once() {
        assert_eq!(fill("a {{x}} b {{y}}{{x}}", &[("x", "{{y}}"), ("y", "2")]).unwrap(), "a {{y}} b 2{{y}}");
        assert!(fill("{{z}}", &[("x", "1")]).is_err());
        assert!(fill("{{x", &[("x", "1")]).is_err());
    }
}
