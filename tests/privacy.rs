//! The generated password is seen nowhere but in its file and by those who ask for it.
#![allow(missing_docs)]

mod support;

#[test]
fn the_password_is_in_no_unit_argv_environment_or_journal() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let install = user.steading(&["install", "postgres@14", "--port", &format!("db={}", user.free_port())]);
    let said = format!("{}{}", install.out, install.err);
    install.ok();
    let password = user.sh("cat ~/.local/share/steading/services/postgres@14/secrets/password").ok();
    assert!(password.len() >= 20, "{password}");
    assert!(!said.contains(&password), "install shows the password");
    assert!(user.steading(&["url", "postgres@14"]).ok().contains(&password));
    // As root: everybody's processes, all journals, all of the user's units and plans.
    let found = machine
        .root(&format!(
            "cd /proc; grep -l -a -F '{password}' [0-9]*/cmdline [0-9]*/environ 2>/dev/null | grep -v -e \"^$$/\" -e '^self/'; \
             journalctl --no-pager -o export 2>/dev/null | grep -a -c -F '{password}' | grep -v '^0$'; \
             grep -r -l -F '{password}' /home/{0}/.config /home/{0}/.local/share/steading/services/postgres@14/generations 2>/dev/null; true",
            user.name
        ))
        .ok();
    // The shell that looks for it has it in its own arguments.
    let others: Vec<_> = found.lines().filter(|line| !line.ends_with("cmdline")).collect();
    assert!(others.is_empty(), "{found}");
    let modes = user.sh("stat -c %a ~/.local/share/steading/services/postgres@14/secrets ~/.local/share/steading/services/postgres@14/secrets/password").ok();
    assert_eq!(modes, "700\n600");
    let inside = user.steading(&[
        "exec",
        "postgres@14",
        "--",
        "sh",
        "-c",
        "stat -c %a:%u /run/secrets/password; echo x > /run/secrets/password",
    ]);
    assert!(inside.out.contains("400:999") && inside.code != 0, "{inside:?}");
    user.steading(&["remove", "--purge", "postgres@14"]).ok();
}
