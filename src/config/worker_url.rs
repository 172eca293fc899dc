//! A worker's URL: `http://host:port`, and nothing else can be one.
//!
//! Rule: two spellings of one worker (a trailing slash, upper-case host) are one value. Deliberately not here: name
//! resolution, which is the fleet's, as an unresolvable name may resolve later.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// `http://host:port`, normalised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkerUrl {
    url: Arc<str>,
    host: Arc<str>,
    port: u16,
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
    /// Reads `http://host:port` with an optional trailing slash.
    pub fn parse(text: &str) -> Result<Self, WorkerUrlError> {
        let text = text.trim();
        if text.contains('@') {
            // First of all, as the other refusals quote the text.
            return Err(WorkerUrlError("a worker URL must not carry a user or password".to_owned()));
        }
        if text.as_bytes().get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https://")) {
            return Err(WorkerUrlError(format!(
                "{text}: https workers are not supported yet; use http://host:port inside the cluster"
            )));
        }
        let expected = |why: &str| WorkerUrlError(format!("expected http://host:port, got {text}{why}"));
        let uri: http::Uri = text.parse().map_err(|_| expected(""))?;
        if uri.scheme_str() != Some("http") {
            return Err(expected(""));
        }
        let authority = uri.authority().ok_or_else(|| expected(""))?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(expected(" (a path does not belong to a worker; requests bring their own)"));
        }
        if authority.host().is_empty() {
            return Err(expected(" (no host)"));
        }
        // What follows the host is nothing, or a colon and a port: `http` itself lets some bad ports pass as absent.
        let after_host = &authority.as_str()[authority.host().len()..];
        let port = match after_host.strip_prefix(':') {
            None => 80,
            Some(text) => match text.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return Err(expected(" (bad port)")),
            },
        };
        let host = authority.host().to_ascii_lowercase();
        let url = format!("http://{host}:{port}");
        Ok(Self { url: url.into(), host: host.into(), port })
    }

    /// `http://host:port`, always with the port.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The same text, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.url)
    }

    /// `host:port`, as in a `Host` header.
    pub fn authority(&self) -> &str {
        &self.url["http://".len()..]
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
            "httpsx\u{20ac}y",
        ];
        for text in bad {
            let error = WorkerUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains("expected http://host:port"), "{text}: {error}");
        }
        assert!(WorkerUrl::parse("https://gpu3:8000").unwrap_err().to_string().contains("https"));
        for text in
            ["http://u:secret@gpu3:1", "u:secret@gpu3:1", "https://u:secret@gpu3", "http://u:secret@gpu 3"]
        {
            assert!(!WorkerUrl::parse(text).unwrap_err().to_string().contains("secret"), "{text}");
        }
    }
}
