//! A person at a terminal: a pseudoterminal of this computer that a command of the testbed has as its controlling one.

use super::User;
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{read, ttyname, write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Terminal {
    ours: Option<Arc<OwnedFd>>,
    theirs: OwnedFd,
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts `args` as `user` on a new terminal of 33 lines and 77 columns.
    pub fn start(user: &User, args: &[&str]) -> Terminal {
        let size = Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        for fd in [&master, &slave] {
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).unwrap();
        }
        let inner = user.command(args);
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(inner.get_program()).args(inner.get_args()).env("TERM", "vt100");
        let end = || slave.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let ours = Arc::new(master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (from, to) = (Arc::downgrade(&ours), shown.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            loop {
                // Only for the moment of the poll and the read, so that dropping the terminal hangs it up.
                let Some(fd) = from.upgrade() else { return };
                let mut fds = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&*fd), nix::poll::PollFlags::POLLIN)];
                if nix::poll::poll(&mut fds, 50_u16).unwrap_or(0) > 0 {
                    match read(&*fd, &mut buffer) {
                        Ok(length) if length > 0 => to.lock().unwrap().extend_from_slice(&buffer[..length]),
                        _ => return,
                    }
                }
            }
        });
        Terminal { ours: Some(ours), theirs: slave, child, shown }
    }

    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until `text` is on the screen.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.shown().contains(text) {
            assert!(Instant::now() < end, "{text:?} does not appear in {:?}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn type_keys(&self, keys: &[u8]) {
        write(self.ours.as_ref().unwrap(), keys).unwrap();
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let name = ttyname(&self.theirs).unwrap();
        let mut stty = Command::new("stty");
        stty.arg("-F").arg(name).args(["rows", &rows.to_string(), "cols", &columns.to_string()]);
        assert!(stty.status().unwrap().success());
    }

    /// Whether keys are shown and lines edited by the terminal itself, as before the command.
    pub fn is_cooked(&self) -> bool {
        tcgetattr(&self.theirs).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG)
    }

    /// Waits for the end of the command: its exit code.
    #[track_caller]
    pub fn end(&mut self) -> i32 {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // What it wrote last.
                std::thread::sleep(Duration::from_millis(150));
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < end, "it does not end: {:?}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The person closes the window.
    pub fn hang_up(&mut self) {
        self.ours = None;
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.ours = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
