//! Sends OTLP requests to a collector over HTTP.
//!
//! Rule: one request at a time on a connection that is kept; what a collector may take later (429, 502, 503, 504, no answer) is
//! sent again up to [`ATTEMPTS`] times with growing pauses, or longer ones that it asks for; everything else is an error at once.
//! Whatever is waited for has a limit. Deliberately not here: what is sent.

use std::fmt;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Uri};
use serde::Deserialize;

use crate::clock::Clock;
use crate::http1::{Connection, Outgoing, lines};
use crate::net::Connector;

/// Times that a request is sent before it is given up.
pub const ATTEMPTS: u32 = 5;
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before the second attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Largest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Where a collector takes spans.
const PATH: &str = "/v1/traces";
/// The port on which it does by HTTP.
const HTTP_PORT: u16 = 4318;
/// The port on which it does by gRPC, which is not spoken here.
const GRPC_PORT: u16 = 4317;
/// Longest pause that a collector may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A collector's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    host: String,
    port: u16,
    path: Uri,
    is_instead_of_grpc: bool,
}

impl Collector {
    /// Reads `http://host:port`, with a path if it is not `/v1/traces`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text}: {why}; expected http://HOST:4318");
        let uri: Uri = text.parse().map_err(|e: http::uri::InvalidUri| wrong(&e.to_string()))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("spans are sent without TLS, to a collector on this host")),
            _ => return Err(wrong("it is no http URL")),
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it has no host"))?;
        let path = if uri.path() == "/" { Uri::from_static(PATH) } else { uri.clone() };
        let behind_host = uri.authority().and_then(|all| all.as_str().split(host).nth(1)).unwrap_or_default();
        let port = match uri.port_u16() {
            Some(port) => port,
            None if behind_host.contains(':') => return Err(wrong("its port is none")),
            None => 80,
        };
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), port, path, is_instead_of_grpc: false })
    }

    /// Reads `--otlp-traces-endpoint`: a URL, or sglang-router's `HOST:PORT`. Port 4317 without a path is the one of gRPC on which
    /// collectors listen beside 4318, so 4318 is meant, and [`Self::is_instead_of_grpc`] says so.
    pub fn of_endpoint(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Self::parse(text).map(Self::by_http);
        }
        let named = Self::parse(&format!("http://{text}"));
        let mut collector = named.map_err(|why| why.replacen("http://", "", 1))?;
        if !text.trim_end_matches('/').ends_with(&format!(":{}", collector.port)) && !text.contains('/') {
            collector.port = HTTP_PORT;
        }
        Ok(collector.by_http())
    }

    fn by_http(mut self) -> Self {
        if self.port == GRPC_PORT && self.path == Uri::from_static(PATH) {
            (self.port, self.is_instead_of_grpc) = (HTTP_PORT, true);
        }
        self
    }

    /// The port that was named is that of gRPC.
    pub fn is_instead_of_grpc(&self) -> bool {
        self.is_instead_of_grpc
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path.path())
    }
}

/// Why spans were not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// They may be taken later: why, and the pause that the collector asked for.
    Later(String, Option<Duration>),
    /// They never will.
    Never(String),
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Later(why, _) | Self::Never(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for NotTaken {}

/// What a collector says of a request that it took.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Taken {
    partial_success: Partial,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Partial {
    /// A 64-bit number, which JSON has as a string or as a number.
    rejected_spans: serde_json::Value,
}

/// A way to a collector.
#[derive(Debug)]
pub struct Sender {
    collector: Collector,
    connector: Connector,
    clock: Clock,
    connection: Option<Connection>,
}

impl Sender {
    /// To a collector, over TCP.
    pub fn to(collector: Collector, clock: Clock) -> Self {
        Self::over(Connector::Tcp { timeout: CONNECT_TIMEOUT }, collector, clock)
    }

    /// To a collector that is reached so.
    pub fn over(connector: Connector, collector: Collector, clock: Clock) -> Self {
        Self { collector, connector, clock, connection: None }
    }

    /// Sends a request until it is taken, at most [`ATTEMPTS`] times; returns how many of its spans the collector refused.
    pub async fn send(&mut self, body: &[u8]) -> Result<u64, NotTaken> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            match self.send_once(body).await {
                Err(NotTaken::Later(_, asked)) if attempt < ATTEMPTS => {
                    tokio::time::sleep(asked.unwrap_or_default().max(pause)).await;
                    pause *= 2;
                    attempt += 1;
                }
                Err(NotTaken::Later(why, asked)) => {
                    let why = format!("{}: {why}, {ATTEMPTS} times", self.collector);
                    return Err(NotTaken::Later(why, asked));
                }
                Err(NotTaken::Never(why)) => {
                    return Err(NotTaken::Never(format!("{}: {why}", self.collector)));
                }
                Ok(rejected) => return Ok(rejected),
            }
        }
    }

    /// Sends a request once; returns how many of its spans the collector refused.
    pub async fn send_once(&mut self, body: &[u8]) -> Result<u64, NotTaken> {
        match tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(body)).await {
            Ok(done) => done,
            Err(_) => Err(later(format!("no answer in {} s", ANSWER_TIMEOUT.as_secs()))),
        }
    }

    async fn exchange(&mut self, body: &[u8]) -> Result<u64, NotTaken> {
        let mut connection = self.connected().await?;
        let mut headers = HeaderMap::new();
        let host = HeaderValue::try_from(self.collector.authority());
        headers.insert(HOST, host.map_err(|e| NotTaken::Never(e.to_string()))?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let head =
            lines::request_head(&Method::POST, &self.collector.path, &headers, Some(body.len() as u64));
        let sent = connection.send(Outgoing::new([head.as_bytes(), body]), false).await;
        let answer = sent.map_err(|e| later(e.error.to_string()))?;
        let pause = asked_pause(connection.field("retry-after"));
        let said = connection.collect(MAX_ANSWER_BYTES).await.map_err(later)?;
        self.connection = Some(connection);
        match answer.status {
            200..=299 => Ok(rejected(&said)),
            status @ (429 | 502 | 503 | 504) => Err(NotTaken::Later(format!("status {status}"), pause)),
            status => Err(NotTaken::Never(format!("status {status}: {}", words(&said)))),
        }
    }

    async fn connected(&mut self) -> Result<Connection, NotTaken> {
        if let Some(mut kept) = self.connection.take()
            && kept.is_ready()
        {
            return Ok(kept);
        }
        let Collector { host, port, .. } = &self.collector;
        let failed = |e: std::io::Error| later(e.to_string());
        let addrs = self.connector.resolve(host, *port).await.map_err(failed)?;
        let (io, link) = self.connector.connect(&addrs).await.map_err(failed)?;
        Ok(Connection::new(io, link, self.clock.clone()))
    }
}

