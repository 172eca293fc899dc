//! A worker's URL: `http://host:port` or `https://host:port`, perhaps with `@rank`, and nothing else can be one.
//!
//! Rule: two spellings of one worker (a trailing slash, upper-case host) are one value; http and https of one port are two
//! workers, of which the wrong one never answers a health check. Deliberately not here: name resolution, which is the
//! fleet's, as an unresolvable name may resolve later.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::net::tls::server_name;

/// Longest part of a text that is quoted back.
const MAX_QUOTED_CHARS: usize = 200;

/// `http://host:port`, normalised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkerUrl {
    url: Arc<str>,
    host: Arc<str>,
    port: u16,
    https: bool,
    rank: Option<u32>,
}

/// Why a text is not a worker URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerUrlError(String);

impl fmt::Display for WorkerUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WorkerUrlError {}

impl WorkerUrl {
    /// Reads `http://host:port` or `https://host:port`, with an optional trailing slash or an `@rank` (one data-parallel rank
    /// of the server there). Without a port it is 80 or 443.
    pub fn parse(text: &str) -> Result<Self, WorkerUrlError> {
        let text = text.trim();
        let (text, rank) = split_rank(text)?;
        let expected = |why: &str| {
            // Control characters would make two lines of one, or worse, of a log.
            let shown: String = text.chars().filter(|c| !c.is_control()).take(MAX_QUOTED_CHARS).collect();
            WorkerUrlError(format!("expected http://host:port, got {shown}{why}"))
        };
        let uri: http::Uri = text.parse().map_err(|_| expected(hint(text)))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(expected(hint(text))),
        };
        let authority = uri.authority().ok_or_else(|| expected(""))?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(expected(" (a path does not belong to a worker; requests bring their own)"));
        }
        if authority.host().is_empty() {
            return Err(expected(" (no host)"));
        }
        if !is_host(authority.host()) {
            return Err(expected(hint(text)));
        }
        // What follows the host is nothing, or a colon and a port: `http` itself lets some bad ports pass as absent.
        let after_host = &authority.as_str()[authority.host().len()..];
        let port = match after_host.strip_prefix(':') {
            None if !after_host.is_empty() => return Err(expected(" (bad port)")),
            None if https => 443,
            None => 80,
            Some(text) => match text.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return Err(expected(" (bad port)")),
            },
        };
        let host: Arc<str> = authority.host().to_ascii_lowercase().into();
        let url = Self { url: written(https, &host, port, rank), host, port, https, rank };
        if https && server_name(url.host()).is_none() {
            return Err(expected(" (no certificate can be for this host)"));
        }
        Ok(url)
    }

    /// The same server, one of its data-parallel ranks or (`None`) the whole of it.
    #[must_use]
    pub fn with_rank(&self, rank: Option<u32>) -> Self {
        Self { url: written(self.https, &self.host, self.port, rank), rank, ..self.clone() }
    }

    /// `http://host:port`, always with the port, and `@rank` where it is one.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The same text, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.url)
    }

    /// `host:port`, as in a `Host` header.
    pub fn authority(&self) -> &str {
        let rest = &self.url[scheme(self.https).len()..];
        rest.split_once('@').map_or(rest, |(authority, _)| authority)
    }

    /// The worker is spoken to by TLS.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The data-parallel rank of the server that this worker is.
    pub fn rank(&self) -> Option<u32> {
        self.rank
    }

    /// Both are the same server, whichever of its ranks.
    pub fn is_same_server(&self, other: &Self) -> bool {
        (self.https, self.port) == (other.https, other.port) && self.host == other.host
    }

    /// Host name or address, without the brackets of IPv6.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket address, if the host is an IP literal.
    pub fn literal_addr(&self) -> Option<SocketAddr> {
        self.host().parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// A name that can be looked up, or an address; a URI's host may have commas and worse.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)),
    }
}

fn scheme(https: bool) -> &'static str {
    if https { "https://" } else { "http://" }
}

fn written(https: bool, host: &str, port: u16, rank: Option<u32>) -> Arc<str> {
    match rank {
        None => format!("{}{host}:{port}", scheme(https)).into(),
        Some(rank) => format!("{}{host}:{port}@{rank}", scheme(https)).into(),
    }
}

/// What is wrong with a text that is no URL, where that can be told: a list in one word, or the scheme left out.
fn hint(text: &str) -> &'static str {
    let several = text.contains(',') || text.split_whitespace().nth(1).is_some();
    match text.split_once("://") {
        _ if several => " (one worker by itself: several are separate words, without commas)",
        None if !text.is_empty() => " (http:// is missing)",
        Some(("grpc" | "grpcs", _)) => " (name the worker's HTTP port)",
        _ => "",
    }
}

