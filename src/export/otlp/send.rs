//! Sends OTLP requests to a collector over HTTP.
//!
//! Rule: one request at a time on a connection that is kept; what a collector may take later (429, 502, 503, 504, no answer) is
//! sent again up to [`ATTEMPTS`] times with growing pauses, everything else is an error at once. Whatever is waited for has a
//! limit. Deliberately not here: what is sent.

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

/// A collector's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    host: String,
    port: u16,
    path: Uri,
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
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), port: uri.port_u16().unwrap_or(80), path })
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
    /// They may be taken later.
    Later(String),
    /// They never will.
    Never(String),
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Later(why) | Self::Never(why) => f.write_str(why),
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
        let connector = Connector::Tcp { timeout: CONNECT_TIMEOUT };
        Self { collector, connector, clock, connection: None }
    }

    /// Sends a request until it is taken, at most [`ATTEMPTS`] times; returns how many of its spans the collector refused.
    pub async fn send(&mut self, body: &[u8]) -> Result<u64, NotTaken> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            match self.send_once(body).await {
                Err(NotTaken::Later(_)) if attempt < ATTEMPTS => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    attempt += 1;
                }
                Err(NotTaken::Later(why)) => {
                    return Err(NotTaken::Later(format!("{}: {why}, {ATTEMPTS} times", self.collector)));
                }
                Err(NotTaken::Never(why)) => {
                    return Err(NotTaken::Never(format!("{}: {why}", self.collector)));
                }
                Ok(rejected) => return Ok(rejected),
            }
        }
    }

    async fn send_once(&mut self, body: &[u8]) -> Result<u64, NotTaken> {
        match tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(body)).await {
            Ok(done) => done,
            Err(_) => Err(NotTaken::Later(format!("no answer in {} s", ANSWER_TIMEOUT.as_secs()))),
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
        let answer = sent.map_err(|e| NotTaken::Later(e.error.to_string()))?;
        let said = connection.collect(MAX_ANSWER_BYTES).await.map_err(NotTaken::Later)?;
        self.connection = Some(connection);
        match answer.status {
            200..=299 => Ok(rejected(&said)),
            status @ (429 | 502 | 503 | 504) => Err(NotTaken::Later(format!("status {status}"))),
            status => {
                let words: String = String::from_utf8_lossy(&said).chars().take(200).collect();
                Err(NotTaken::Never(format!("status {status}: {words}")))
            }
        }
    }

    async fn connected(&mut self) -> Result<Connection, NotTaken> {
        if let Some(mut kept) = self.connection.take()
            && kept.is_ready()
        {
            return Ok(kept);
        }
        let Collector { host, port, .. } = &self.collector;
        let failed = |e: std::io::Error| NotTaken::Later(e.to_string());
        let addrs = self.connector.resolve(host, *port).await.map_err(failed)?;
        let (io, link) = self.connector.connect(&addrs).await.map_err(failed)?;
        Ok(Connection::new(io, link, self.clock.clone()))
    }
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
    fn refused_spans_are_counted_however_they_are_written() {
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"x"}}"#), 3);
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":4}}"#), 4);
        assert_eq!((rejected(b"{}"), rejected(b""), rejected(b"ok")), (0, 0, 0));
    }
}
