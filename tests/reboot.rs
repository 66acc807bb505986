//! Data over a reboot and a power cut of the machine. A binary of its own: it takes the machine from all others.
#![allow(missing_docs, clippy::expect_used, clippy::print_stdout, reason = "a test program")]

mod support;

fn query(user: &support::User, text: &str) -> String {
    user.sh(&format!("psql \"$(steading url postgres@14)\" -At -c \"{text}\"")).ok()
}

#[test]
fn the_service_comes_back_with_its_data() {
    for machine in support::machines() {
        let user = machine.user(false);
        let publish = format!("db=127.0.0.1:{}", user.free_port());
        user.steading(&["install", "postgres@14", "--port", &publish]).ok();
        query(&user, "create table t (x int); insert into t values (42)");
        for verb in ["reboot", "crash"] {
            machine.verb(&[verb]).ok();
            user.sh("for i in $(seq 300); do systemctl --user is-active --quiet postgres@14 && exit 0; sleep 0.1; done; systemctl --user status postgres@14; exit 1")
                .ok();
            assert_eq!(query(&user, "select x from t"), "42", "after {verb}");
        }
        user.steading(&["remove", "--purge", "postgres@14"]).ok();
        assert_eq!(user.leftovers(), "");
    }
}