/// Takes `@3` from the end. Any other `@` is a user, perhaps with a password, so the text is not quoted then: not even where
/// what follows is a number, unless a plain `host:port` stands before it.
fn split_rank(text: &str) -> Result<(&str, Option<u32>), WorkerUrlError> {
    let Some((before, after)) = text.split_once('@') else {
        return Ok((text, None));
    };
    let digits = after.strip_suffix('/').unwrap_or(after);
    let is_rank = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let port = before.rsplit_once(':').map(|(_, port)| port);
    let has_port = port.is_some_and(|p| p.parse::<u16>().is_ok());
    match digits.parse::<u32>() {
        Ok(rank) if is_rank && has_port => Ok((before, Some(rank))),
        _ => Err(WorkerUrlError(
            "a worker URL must not carry a user or password (a data-parallel rank is http://host:port@3)"
                .to_owned(),
        )),
    }
}

impl fmt::Display for WorkerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_worker_are_one_value() {
        let a = WorkerUrl::parse("http://GPU3:8000/").unwrap();
        assert_eq!(a, WorkerUrl::parse("http://gpu3:8000").unwrap());
        assert_eq!((a.as_str(), a.authority(), a.port()), ("http://gpu3:8000", "gpu3:8000", 8000));
        assert_eq!(WorkerUrl::parse("http://gpu3").unwrap().as_str(), "http://gpu3:80");
    }

    #[test]
    fn ipv6_keeps_its_brackets_in_the_authority() {
        let a = WorkerUrl::parse("http://[::1]:8000").unwrap();
        assert_eq!((a.authority(), a.host()), ("[::1]:8000", "::1"));
        assert_eq!(a.literal_addr(), Some("[::1]:8000".parse().unwrap()));
    }

    #[test]
    fn everything_else_says_what_was_expected() {
        let bad = [
            "gpu3:8000",
            "http://gpu3:8000/v1",
            "ftp://gpu3:1",
            "http://gpu3:0",
            "http://gpu3:99999",
            "http://gpu3:",
            "",
            "http://",
            "http://a b:1",
            "http://gpu3:8000?x=1",
            "http://\u{e9}\u{e9}",
            "http://[]:1",
            "http://[]0",
            "http://[::1]0",
            "http://[::1",
            "http://[gpu3]:1",
            "httpsx\u{20ac}y",
        ];
        for text in bad {
            let error = WorkerUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains("expected http://host:port"), "{text}: {error}");
        }
        let long = format!("http://gpu3:{}", "9".repeat(100_000));
        assert!(WorkerUrl::parse(&long).unwrap_err().to_string().len() < 300);
        for (text, words) in [
            ("gpu3:8000", "(http:// is missing)"),
            ("http://a:1,http://b:2", "without commas"),
            ("http://a:1 http://b:2", "separate words"),
            ("http://a,", "without commas"),
            ("http://a;b", "expected http://host:port"),
            ("grpc://a:1", "HTTP port"),
        ] {
            let error = WorkerUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        for text in [
            "http://u:secret@gpu3:1",
            "u:secret@gpu3:1",
            "https://u:secret@gpu3",
            "http://u:secret@gpu 3",
            "http://u:secret@3",
            "http://secret@3",
            "http://gpu3:8000@secret",
            "http://gpu3:8000@99999999999",
            "http://gpu3:8000@",
        ] {
            let error = WorkerUrl::parse(text).unwrap_err().to_string();
            assert!(!error.contains("secret") && error.contains("user or password"), "{text}: {error}");
        }
    }

    #[test]
    fn https_has_its_own_port_and_is_another_worker() {
        let url = WorkerUrl::parse("HTTPS://GPU3/").unwrap();
        assert_eq!((url.as_str(), url.authority(), url.is_https()), ("https://gpu3:443", "gpu3:443", true));
        let plain = WorkerUrl::parse("http://gpu3:443").unwrap();
        assert!(plain != url && !plain.is_same_server(&url));
        let error = WorkerUrl::parse("https://-gpu3-:1").unwrap_err().to_string();
        assert!(error.contains("no certificate"), "{error}");
    }

    #[test]
    fn a_rank_is_part_of_the_worker_and_not_of_its_address() {
        let rank = WorkerUrl::parse("http://[::1]:8000@3/").unwrap();
        assert_eq!((rank.as_str(), rank.authority()), ("http://[::1]:8000@3", "[::1]:8000"));
        assert_eq!((rank.rank(), rank.host(), rank.port()), (Some(3), "::1", 8000));
        let whole = WorkerUrl::parse("http://[::1]:8000").unwrap();
        assert!(rank != whole && rank.is_same_server(&whole));
        assert_eq!((rank.with_rank(None), whole.with_rank(Some(3))), (whole.clone(), rank.clone()));
        assert_eq!(WorkerUrl::parse("https://gpu3:1@0").unwrap().authority(), "gpu3:1");
    }
}
