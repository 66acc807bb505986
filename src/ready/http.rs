//! The little of HTTP/1.1 (RFC 9112) that a probe needs: one GET request and the status line of its answer. Pure.

use std::net::SocketAddr;

/// Longest status line that is waited for.
pub const MOST: usize = 1024;

/// The request. `path` has neither blanks nor control characters (the recipe's lint).
#[must_use]
pub fn request(host: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: steading\r\nAccept: */*\r\nConnection: close\r\n\r\n")
}

/// What the first bytes of an answer say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// More bytes are needed.
    Partial,
    /// The status of a final answer.
    Status(u16),
    /// This is no answer of HTTP/1.
    Nonsense,
}

impl Answer {
    /// Reads what has come so far. Interim answers (1xx, as `103 Early Hints`) are passed over.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Answer {
        let mut rest = bytes;
        loop {
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                let line = &rest[..rest.len().min(START.len())];
                return if START.starts_with(line) && rest.len() < MOST { Answer::Partial } else { Answer::Nonsense };
            };
            match status(&rest[..end]) {
                None => return Answer::Nonsense,
                Some(100..=199) => {}
                Some(status) => return Answer::Status(status),
            }
            // The empty line after the interim answer's fields.
            let Some(after) = end_of_head(rest) else {
                return if bytes.len() < MOST { Answer::Partial } else { Answer::Nonsense };
            };
            rest = &rest[after..];
        }
    }
}

const START: &[u8] = b"HTTP/1.";

/// The three digits of `HTTP/1.x NNN reason`.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(START)?;
    let [minor, b' ', a, b, c, rest @ ..] = rest else { return None };
    let ends = rest.is_empty() || rest.starts_with(b" ") || rest.starts_with(b"\r");
    if !minor.is_ascii_digit() || !ends || ![a, b, c].iter().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let status = [a, b, c].iter().fold(0, |sum, digit| sum * 10 + u16::from(**digit - b'0'));
    (100..=599).contains(&status).then_some(status)
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let crlf = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    let lf = bytes.windows(2).position(|two| two == b"\n\n").map(|at| at + 2);
    match (crlf, lf) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_request_names_host_and_path() {
        let text = request("[::1]:8080".parse().unwrap(), "/healthz?full=1");
        assert!(text.starts_with("GET /healthz?full=1 HTTP/1.1\r\nHost: [::1]:8080\r\n"));
        assert!(text.ends_with("\r\nConnection: close\r\n\r\n"));
    }

    #[test]
    fn a_status_line_may_come_in_pieces() {
        let whole = b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n";
        for end in 0..24 {
            assert_eq!(Answer::read(&whole[..end]), Answer::Partial, "{end}");
        }
        assert_eq!(Answer::read(&whole[..25]), Answer::Status(204));
        assert_eq!(Answer::read(whole), Answer::Status(204));
        assert_eq!(Answer::read(b"HTTP/1.0 503\n"), Answer::Status(503));
    }

    #[test]
    fn an_interim_answer_is_not_the_answer() {
        let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
        assert_eq!(Answer::read(interim), Answer::Partial);
        assert_eq!(Answer::read(&[interim.as_slice(), b"HTTP/1.1 302 Found\r\n"].concat()), Answer::Status(302));
    }

    #[test]
    fn other_protocols_are_not_taken_for_it() {
        for bytes in [
            &b"SSH-2.0-OpenSSH"[..],
            b"-ERR unknown command\r\n",
            b"HTTP/2 200\r\n",
            b"HTTP/1.1 2000 x\r\n",
            b"HTTP/1.1 20\r\n",
            b"HTTP/1.1  200 x\r\n",
            b"HTTP/1.1 999 x\r\n",
            b"\n",
        ] {
            assert_eq!(Answer::read(bytes), Answer::Nonsense, "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(Answer::read(&[b"HTTP/1.1 200 ".as_slice(), &[b'x'; MOST]].concat()), Answer::Nonsense);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let answer = Answer::read(&bytes);
            prop_assert!(answer != Answer::Partial || bytes.len() < MOST || bytes.starts_with(b"HTTP/1."));
        }
    }
}
