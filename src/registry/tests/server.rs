//! A small HTTP/1.1 server on loopback whose answers a test decides, down to where they break off.

use crate::image::Digest;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub method: String,
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Where the asked range begins.
    pub fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    stall: Duration,
    chunked: bool,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply { status, headers: Vec::new(), body: body.into(), cut: None, stall: Duration::ZERO, chunked: false }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Breaks off after that many bytes of the announced body.
    pub fn cut(mut self, at: usize) -> Self {
        self.cut = Some(at);
        self
    }

    /// Says nothing for that long where it is cut, or before the head.
    pub fn stall(mut self, time: Duration) -> Self {
        self.stall = time;
        self
    }

    /// Does not announce a length.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    fn write(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        if self.cut.is_none() {
            std::thread::sleep(self.stall);
        }
        let mut head = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        if self.chunked {
            for piece in self.body.chunks(1000) {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
                stream.write_all(piece)?;
                stream.write_all(b"\r\n")?;
            }
            return stream.write_all(b"0\r\n\r\n");
        }
        stream.write_all(&self.body[..self.cut.unwrap_or(self.body.len()).min(self.body.len())])?;
        if self.cut.is_some() {
            std::thread::sleep(self.stall);
        }
        Ok(())
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// The server; ends when dropped.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Request>>>::default();
        let stop = Arc::<AtomicBool>::default();
        let (notes, end, handler) = (seen.clone(), stop.clone(), Arc::<Handler>::from(Box::new(handler) as Box<Handler>));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                let (notes, handler) = (notes.clone(), handler.clone());
                let stream = stream.unwrap();
                std::thread::spawn(move || answer(stream, &notes, &*handler));
            }
        });
        Server { address, seen, stop, thread: Some(thread) }
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn answer(mut stream: TcpStream, notes: &Mutex<Vec<Request>>, handler: &Handler) {
    let Some(request) = read(&stream) else { return };
    notes.lock().unwrap().push(request.clone());
    // The client may be gone already: that is its right.
    let _ = handler(&request).write(&mut stream);
    let _ = stream.shutdown(Shutdown::Both);
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::<String, String>::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let entry = headers.entry(name.to_ascii_lowercase()).or_default();
        entry.push_str(if entry.is_empty() { "" } else { ", " });
        entry.push_str(value.trim());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, target, headers, body: String::from_utf8(body).ok()? })
}

/// What a registry holds: targets and what they are.
#[derive(Clone, Debug, Default)]
pub(super) struct Content(BTreeMap<String, (String, Vec<u8>)>);

impl Content {
    /// Adds a blob.
    pub fn blob(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.0.insert(format!("/v2/{}/blobs/{digest}", super::REPOSITORY), ("application/octet-stream".into(), bytes.into()));
        digest
    }

    /// Adds a manifest under its digest and `tag`.
    pub fn manifest(&mut self, tag: &str, media_type: &str, text: &str) -> Digest {
        let digest = Digest::of(text.as_bytes());
        for name in [tag, &digest.to_string()] {
            let target = format!("/v2/{}/manifests/{name}", super::REPOSITORY);
            self.0.insert(target, (media_type.into(), text.as_bytes().into()));
        }
        digest
    }

    /// Answers as a registry would, ranges included.
    pub fn reply(&self, request: &Request) -> Reply {
        if request.target == "/v2/" {
            return Reply::new(200, "{}");
        }
        let Some((media_type, bytes)) = self.0.get(&request.target) else {
            return Reply::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#);
        };
        let reply = match request.from() {
            Some(from) if from < bytes.len() => Reply::new(206, &bytes[from..])
                .header("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
            Some(_) => Reply::new(416, ""),
            None => Reply::new(200, bytes.as_slice()),
        };
        reply.header("Content-Type", media_type).header("Docker-Content-Digest", Digest::of(bytes).to_string())
    }
}
