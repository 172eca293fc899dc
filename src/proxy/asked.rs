//! What a request line asks for, whichever form its target has.
//!
//! Rule: a worker is always asked in origin form (RFC 9112, 3.2), a path with its query; what a client puts before the path
//! names this router. Deliberately not here: what the path means (`wire::Endpoint`).

use http::{Method, Uri};

use crate::http1::Request;

/// Method and target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Method.
    pub method: Method,
    /// Path and query, or `*`.
    target: String,
    path_bytes: usize,
}

impl Asked {
    /// Of a request; `None` if its target is none.
    pub fn of(request: &Request) -> Option<Self> {
        let method = Method::from_bytes(request.method()).ok()?;
        let target = origin_form(std::str::from_utf8(request.target()).ok()?)?;
        Some(Self { method, path_bytes: target.find('?').unwrap_or(target.len()), target })
    }

    /// Of a method and a path with perhaps a query.
    pub fn new(method: Method, target: &str) -> Self {
        Self { method, path_bytes: target.find('?').unwrap_or(target.len()), target: target.to_owned() }
    }

    /// What stands in for a request line that cannot be read.
    pub fn unreadable(request: &Request) -> Self {
        let method = Method::from_bytes(request.method()).unwrap_or_default();
        Self { method, target: "/".to_owned(), path_bytes: 1 }
    }

    /// Path and query, as a worker is asked.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        &self.target[..self.path_bytes]
    }
}

fn origin_form(target: &str) -> Option<String> {
    if target.starts_with('/') {
        // A fragment is no part of a request (RFC 9110, 7.1).
        return Some(target.split('#').next().unwrap_or_default().to_owned());
    }
    if target == "*" {
        return Some(target.to_owned());
    }
    let uri: Uri = target.parse().ok()?;
    Some(match uri.path_and_query().map(http::uri::PathAndQuery::as_str) {
        None => "/".to_owned(),
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(query) => format!("/{query}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_becomes_a_path() {
        for (target, wanted) in [
            ("/generate?x=1", Some("/generate?x=1")),
            ("/a#b", Some("/a")),
            ("//a/b", Some("//a/b")),
            ("*", Some("*")),
            ("http://elsewhere/y?q=1", Some("/y?q=1")),
            ("http://elsewhere", Some("/")),
            ("http://elsewhere?q=1", Some("/?q=1")),
            ("elsewhere:80", Some("/")),
            ("http://", None),
            ("?q", None),
        ] {
            assert_eq!(origin_form(target).as_deref(), wanted, "{target}");
        }
    }
}
