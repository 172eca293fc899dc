//! What a request line asks for, whichever form its target has.
//!
//! Rule: a worker is always asked in origin form (RFC 9112, 3.2), a path with its query in ASCII; what a client puts before
//! the path names this router. Deliberately not here: what the path means (`wire::Endpoint`).

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
        let target = origin_form(&method, std::str::from_utf8(request.target()).ok()?)?;
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

fn origin_form(method: &Method, target: &str) -> Option<String> {
    if target.starts_with('/') {
        // A fragment is no part of a request (RFC 9110, 7.1).
        return Some(in_ascii(target.split('#').next().unwrap_or_default()));
    }
    // Each of the other forms belongs to one method (RFC 9112, 3.2.3 and 3.2.4); elsewhere two readers make two paths of it.
    if target == "*" && method == Method::OPTIONS {
        return Some(target.to_owned());
    }
    // It is refused whatever it asks for, and that may hold a password.
    if method == Method::CONNECT {
        return Some("/".to_owned());
    }
    let uri: Uri = target.parse().ok()?;
    uri.scheme()?;
    Some(match uri.path_and_query().map(http::uri::PathAndQuery::as_str) {
        None => "/".to_owned(),
        Some(path) if path.starts_with('/') => in_ascii(path),
        Some(query) => in_ascii(&format!("/{query}")),
    })
}

/// With what is beyond ASCII percent-encoded, as a URI has it (RFC 3986, 2.1): some readers take a byte such as 0xA0 for a blank.
fn in_ascii(target: &str) -> String {
    if target.is_ascii() {
        return target.to_owned();
    }
    let mut out = String::with_capacity(target.len() * 2);
    for byte in target.bytes() {
        if byte.is_ascii() {
            out.push(char::from(byte));
        } else {
            let digit = |value: u8| char::from(b"0123456789ABCDEF"[usize::from(value & 15)]);
            out.extend(['%', digit(byte >> 4), digit(byte)]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_becomes_a_path_or_is_refused() {
        for (method, target, wanted) in [
            ("GET", "/generate?x=1", Some("/generate?x=1")),
            ("GET", "/a#b", Some("/a")),
            ("GET", "//a/b", Some("//a/b")),
            ("GET", "/\u{e9}?\u{a0}", Some("/%C3%A9?%C2%A0")),
            ("OPTIONS", "*", Some("*")),
            ("GET", "*", None),
            ("GET", "http://elsewhere/y?q=1", Some("/y?q=1")),
            ("GET", "http://elsewhere", Some("/")),
            ("GET", "http://elsewhere?q=1", Some("/?q=1")),
            ("CONNECT", "u:p@elsewhere:80", Some("/")),
            ("GET", "elsewhere:80", None),
            ("GET", "elsewhere", None),
            ("GET", "!", None),
            ("GET", "http://", None),
            ("GET", "?q", None),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(origin_form(&method, target).as_deref(), wanted, "{method} {target}");
        }
    }
}
