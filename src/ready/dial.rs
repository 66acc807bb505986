//! Probes over TCP, without waiting: a connection that the service accepts, or a page that it serves.
//!
//! The kernel completes connections to a listening socket before the program accepts them, and a published socket listens even while no
//! program is there. So a connection alone tells nothing: `tcp` succeeds once the queue of connections that wait to be accepted
//! is empty or gets shorter, and `http` once an answer came.

use super::http::{self, Answer};
use crate::sys::socket::connect_now;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

/// A probe under way.
#[derive(Debug)]
pub struct Dial {
    stream: TcpStream,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Not connected yet; then this is sent, if anything.
    Connecting(Option<String>),
    /// Waits for the service to accept; the shortest queue seen so far.
    Queued(Option<u32>),
    /// The request is sent; what was answered so far.
    Asked(Vec<u8>),
}

/// What a [`Dial`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// The connection, or room to send.
    Writable,
    /// An answer.
    Readable,
    /// Some milliseconds: the kernel tells nobody when a connection is accepted.
    Time,
}

impl Dial {
    /// Begins to connect to `address`; with a `path`, asks for that page.
    ///
    /// # Errors
    /// Why it cannot even begin, in words.
    pub fn start(address: SocketAddr, path: Option<&str>) -> Result<Dial, String> {
        let address = reachable(address);
        let socket = connect_now(address).map_err(|error| format!("cannot connect to {address}: {error}"))?;
        let request = path.map(|path| http::request(address, path));
        Ok(Dial { stream: TcpStream::from(socket), stage: Stage::Connecting(request) })
    }

    /// What to wait for before [`Dial::advance`].
    #[must_use]
    pub fn wants(&self) -> Wants {
        match self.stage {
            Stage::Connecting(_) => Wants::Writable,
            Stage::Queued(_) => Wants::Time,
            Stage::Asked(_) => Wants::Readable,
        }
    }

    /// Goes on as far as it can now. `queue`: connections that the service has not accepted, if that can be known.
    /// `None` while there is no result.
    pub fn advance(&mut self, queue: Option<u32>) -> Option<Result<(), String>> {
        self.step(queue).transpose()
    }

    fn step(&mut self, queue: Option<u32>) -> Result<Option<()>, String> {
        if let Stage::Connecting(request) = &mut self.stage {
            if let Ok(Some(error)) | Err(error) = self.stream.take_error() {
                return Err(format!("cannot connect: {error}"));
            }
            if self.stream.peer_addr().is_err() {
                return Ok(None);
            }
            self.stage = match request.take() {
                None => Stage::Queued(None),
                Some(request) => {
                    // An empty socket's buffer has room for all of it.
                    match self.stream.write(request.as_bytes()) {
                        Ok(sent) if sent == request.len() => Stage::Asked(Vec::new()),
                        Ok(_) => return Err("it does not read the request".into()),
                        Err(error) => return Err(format!("cannot send the request: {error}")),
                    }
                }
            };
        }
        match &mut self.stage {
            Stage::Connecting(_) => Ok(None),
            Stage::Queued(shortest) => match (queue, *shortest) {
                (None | Some(0), _) => Ok(Some(())),
                (Some(now), Some(before)) if now < before => Ok(Some(())),
                (Some(now), _) => {
                    *shortest = Some(now);
                    Ok(None)
                }
            },
            Stage::Asked(got) => read_answer(&mut self.stream, got),
        }
    }

    /// What it waits for, in words, for a time-out.
    #[must_use]
    pub fn waiting_for(&self) -> &'static str {
        match self.stage {
            Stage::Connecting(_) => "no connection",
            Stage::Queued(_) => "the service does not accept the connection",
            Stage::Asked(_) => "no answer to the request",
        }
    }
}

impl AsFd for Dial {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn read_answer(stream: &mut TcpStream, got: &mut Vec<u8>) -> Result<Option<()>, String> {
    loop {
        let mut buffer = [0; http::MOST];
        match stream.read(&mut buffer) {
            Ok(0) => return Err("the connection was closed without an answer".into()),
            Ok(count) => got.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("no answer: {error}")),
        }
        match Answer::read(got) {
            Answer::Partial => {}
            Answer::Status(200..=399) => return Ok(Some(())),
            Answer::Status(status) => return Err(format!("it answers with status {status}")),
            Answer::Nonsense => return Err("its answer is not HTTP".into()),
        }
    }
}

/// Who listens on every address is reached on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::accept_queue;
    use std::net::TcpListener;
    use std::time::Duration;

    /// Advances until there is a result or nothing more happens.
    fn finish(dial: &mut Dial, listener: &TcpListener) -> Option<Result<(), String>> {
        for _ in 0..100 {
            if let Some(result) = dial.advance(accept_queue(listener.as_fd()).ok()) {
                return Some(result);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    #[test]
    fn a_connection_counts_once_it_is_accepted() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let mut dial = Dial::start(listener.local_addr().unwrap(), None).unwrap();
        assert_eq!(finish(&mut dial, &listener), None);
        assert_eq!((dial.wants(), dial.waiting_for()), (Wants::Time, "the service does not accept the connection"));
        let _accepted = listener.accept().unwrap();
        assert_eq!(finish(&mut dial, &listener), Some(Ok(())));
    }

    #[test]
    fn a_queue_that_gets_shorter_shows_a_busy_service() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _others: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut dial = Dial::start(address, None).unwrap();
        assert_eq!(finish(&mut dial, &listener), None);
        let _accepted = listener.accept().unwrap();
        assert_eq!(finish(&mut dial, &listener), Some(Ok(())));
    }

    #[test]
    fn nobody_listening_is_told() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let result = Dial::start(address, None).and_then(|mut dial| dial.advance(None).unwrap_or(Ok(())));
        assert!(result.unwrap_err().contains("refused"));
    }

    #[test]
    fn a_page_is_judged_by_its_status() {
        for (answer, wanted) in [
            (&b"HTTP/1.1 200 OK\r\n\r\n"[..], Ok(())),
            (b"HTTP/1.1 399 x\r\n\r\n", Ok(())),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", Err("it answers with status 404")),
            (b"SSH-2.0-x\r\n", Err("its answer is not HTTP")),
            (b"", Err("the connection was closed without an answer")),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut dial = Dial::start(listener.local_addr().unwrap(), Some("/x")).unwrap();
            assert_eq!(finish(&mut dial, &listener), None);
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let count = stream.read(&mut request).unwrap();
            assert!(request[..count].starts_with(b"GET /x HTTP/1.1\r\n"));
            stream.write_all(answer).unwrap();
            drop(stream);
            assert_eq!(finish(&mut dial, &listener).unwrap(), wanted.map_err(str::to_owned));
        }
    }
}
