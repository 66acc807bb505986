//! Waiting for a program in a container from a user's terminal: `exec`, `shell`, `run`.
//!
//! With a terminal of its own the program has a pseudoterminal of the container's devpts, and we carry bytes: ours is in raw
//! mode, so that ^C, ^Z and ^D are keys for the program, and window sizes are passed on. Without one it has our standard streams
//! and we only pass signals on and wait. One loop does both.

use super::handover::Gate;
use super::signals::{self, Disposition};
use crate::error::{Context, Result};
use crate::sys::terminal::{copy_size, make_controlling};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, isatty, read, setsid, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Signals that are read from a descriptor while a program runs.
const TAKEN: [Signal; 10] = [
    Signal::SIGCHLD,
    Signal::SIGWINCH,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// `SI_KERNEL` of asm-generic/siginfo.h: a key of the terminal sent it, not a process.
const SI_KERNEL: i32 = 0x80;

/// How often a terminal that nobody holds is looked at, in milliseconds.
const LOOK_AGAIN: u8 = 100;

/// The end-of-file key of a new terminal, ^D.
const END_OF_FILE: &[u8] = b"\x04";

/// Whether our standard input and output are both terminals: then a program gets one, too, unless told otherwise.
#[must_use]
pub fn is_interactive() -> bool {
    isatty(io::stdin()).unwrap_or(false) && isatty(io::stdout()).unwrap_or(false)
}

/// Runs a program of the host with our standard streams, passing signals on; returns its exit code, or 128 + the signal that ended it.
///
/// # Errors
/// When it cannot be executed.
pub fn attend(mut command: std::process::Command) -> Result<u8> {
    let attendant = Attendant::new()?;
    let child = command.spawn().context(|| format!("cannot execute `{}`", command.get_program().display()))?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other).context(|| "cannot wait for the program")?;
    let code = attendant.attend(Pid::from_raw(pid), Role::Joined, None, None)?;
    Ok(u8::try_from(code & 0xff).unwrap_or(1))
}

/// Gives a program's terminal our window size. Of our standard output, else input, whichever is a terminal; else there is none.
pub(super) fn copy_our_size(terminal: &OwnedFd) {
    let _ = copy_size(io::stdout().as_fd(), terminal.as_fd()).or_else(|_| copy_size(io::stdin().as_fd(), terminal.as_fd()));
}

/// Makes `terminal` the calling process's, in a session of its own. Standard error that goes elsewhere is meant to.
pub(super) fn take(terminal: &OwnedFd) -> Result<()> {
    let what = || "cannot give the program its terminal";
    match setsid() {
        // It leads one already.
        Ok(_) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno).context(what),
    }
    make_controlling(terminal.as_fd()).context(what)?;
    dup2_stdin(terminal).context(what)?;
    dup2_stdout(terminal).context(what)?;
    if isatty(io::stderr()).unwrap_or(false) {
        dup2_stderr(terminal).context(what)?;
    }
    Ok(())
}

/// What kind of process the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// In our session, and without a terminal of its own in our process group: keys of our terminal reach it without us.
    Joined,
    /// The first process of a pid namespace: the default action of a signal does not end it (pid_namespaces(7)).
    First,
}

/// The user's terminal in raw mode; put back on drop.
#[derive(Debug)]
struct Raw {
    former: Termios,
}

impl Raw {
    /// `None` when standard input is no terminal.
    fn enter() -> nix::Result<Option<Raw>> {
        let stdin = io::stdin();
        if !isatty(&stdin)? {
            return Ok(None);
        }
        let raw = Raw { former: tcgetattr(&stdin)? };
        raw.apply()?;
        Ok(Some(raw))
    }

