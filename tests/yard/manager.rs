//! The part of systemd that the server talks to: the notification socket and the descriptor store.

use crate::ground::Ground;
use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use steading::sys::socket::recv_fds;

const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub struct Manager<'a> {
    ground: &'a Ground,
    socket: UnixDatagram,
    address: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    store: BTreeMap<String, OwnedFd>,
    /// Names that the server took out of the store.
    pub removed: Vec<String>,
}

impl<'a> Manager<'a> {
    /// Starts the server and waits until it is ready.
    pub fn start(ground: &'a Ground) -> Result<Manager<'a>, Failed> {
        let address = ground.outside("notify");
        let socket = UnixDatagram::bind(&address)?;
        std::fs::set_permissions(&address, std::fs::Permissions::from_mode(0o777))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let log = ground.outside("log");
        std::fs::write(&log, "")?;
        std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o666))?;
        let mut manager = Manager { ground, socket, address, log, child: None, store: BTreeMap::new(), removed: Vec::new() };
        manager.resume()?;
        Ok(manager)
    }

    /// Starts the server with what is in the store.
    pub fn resume(&mut self) -> Result<(), Failed> {
        let log = || std::fs::OpenOptions::new().append(true).open(&self.log);
        let mut command = if self.store.is_empty() {
            let mut command = self.ground.role("serve", &[]);
            command.stdout(log()?).stderr(log()?);
            command
        } else {
            let names: Vec<&str> = self.store.keys().map(String::as_str).collect();
            let mut command = self.ground.server_with_descriptors(&names.join(":"), &self.log);
            let copies: Vec<OwnedFd> = self.store.values().map(OwnedFd::try_clone).collect::<Result<_, _>>()?;
            let [a, b, c] = <[OwnedFd; 3]>::try_from(copies).map_err(|all| format!("{} descriptors in the store", all.len()))?;
            command.stdin(Stdio::from(a)).stdout(Stdio::from(b)).stderr(Stdio::from(c));
            command
        };
        self.child = Some(super::ground::start(command.env("NOTIFY_SOCKET", &self.address))?);
        let end = Instant::now() + PATIENCE;
        while !self.receive()? {
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || Instant::now() > end {
                return Err(format!("the server is not ready ({ended:?}): {}", self.log()?).into());
            }
        }
        Ok(())
    }

    /// Takes a message in, if one comes; whether it says that the server is ready.
    fn receive(&mut self) -> Result<bool, Failed> {
        let mut buffer = [0; 4096];
        let (length, fds) = match recv_fds(self.socket.as_fd(), &mut buffer) {
            Ok(message) => message,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let text = String::from_utf8(buffer[..length].to_vec())?;
        let lines: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let name = || lines.get("FDNAME").map(|name| (*name).to_owned()).ok_or("no FDNAME");
        if lines.contains_key("FDSTORE") {
            // As systemd: what is in the store already, under whatever name, is not taken again.
            for fd in fds {
                self.store.entry(name()?).or_insert(fd);
            }
        }
        if lines.contains_key("FDSTOREREMOVE") {
            self.store.remove(&name()?);
            self.removed.push(name()?);
        }
        Ok(lines.contains_key("READY"))
    }

    /// Names in the store.
    pub fn stored(&self) -> Vec<&str> {
        self.store.keys().map(String::as_str).collect()
    }

    /// Closes the store, as systemd does at a stop.
    pub fn forget(&mut self) {
        self.store.clear();
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<(), Failed> {
        let mut child = self.child.take().ok_or("no server")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self) -> Result<ExitStatus, Failed> {
        let child = self.child.as_ref().ok_or("no server")?;
        kill(Pid::from_raw(child.id().try_into()?), Signal::SIGTERM)?;
        self.wait(PATIENCE)
    }

    /// Waits for the server's end, taking its messages in.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, Failed> {
        let end = Instant::now() + limit;
        loop {
            self.receive()?;
            if let Some(status) = self.child.as_mut().ok_or("no server")?.try_wait()? {
                // What it sent last.
                for _ in 0..4 {
                    self.receive()?;
                }
                self.child = None;
                return Ok(status);
            }
            if Instant::now() > end {
                return Err(format!("the server does not end: {}", self.log()?).into());
            }
        }
    }

    pub fn log(&self) -> Result<String, Failed> {
        Ok(std::fs::read_to_string(&self.log)?)
    }
}

impl Drop for Manager<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
