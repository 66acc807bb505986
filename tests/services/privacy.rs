//! The generated password is seen nowhere but in its file and by those who ask for it.

use crate::support;
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
    // As root: everybody's processes (but those inside the container, whose entrypoint has read the secret), all journals, all of the user's units and plans. The pattern is in a file, so that
    // those who look for it do not have it themselves.
    let home = format!("/home/{}", user.name);
    let found = machine
        .root(&format!(
            "secret={home}/.local/share/steading/services/postgres@14/secrets/password; cd /proc; \
             for pid in [0-9]*; do \
               grep -q -P '^NSpid:\\t\\d+$' $pid/status 2>/dev/null && grep -l -a -F -f $secret $pid/cmdline $pid/environ 2>/dev/null; \
             done; \
             journalctl --no-pager -o export 2>/dev/null | grep -a -c -F -f $secret | grep -v '^0$'; \
             grep -r -l -F -f $secret {home}/.config {home}/.local/share/systemd \
               {home}/.local/share/steading/services/postgres@14/generations 2>/dev/null; \
             grep -q -F -f $secret $secret || echo the pattern is empty"
        ))
        .out;
    assert_eq!(found, "");
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
