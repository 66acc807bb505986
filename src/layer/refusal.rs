//! How an entry that cannot be taken is named.

use crate::error::Error;

/// Longest piece of a hostile name that is shown.
const SHOWN: usize = 200;

/// A name for people: escaped, cut when it is long.
pub(super) fn shown(path: &[u8]) -> String {
    let cut = path.get(..SHOWN);
    let text = String::from_utf8_lossy(cut.unwrap_or(path));
    format!("{}{}", text.escape_debug(), if cut.is_some_and(|cut| cut.len() < path.len()) { "..." } else { "" })
}

/// The entry `path` is not taken, because.
pub(super) fn refuse(path: &[u8], why: impl Into<String>) -> Error {
    Error::failed(format!("the entry `{}` of the layer is refused", shown(path)))
        .because(why.into())
        .hint("the image is broken or hostile; nothing of it is used")
}

/// The layer as a whole is not taken, because.
pub(super) fn refuse_layer(why: impl Into<String>) -> Error {
    Error::failed("the layer is refused").because(why.into()).hint("the image is broken or hostile; nothing of it is used")
}
