//! Recipes of the tests' own, in a user's catalog.

use crate::support::{Done, User};

/// Writes a recipe of busybox: `run` are the lines of `[run]`, `rest` are further tables.
pub fn write(user: &User, name: &str, run: &str, rest: &str) {
    write_of(user, name, "docker.io/library/busybox", "latest", run, rest);
}

/// The same of another image.
pub fn write_of(user: &User, name: &str, image: &str, tag: &str, run: &str, rest: &str) {
    let ready = if rest.contains("[ready]") { "" } else { "ready.probe = \"started\"\n" };
    let recipe = format!(
        "recipe = {{ schema = 1, name = \"{name}\", title = \"{name}\", summary = \"of a test\", default-version = \"1\" }}\n\
         image.reference = \"{image}\"\n{ready}versions.1.tag = \"{tag}\"\n\
         [run]\n{run}\n{rest}\n"
    );
    user.sh(&format!("mkdir -p ~/.config/steading/catalog; cat > ~/.config/steading/catalog/{name}.toml <<'END'\n{recipe}END"))
        .ok();
}

/// A shell command in the running service `NAME@1`.
pub fn inside(user: &User, name: &str, script: &str) -> Done {
    user.steading(&["exec", &format!("{name}@1"), "--", "sh", "-c", script])
}
