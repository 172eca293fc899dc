//! Cases: bytes, what the router must make of them, and which public list has them.
//!
//! Rule: what is expected is text that is compared as a whole with what was seen (`stage`), and goes into `docs/smuggling.md`
//! as it stands. Deliberately not here: the cases.

use std::ops::RangeInclusive;

/// `PortSwigger`'s pages on request smuggling, desync attacks and their successors.
pub const PORTSWIGGER: &str = "PortSwigger";
/// The mutations of `defparam/smuggler`.
pub const SMUGGLER: &str = "smuggler";
/// The bugs that `narfindustries/http-garden` has found in servers and proxies.
pub const GARDEN: &str = "http-garden";
/// The cases of `MDA2AV/Http11Probe`.
pub const PROBE: &str = "Http11Probe";
/// The specification itself.
pub const RFC: &str = "RFC 9112";

/// What is sent behind every case, on the same connection.
pub const SECOND: &str = "GET /second HTTP/1.1\r\nhost: r\r\n\r\n";

/// One sequence of bytes.
pub struct Case {
    pub name: String,
    pub source: &'static str,
    pub bytes: Vec<u8>,
    /// What the client is told: statuses, and whether the request behind is answered or the connection closed.
    pub told: String,
    /// What the worker receives, without what the router adds to every request and without the request behind.
    pub worker: String,
}

/// Cases of one kind.
pub struct Class {
    pub title: &'static str,
    pub cases: Vec<Case>,
}

impl Class {
    pub fn new(title: &'static str) -> Self {
        Self { title, cases: Vec::new() }
    }

    /// Whatever is told and received.
    pub fn is(
        &mut self,
        name: &str,
        source: &'static str,
        bytes: impl Into<Vec<u8>>,
        told: &str,
        worker: &str,
    ) {
        let (name, bytes, worker) = (name.to_owned(), bytes.into(), shown(worker.as_bytes()));
        self.cases.push(Case { name, source, bytes, told: told.to_owned(), worker });
    }

    /// No request: 400, the connection closes, no worker hears of it.
    pub fn refused(&mut self, name: &str, source: &'static str, bytes: impl Into<Vec<u8>>) {
        self.is(name, source, bytes, "400, closed", "nothing");
    }

    /// A request; the one behind it is answered too.
    pub fn passed(&mut self, name: &str, source: &'static str, bytes: impl Into<Vec<u8>>, worker: &str) {
        self.is(name, source, bytes, "200, then the next", worker);
    }

    /// A request, and the last of its connection.
    pub fn last(&mut self, name: &str, source: &'static str, bytes: impl Into<Vec<u8>>, worker: &str) {
        self.is(name, source, bytes, "200, closed", worker);
    }
}

/// Cases that differ in one byte.
pub struct Family {
    /// `<b>` stands for the byte.
    pub name: &'static str,
    pub source: &'static str,
    pub make: fn(u8) -> Vec<u8>,
    pub bytes: &'static [RangeInclusive<u8>],
    /// Bytes with which it is no 400: what is told, what a worker receives.
    pub but: &'static [(&'static [u8], &'static str, &'static str)],
}

impl Family {
    /// Each byte as a case of its own.
    pub fn cases(&self) -> Vec<Case> {
        let bytes = self.bytes.iter().cloned().flatten();
        let case = |byte: u8| {
            let (told, worker) = self.expected(byte);
            Case {
                name: self.name.replace("<b>", &format!("\\x{byte:02x}")),
                source: self.source,
                bytes: (self.make)(byte),
                told: told.to_owned(),
                worker: shown(worker.as_bytes()),
            }
        };
        bytes.map(case).collect()
    }

    /// What is told and received with this byte.
    pub fn expected(&self, byte: u8) -> (&'static str, &'static str) {
        let found = self.but.iter().find(|(bytes, ..)| bytes.contains(&byte));
        found.map_or(("400, closed", "nothing"), |(_, told, worker)| (*told, *worker))
    }
}

/// A POST with these field lines and this body.
pub fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST /first HTTP/1.1\r\nhost: r\r\n{fields}\r\n{body}").into_bytes()
}

/// A POST in chunks.
pub fn chunked(body: &str) -> Vec<u8> {
    post("transfer-encoding: chunked\r\n", body)
}

/// A POST as a worker receives it.
pub fn received(body: &str) -> String {
    format!("POST /first HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// As text in which every byte can be told from every other.
pub fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"")
}