fn later(why: String) -> NotTaken {
    NotTaken::Later(why, None)
}

/// The beginning of what a collector says, in one line: it goes into the log and to terminals.
fn words(answer: &[u8]) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    String::from_utf8_lossy(answer).trim().chars().take(200).map(shown).collect()
}

/// The seconds of `retry-after`; its other form, a date, is in a clock that may not be ours.
fn asked_pause(value: Option<&[u8]>) -> Option<Duration> {
    let seconds: u64 = std::str::from_utf8(value?).ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_PAUSE))
}

/// Spans that a collector refused of a request it took; an answer that says nothing refuses none.
fn rejected(answer: &[u8]) -> u64 {
    let taken: Taken = serde_json::from_slice(answer).unwrap_or_default();
    let count = taken.partial_success.rejected_spans;
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_by_an_http_url() {
        let shown = |text: &str| Collector::parse(text).map(|collector| collector.to_string());
        assert_eq!(shown("http://localhost:4318").unwrap(), "http://localhost:4318/v1/traces");
        assert_eq!(shown("http://[::1]:4318/tempo/v1/traces").unwrap(), "http://[::1]:4318/tempo/v1/traces");
        assert!(shown("https://c:4318").unwrap_err().contains("without TLS"));
        for bad in ["localhost:4318", "c", "ftp://c", "http://"] {
            assert!(shown(bad).unwrap_err().contains("expected http://"), "{bad}");
        }
    }

    #[test]
    fn an_endpoint_is_named_as_for_sglang_router_and_the_port_of_grpc_is_seen() {
        let shown = |text: &str| {
            let collector = Collector::of_endpoint(text).unwrap();
            (collector.to_string(), collector.is_instead_of_grpc())
        };
        let at = |place: &str| format!("http://{place}/v1/traces");
        for (text, place, is_moved) in [
            ("localhost:4317", "localhost:4318", true),
            ("http://c:4317", "c:4318", true),
            ("[::1]:4317", "[::1]:4318", true),
            ("c:4318", "c:4318", false),
            ("c:80", "c:80", false),
            ("c", "c:4318", false),
            ("http://c", "c:80", false),
        ] {
            assert_eq!(shown(text), (at(place), is_moved), "{text}");
        }
        assert_eq!(
            shown("http://c:4317/otlp"),
            ("http://c:4317/otlp".to_owned(), false),
            "by its path it is HTTP"
        );
        for bad in ["https://c:4318", "", ":4318", "a b", "grpc://c:4317", "c:port"] {
            assert!(Collector::of_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_collector_may_ask_for_a_pause_that_has_a_limit() {
        assert_eq!(asked_pause(Some(b" 7 ")), Some(Duration::from_secs(7)));
        assert_eq!(asked_pause(Some(b"86400")), Some(MAX_PAUSE));
        assert_eq!((asked_pause(Some(b"Wed, 21 Oct 2015 07:28:00 GMT")), asked_pause(None)), (None, None));
    }

    #[test]
    fn what_a_collector_says_is_one_line_that_commands_no_terminal() {
        assert_eq!(words(b"no such\r\npath\x1b[2J\n"), "no such  path [2J");
        assert_eq!(words("\u{e9}".repeat(300).as_bytes()).chars().count(), 200);
    }

    #[test]
    fn refused_spans_are_counted_however_they_are_written() {
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"x"}}"#), 3);
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":4}}"#), 4);
        assert_eq!((rejected(b"{}"), rejected(b""), rejected(b"ok")), (0, 0, 0));
    }
}