    fn apply(&self) -> nix::Result<()> {
        let mut raw = self.former.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)
    }

    fn restore(&self) {
        // From the background it would stop us (SIGTTOU) unless blocked. A terminal that is gone needs nothing.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTTOU);
        let former = stop.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK);
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.former);
        if let Ok(former) = former {
            let _ = former.thread_set_mask();
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Made before the program is started, so that no signal is lost; waits for it afterwards.
#[derive(Debug)]
pub(super) struct Attendant {
    signals: SignalFd,
}

impl Attendant {
    pub(super) fn new() -> Result<Self> {
        let mut set = SigSet::empty();
        TAKEN.into_iter().for_each(|signal| set.add(signal));
        set.thread_block().context(|| "cannot block signals")?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        Ok(Attendant { signals: signals.context(|| "cannot open a signal descriptor")? })
    }

    /// Waits for `program`, our child, which has the other side of `terminal` if there is one. Returns its exit code, or 128 + the
    /// signal that ended it, when all that it wrote to its terminal is written to our standard output.
    ///
    /// # Errors
    /// Those of poll(2), tcsetattr(3) and the like; the program may still run.
    pub(super) fn attend(self, program: Pid, role: Role, terminal: Option<OwnedFd>, gate: Option<Gate>) -> Result<i32> {
        let raw = match terminal {
            Some(_) => Raw::enter().context(|| "cannot prepare the terminal")?,
            None => None,
        };
        let input_is_open = terminal.is_some();
        let mut session = Session {
            program,
            role,
            terminal,
            unheld: false,
            gate,
            raw,
            typed: Vec::new(),
            input_is_open,
            code: None,
            killed_for: None,
        };
        session.resize();
        loop {
            session.step(&self.signals)?;
            if let Some(code) = session.code {
                session.drain();
                return Ok(code);
            }
        }
    }
}

#[derive(Debug)]
struct Session {
    program: Pid,
    role: Role,
    /// Our side of the program's terminal; `None` once it is hung up.
    terminal: Option<OwnedFd>,
    /// Nobody has the other side open. No reason to hang up: many a program closes its streams before it exits (cat, sort), and the
    /// hang-up would be what it dies of; another opens /dev/tty again.
    unheld: bool,
    /// Answers the program's calls, where it is beside a service; `None` once nobody has the filter any more.
    gate: Option<Gate>,
    raw: Option<Raw>,
    /// Read from our standard input and not yet taken by the program's terminal.
    typed: Vec<u8>,
    input_is_open: bool,
    code: Option<i32>,
    /// The signal that the first process did not catch, so that it was killed.
    killed_for: Option<Signal>,
}

impl Session {
    fn step(&mut self, signals: &SignalFd) -> Result<()> {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let Some(terminal) = &self.terminal {
            let typed = if self.typed.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            // An unheld one is left out, for it would say POLLHUP without end.
            fds.push(match self.unheld {
                true => PollFd::new(signals.as_fd(), PollFlags::empty()),
                false => PollFd::new(terminal.as_fd(), PollFlags::POLLIN | typed),
            });
            if self.input_is_open && self.typed.is_empty() {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
        }
        let mut at_gate = usize::MAX;
        if let Some(gate) = &self.gate {
            at_gate = fds.len();
            fds.push(PollFd::new(gate.as_fd(), PollFlags::POLLIN));
        }
        let unheld = self.unheld && self.terminal.is_some();
        match poll(&mut fds, if unheld { PollTimeout::from(LOOK_AGAIN) } else { PollTimeout::NONE }) {
            Err(Errno::EINTR) => return Ok(()),
            other => other.context(|| "cannot wait for events")?,
        };
        let happened = |at: usize| fds.get(at).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        let calls = happened(at_gate);
        let of_terminal = |at: usize| if at == at_gate { PollFlags::empty() } else { happened(at) };
        let (signalled, shown, typed) = (happened(0), of_terminal(1), of_terminal(2));
        if calls.contains(PollFlags::POLLIN) {
            self.gate.iter_mut().for_each(Gate::handle);
        } else if !calls.is_empty() {
            self.gate = None;
        }
        if !typed.is_empty() {
            self.take_input();
        }
        if unheld || shown.intersects(PollFlags::POLLOUT | PollFlags::POLLERR | PollFlags::POLLHUP) || !typed.is_empty() {
            self.pass_input();
        }
        if unheld || shown.intersects(PollFlags::POLLIN | PollFlags::POLLERR | PollFlags::POLLHUP) {
            self.show();
        }
        if signalled.contains(PollFlags::POLLIN) {
            while let Some(info) = signals.read_signal().context(|| "cannot read signals")? {
                self.on_signal(&info)?;
            }
        }
        Ok(())
    }

    fn take_input(&mut self) {
        let mut buffer = [0; 16384];
        match read(io::stdin(), &mut buffer) {
            Ok(0) | Err(Errno::EIO) => self.end_input(),
            Ok(length) => self.typed.extend_from_slice(&buffer[..length]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.end_input(),
        }
    }

    /// Our standard input has ended: a terminal that went away hangs up the program's, anything else is an end of file.
    fn end_input(&mut self) {
        self.input_is_open = false;
        if self.raw.is_some() {
            self.terminal = None;
        } else if let Some(terminal) = &self.terminal
            && tcgetattr(terminal).is_ok_and(|mode| mode.local_flags.contains(LocalFlags::ICANON))
        {
            self.typed.extend_from_slice(END_OF_FILE);
        }
    }

    fn pass_input(&mut self) {
        let Some(terminal) = &self.terminal else { return };
        if self.typed.is_empty() {
            return;
        }
        match write(terminal, &self.typed) {
            Ok(length) => drop(self.typed.drain(..length)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // Nobody has the other side open any more.
            Err(_) => self.typed.clear(),
        }
    }

    /// Passes on what the program wrote. Returns whether there may be more at once.
    fn show(&mut self) -> bool {
        let Some(terminal) = &self.terminal else { return false };
        let mut buffer = [0; 16384];
        match read(terminal, &mut buffer) {
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => {
                self.unheld = false;
                false
            }
            // The other side was closed by all who had it, and everything was read.
            Ok(0) | Err(Errno::EIO) => {
                self.unheld = true;
                false
            }
            Err(_) => {
                self.terminal = None;
                false
            }
            Ok(length) => {
                self.unheld = false;
                // Nobody reads any more: the program is hung up on, as by a terminal that goes away.
                if write_all(io::stdout().as_fd(), &buffer[..length]).is_err() {
                    self.terminal = None;
                }
                true
            }
        }
    }

    /// What the ended program has left in its terminal. A read looks at all that was written before (tty_buffer_flush_work() in
    /// n_tty_read()), so that nothing is missed; who still holds the other side open is not waited for.
    fn drain(&mut self) {
        while self.show() {}
    }

    fn resize(&self) {
        if let Some(terminal) = &self.terminal {
            copy_our_size(terminal);
        }
    }

    fn on_signal(&mut self, info: &siginfo) -> Result<()> {
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        match signal {
            Some(Signal::SIGCHLD) => self.reap()?,
            Some(Signal::SIGWINCH) => self.resize(),
            Some(Signal::SIGCONT) => self.resume(),
            Some(Signal::SIGTSTP) => self.suspend(),
            // The terminal has sent it to the program, too.
            Some(_) if self.role == Role::Joined && self.raw.is_none() && info.ssi_code == SI_KERNEL => {}
            Some(signal) => self.send(signal),
            None => {}
        }
        Ok(())
    }

    fn send(&mut self, signal: Signal) {
        if self.role == Role::Joined || signals::disposition(self.program, signal) != Disposition::Default {
            let _ = kill(self.program, signal);
        } else {
            // What would have ended any other process ends this one.
            self.killed_for.get_or_insert(signal);
            let _ = kill(self.program, Signal::SIGKILL);
        }
    }

    /// A stop from outside, for in raw mode ^Z is a key: the terminal is left as it was found. Without a terminal of its own the
    /// program is not stopped: the waiter of a stopped one could not reap it, which holds up the end of its pid namespace.
    fn suspend(&self) {
        if let Some(raw) = &self.raw {
            raw.restore();
            let _ = raise(Signal::SIGSTOP);
        }
    }

    fn resume(&self) {
        if let Some(raw) = &self.raw {
            let _ = raw.apply();
            self.resize();
        }
    }

    fn reap(&mut self) -> Result<()> {
        loop {
            match waitpid(self.program, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::Exited(_, code)) => self.code = Some(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => self.code = Some(128 + self.killed_for.unwrap_or(signal) as i32),
                // ^Z has reached it beside us; see `suspend`.
                Ok(WaitStatus::Stopped(pid, Signal::SIGTSTP)) if self.terminal.is_none() => drop(kill(pid, Signal::SIGCONT)),
                Ok(WaitStatus::StillAlive) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno).context(|| "cannot wait for the program in the container"),
            }
            if self.code.is_some() {
                return Ok(());
            }
        }
    }
}

/// Writes everything, also where somebody has made our standard output non-blocking.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> nix::Result<()> {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => drop(poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], PollTimeout::NONE)?),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
