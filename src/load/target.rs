//! Where requests go: `http://host[:port][/prefix]`, or https.
//!
//! Rule: an address that cannot be used is refused with what was expected, before the run. Deliberately not here:
//! connecting, and who signs certificates (`connections`).

use std::fmt;

use crate::config::worker_url::WorkerUrl;
use crate::net::tls::{ServerName, server_name};

/// A base URL of a server or router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// It is spoken to by TLS.
    pub https: bool,
    /// Path before every endpoint's, without a slash at its end; mostly empty.
    pub prefix: String,
}

impl Target {
    /// Reads a base URL. A port left out is 80, or 443 of https.
    pub fn parse(url: &str) -> Result<Self, String> {
        let expected = || format!("expected http://host:port, got {url}");
        let uri: http::Uri = url.parse().map_err(|_| expected())?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(expected()),
        };
        let authority = uri.authority().ok_or_else(expected)?;
        if uri.query().is_some() || authority.as_str().contains('@') {
            return Err(expected());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let after_host = &authority.as_str()[authority.host().len()..];
        let port = match after_host.strip_prefix(':') {
            Some(text) => text.parse().map_err(|_| expected())?,
            None if https => 443,
            None => 80,
        };
        if host.is_empty() || port == 0 {
            return Err(expected());
        }
        if https && server_name(&host).is_none() {
            return Err(format!("{}: no certificate can be for this host", expected()));
        }
        Ok(Self { host, port, https, prefix: uri.path().trim_end_matches('/').to_owned() })
    }

    /// Whose certificate must be shown there; none where nothing is shown.
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        self.https.then(|| server_name(&self.host)).flatten()
    }

    /// `host:port`, with brackets round an IPv6 address: the form of the `Host` header and of the CSV's `host`.
    pub fn host_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The path of an endpoint here.
    pub fn path(&self, endpoint: &str) -> String {
        format!("{}{endpoint}", self.prefix)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host_port(), self.prefix)
    }
}

/// `host:port` of a worker URL as routers give it (`http://10.0.0.1:30000`, perhaps https, perhaps with `@rank`); the text
/// itself if it is not a URL.
pub fn host_port_of(url: &str) -> String {
    match WorkerUrl::parse(url) {
        Ok(worker) => worker.authority().to_owned(),
        Err(_) => Target::parse(url).map_or_else(|_| url.to_owned(), |t| t.host_port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let t = Target::parse("http://gpu3:8000/v0/").unwrap();
        assert_eq!((t.host_port().as_str(), t.path("/generate").as_str()), ("gpu3:8000", "/v0/generate"));
        assert_eq!(Target::parse("http://[::1]:7").unwrap().host_port(), "[::1]:7");
        assert_eq!(Target::parse("http://a").unwrap().port, 80);
        let secure = Target::parse("https://gpu3/v0").unwrap();
        assert_eq!((secure.port, secure.to_string().as_str()), (443, "https://gpu3:443/v0"));
        assert!(secure.server_name().is_some() && t.server_name().is_none());
        for url in ["http://127.0.0.1:31000", "https://127.0.0.1:31000/", "http://127.0.0.1:31000@3"] {
            assert_eq!(host_port_of(url), "127.0.0.1:31000");
        }
    }

    #[test]
    fn others_are_refused() {
        for bad in [
            "gpu3:8000",
            "https://a..b:1",
            "http://",
            "http://a:99999",
            "http://a:0",
            "http://a:1/?q=1",
            "http://u@a:1",
            "",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
