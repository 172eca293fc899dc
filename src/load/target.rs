//! Where requests go: `http://host[:port][/prefix]`.
//!
//! Rule: an address that cannot be used is refused with what was expected, before the run. Deliberately not here: TLS (put a
//! proxy that speaks it in front) and connecting, see `connection`.

use std::fmt;

use crate::config::worker_url::WorkerUrl;

/// A base URL of a server or router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path before every endpoint's, without a slash at its end; mostly empty.
    pub prefix: String,
}

impl Target {
    /// Reads a base URL. A port left out is 80.
    pub fn parse(url: &str) -> Result<Self, String> {
        let expected = || format!("expected http://host:port, got {url}");
        let uri: http::Uri = url.parse().map_err(|_| expected())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "https is not spoken by this client; expected http://host:port, got {url}"
                ));
            }
            _ => return Err(expected()),
        }
        let authority = uri.authority().ok_or_else(expected)?;
        if uri.query().is_some() || authority.as_str().contains('@') {
            return Err(expected());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let after_host = &authority.as_str()[authority.host().len()..];
        let port = match after_host.strip_prefix(':') {
            Some(text) => text.parse().map_err(|_| expected())?,
            None => 80,
        };
        if host.is_empty() || port == 0 {
            return Err(expected());
        }
        Ok(Self { host, port, prefix: uri.path().trim_end_matches('/').to_owned() })
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
        write!(f, "http://{}{}", self.host_port(), self.prefix)
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
        for url in ["http://127.0.0.1:31000", "https://127.0.0.1:31000/", "http://127.0.0.1:31000@3"] {
            assert_eq!(host_port_of(url), "127.0.0.1:31000");
        }
    }

    #[test]
    fn others_are_refused() {
        for bad in [
            "gpu3:8000",
            "https://a:1",
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
