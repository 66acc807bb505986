//! The yard for real: an unprivileged user, the kernel's FUSE, and this program in the place of systemd.
//!
//! As root the yard's processes run as an unprivileged user. Where the machine does not allow what a yard needs, the tests
//! are skipped; `STEADING_MUST_WORK=1` makes that a failure. No libtest here: the program runs itself in several roles, and those
//! that enter namespaces must have one thread.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test program talks to its starter")]

#[path = "yard/ground.rs"]
mod ground;
#[path = "yard/manager.rs"]
mod manager;
#[path = "yard/roles.rs"]
mod roles;

use ground::{FILES, Ground, ask, finish, output};
use libtest_mimic::{Arguments, Failed, Trial};
use manager::Manager;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

type Outcome = Result<(), Failed>;

fn main() -> ExitCode {
    let mut words = std::env::args();
    if let Some(role) = words.nth(1).and_then(|word| word.strip_prefix("role:").map(str::to_owned)) {
        return roles::run(&role, &words.collect::<Vec<_>>());
    }
    let arguments = Arguments::from_args();
    let must_work = std::env::var_os("STEADING_MUST_WORK").is_some_and(|value| value == "1");
    let root = nix::unistd::geteuid().is_root();
    let skip = match ground::allowed() {
        _ if arguments.list => false,
        Ok(()) if root || !must_work => false,
        Ok(()) => {
            eprintln!("STEADING_MUST_WORK=1 needs root, for the test of mounts that come later");
            return ExitCode::FAILURE;
        }
        Err(why) if must_work => {
            eprintln!("STEADING_MUST_WORK=1, and a yard cannot run here: {why:?}");
            return ExitCode::FAILURE;
        }
        Err(why) => {
            eprintln!("skipped, a yard cannot run here: {why:?}");
            true
        }
    };
    let trial = |name: &str, test: fn() -> Outcome, runs: bool| Trial::test(name, test).with_ignored_flag(skip || !runs);
    let trials = vec![
        trial("images_are_shown_with_content_and_owners_of_both_views", shown, true),
        trial("attributes_of_the_image_are_there_and_those_of_overlays_are_not", attributes, true),
        trial("an_image_that_is_pulled_later_appears", later, true),
        trial("readers_survive_fifteen_kills_of_the_server", kills, true),
        trial("an_overlay_in_a_nested_namespace_belongs_to_the_service_and_can_be_written", overlay, true),
        trial("a_second_server_is_refused", second, true),
        trial("a_stop_leaves_no_process_no_mount_and_no_socket", stop, true),
        trial("a_stale_mount_is_replaced", stale, true),
        trial("a_mount_that_ends_ends_the_server", ended, true),
        trial("a_missing_object_is_an_error_of_one_file_and_one_line", missing, true),
        trial("only_the_right_words_are_welcome", words_of_the_socket, true),
        trial("mounts_that_the_host_makes_later_appear_in_the_yard", propagation, root),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn check(condition: bool, what: impl Into<String>) -> Outcome {
    if condition { Ok(()) } else { Err(what.into().into()) }
}

fn shown() -> Outcome {
    let ground = Ground::new()?;
    let image = ground.store("first")?;
    let _manager = Manager::start(&ground)?;
    let listing = ground.look("cd by-image && ls && cd ../by-user && ls")?;
    check(listing == format!("{image}\n{image}\n"), &listing)?;
    for (view, owner) in [("by-image", "65534:65534"), ("by-user", "0:0")] {
        let text = ground.look(&format!(
            "cd {view}/{image} && stat -c '%a %u:%g %s %Y %h' etc/service.conf && stat -c '%a %F' bin/su etc \
             && readlink etc/link && {{ cat etc/service.conf 2>/dev/null || true; }} && ls data | wc -l"
        ))?;
        // In a namespace of one id the image's own owner (101:101) has no name.
        let wanted = format!("640 {owner} 8 1700000000 2\n4755 regular file\n755 directory\n../bin/su\ncontent\n{FILES}\n");
        // Nor may root there read what belongs to an id that it does not have.
        let wanted = if view == "by-image" { wanted.replace("content\n", "") } else { wanted };
        check(text == wanted, format!("{view}: {text}"))?;
    }
    let numbers = [0, 7, FILES - 1];
    let names: Vec<String> = numbers.iter().map(|n| format!("by-user/{image}/data/{n}")).collect();
    let text = ground.look(&format!("cat {} | md5sum", names.join(" ")))?;
    let right = ground.md5(&numbers)?;
    check(text == right, format!("{text} is not {right}"))?;
    let text = ground.look(&format!("touch by-user/{image}/x 2>&1 || true"))?;
    check(text.contains("Read-only"), text)?;
    // Outside U0 there is nothing to see.
    check(std::fs::read_dir(ground.paths.yard_mount())?.next().is_none(), "the images are visible outside U0")
}

fn attributes() -> Outcome {
    let ground = Ground::new()?;
    let image = ground.store("first")?;
    let _manager = Manager::start(&ground)?;
    let text = ground.look(&format!(
        r#"cd by-user/{image} && python3 -c '
import os
f = "etc/service.conf"
print(sorted(os.listxattr(f)), os.getxattr(f, "user.colour"))
for name in ["user.overlay.opaque", "user.none"]:
  try: os.getxattr(f, name); print("there")
  except OSError as e: print(e.errno)'"#
    ))?;
    check(text == "['user.colour'] b'green'\n61\n61\n", text)
}

fn later() -> Outcome {
    let ground = Ground::new()?;
    let first = ground.store("first")?;
    let _manager = Manager::start(&ground)?;
    let absent = ground.image_name("second");
    ground.look(&format!("test -d by-user/{first} && ! test -e by-user/{absent} && ls by-user | wc -l"))?;
    let second = ground.store("second")?;
    check(second == absent, "the second image has another name than foretold")?;
    let text = ground.look(&format!("cat by-user/{second}/etc/service.conf && ls by-user | wc -l"))?;
    check(text == "content\n2\n", text)
}

fn kills() -> Outcome {
    let ground = Ground::new()?;
    let image = ground.store("first")?;
    let mut manager = Manager::start(&ground)?;
    // It reads every file over and over, each time from the server, and compares each byte.
    let mut load = ground::start(ground.role("load", &[&image, "6"]).stdout(std::process::Stdio::piped()))?;
    for round in 0..15 {
        std::thread::sleep(Duration::from_millis(100));
        manager.kill()?;
        std::thread::sleep(Duration::from_millis(50));
        let begin = Instant::now();
        manager.resume().map_err(|error| format!("round {round}: {error:?}"))?;
        check(begin.elapsed() < Duration::from_secs(3), format!("round {round}: slow to resume: {:?}", begin.elapsed()))?;
    }
    check(manager.stored() == ["fuse", "u0-mnt", "u0-user"], format!("stored: {:?}", manager.stored()))?;
    check(load.try_wait()?.is_none(), "the load ended before the kills did")?;
    let output = finish(load)?;
    let rounds = String::from_utf8(output.stdout)?;
    check(output.status.success(), format!("the load failed: {rounds}"))?;
    check(rounds.trim().parse::<u32>()? >= 2, format!("the load did not read everything twice: {rounds}"))?;
    check(manager.log()?.matches("taking over").count() == 15, manager.log()?)
}

fn overlay() -> Outcome {
    let ground = Ground::new()?;
    let image = ground.store("first")?;
    let _manager = Manager::start(&ground)?;
    let output = output(ground.role("overlay", &[&image]))?;
    let text = format!("{}{}", String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    check(output.status.success() && text.ends_with("all right\n"), text)?;
    // What the service wrote belongs to the user, outside.
    let copied = std::fs::metadata(ground.root().join("upper/etc/service.conf"))?;
    check(copied.uid() == ground.uid && copied.mode() & 0o7777 == 0o640, format!("{} {:o}", copied.uid(), copied.mode()))
}

fn second() -> Outcome {
    let ground = Ground::new()?;
    ground.store("first")?;
    let _manager = Manager::start(&ground)?;
    let output = output(ground.role("serve", &[]))?;
    let text = String::from_utf8(output.stderr)?;
    check(!output.status.success() && text.contains("already runs"), text)?;
    ground.look("true").map(drop)
}

fn stop() -> Outcome {
    let ground = Ground::new()?;
    ground.store("first")?;
    let mut manager = Manager::start(&ground)?;
    check(ground.mounted()? == 0, "the mount is visible outside U0")?;
    let lookout = ground.lookout()?;
    check(ground.mounted()? > 0, "the lookout does not see the mount")?;
    lookout.end()?;
    let status = manager.terminate()?;
    check(status.success(), format!("{status}: {}", manager.log()?))?;
    manager.forget();
    check(!ground.paths.yard_socket().exists(), "the socket is left")?;
    // The kernel takes a mount namespace down in the background.
    let end = Instant::now() + Duration::from_secs(5);
    while !ground.processes()?.is_empty() || ground.mounted()? != 0 {
        check(Instant::now() < end, format!("left: {:?}, {} mounts", ground.processes()?, ground.mounted()?))?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn stale() -> Outcome {
    let ground = Ground::new()?;
    let image = ground.store("first")?;
    let mut manager = Manager::start(&ground)?;
    // While nobody serves, somebody unmounts: the connection ends.
    let lookout = ground.lookout()?;
    manager.kill()?;
    lookout.unmount()?;
    manager.resume()?;
    check(manager.log()?.contains("making a new one"), manager.log()?)?;
    check(manager.removed.len() == 3, format!("taken out: {:?}", manager.removed))?;
    let text = ground.look(&format!("cat by-user/{image}/etc/service.conf"))?;
    check(text == "content\n", text)
}

fn ended() -> Outcome {
    let ground = Ground::new()?;
    let image = ground.store("first")?;
    let mut manager = Manager::start(&ground)?;
    ground.lookout()?.unmount()?;
    let status = manager.wait(Duration::from_secs(5))?;
    check(!status.success() && manager.log()?.contains("has ended the yard's mount"), manager.log()?)?;
    check(manager.stored().is_empty(), format!("stored: {:?}", manager.stored()))?;
    // systemd's Restart=on-failure.
    manager.resume()?;
    let text = ground.look(&format!("cat by-user/{image}/etc/service.conf"))?;
    check(text == "content\n", text)
}

fn missing() -> Outcome {
    let ground = Ground::new()?;
    let image = ground.store("first")?;
    let manager = Manager::start(&ground)?;
    ground.lose_object(b"content\n")?;
    let text = ground.look(&format!(
        "for n in 1 2 3; do cat by-user/{image}/etc/service.conf 2>&1 || true; done; md5sum < by-user/{image}/data/7"
    ))?;
    check(text.matches("Input/output error").count() == 3, &text)?;
    check(text.ends_with(&ground.md5(&[7])?), &text)?;
    let log = manager.log()?;
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("cannot be read")).collect();
    check(lines.len() == 1, &log)?;
    let digest = image.replace("sha256-", "sha256:");
    check(lines[0].contains(&digest) && lines[0].contains("`/etc/"), lines[0])
}

fn words_of_the_socket() -> Outcome {
    let ground = Ground::new()?;
    ground.store("first")?;
    let _manager = Manager::start(&ground)?;
    let text = ground.say("steading-yard 2\n")?;
    check(text == "error this yard speaks `steading-yard 1`\n", text)?;
    let text = ground.say("\0\u{1}")?;
    check(text.starts_with("error "), text)?;
    if nix::unistd::geteuid().is_root() {
        // Root may open the socket of anybody, and is a stranger all the same.
        let text = ask(&ground.paths.yard_socket(), b"steading-yard 1\n")?;
        check(text == "error this yard belongs to another user\n", text)?;
    }
    // Neither these nor one that says nothing keep others out.
    let _silent = std::os::unix::net::UnixStream::connect(ground.paths.yard_socket())?;
    ground.look("true").map(drop)
}

fn propagation() -> Outcome {
    let ground = Ground::new()?;
    ground.store("first")?;
    let text = ground.with_later_mount()?;
    check(text == "before: no\nmounted: hello\nunmounted: no\n", text)
}
