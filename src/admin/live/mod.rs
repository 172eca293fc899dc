//! `GET /milepost/live`: a page that shows the fleet and the last requests while the router runs, and what it asks for.
//!
//! `fleet` is what the router holds in memory, `tail` what stands at the end of the trace. Rule: the page is one document without
//! data, so everybody may have it; what it shows comes from two endpoints with the access of `/milepost/trace`. Nothing is kept or
//! done while nobody looks, and many who look cost as much as one: an answer is made at most every [`EVERY_NS`]. The page's policy
//! (`content-security-policy`) names its script and its style by their hashes and lets it ask this router alone. Deliberately
//! not here: how a request's stages are found (`export::stages`).

use std::sync::{LazyLock, Mutex};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response};
use tokio_rustls::rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;

use self::fleet::Glance;
use self::tail::Tail;
use crate::proxy::body::AnswerBody;

pub mod fleet;
pub mod rows;
pub mod tail;

/// Shortest time between two looks at the same thing.
pub const EVERY_NS: u64 = 400_000_000;

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What is kept for those who look at this router.
#[derive(Debug, Default)]
pub struct Live {
    fleet: Mutex<Glance>,
    tail: Tail,
}

/// The page as it is sent.
struct Page {
    html: Bytes,
    policy: HeaderValue,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source_hash(SCRIPT),
        source_hash(STYLE)
    );
    Page {
        html: FRAME.replacen("{{style}}", STYLE, 1).replacen("{{script}}", SCRIPT, 1).into(),
        // Plain characters; what is no header value would be the strictest policy there is.
        policy: HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'")),
    }
});

/// The page.
pub fn page() -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::own(PAGE.html.clone()));
    let fixed: [(HeaderName, &str); 4] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, PAGE.policy.clone());
    response
}

/// JSON that is true for a moment.
fn momentary(body: impl Into<Bytes>) -> Response<AnswerBody> {
    let mut response = super::with_type(200, body, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a policy calls an inline script or style: nothing else of that kind runs then.
fn source_hash(source: &str) -> String {
    // The TLS library's SHA-256; the suite is of TLS 1.3 and so always has one.
    let hash =
        TLS13_AES_128_GCM_SHA256.tls13().map(|suite| suite.common.hash_provider.hash(source.as_bytes()));
    format!("sha256-{}", base64(hash.as_ref().map_or(&[], AsRef::as_ref)))
}

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(three.get(at).copied().unwrap_or(0)));
        for place in 0..4 {
            let letter = BASE64[bits >> (18 - 6 * place) & 63];
            out.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_named_as_browsers_name_it() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|t| base64(t.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
        // The example of the CSP specification.
        assert_eq!(
            source_hash("alert('Hello, world.');"),
            "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="
        );
    }

    #[test]
    fn the_page_needs_nothing_but_itself_and_writes_no_markup() {
        let html = std::str::from_utf8(&PAGE.html).unwrap();
        assert!(!html.contains("{{"), "every part is in its place");
        for word in [
            "http:",
            "https:",
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "localStorage",
            "cookie",
            " style=",
            "src=",
        ] {
            assert!(!html.contains(word), "{word}");
        }
    }
}
