//! What browsers are told: which origins may ask and read.
//!
//! Rule: a request without `Origin` is none of this file's business; one with it gets the router's word alone, never a
//! worker's beside it. Deliberately not here: keys; an origin opens nothing that a key guards.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response};

use super::body::AnswerBody;
use super::headers::ClientHeaders;
use crate::config::ConfigError;

/// How long a browser may keep the answer to its preflight, in seconds; sglang-router's.
const MAX_AGE: HeaderValue = HeaderValue::from_static("3600");
const ANY: HeaderValue = HeaderValue::from_static("*");

/// Whose pages may read answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cors {
    /// Anybody's.
    Any,
    /// These.
    Listed(Vec<HeaderValue>),
}

impl Cors {
    /// From `--cors-allowed-origins`; no origin, or `*` among them, is any.
    pub fn new(origins: &[String]) -> Result<Self, ConfigError> {
        if origins.is_empty() || origins.iter().any(|o| o == "*") {
            return Ok(Self::Any);
        }
        let listed = origins.iter().map(|text| {
            // A browser never sends the slash that people copy along.
            let value = HeaderValue::from_str(text.trim().trim_end_matches('/')).ok();
            value.filter(|v| v.to_str().is_ok_and(|v| !v.is_empty())).ok_or_else(|| {
                let message = format!("expected an origin such as https://app.example.org, got {text:?}");
                ConfigError(format!("--cors-allowed-origins: {message}"))
            })
        });
        Ok(Self::Listed(listed.collect::<Result<_, _>>()?))
    }

    /// The answer to a browser that asks first, if the request is one; [`Self::dress`] completes it.
    pub fn preflight(&self, method: &Method, known: &ClientHeaders<'_>) -> Option<Response<AnswerBody>> {
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).ok();
        let wanted = known.request_method.filter(|_| method == Method::OPTIONS).and_then(value)?;
        let origin = known.origin.and_then(value)?;
        let mut response = Response::new(AnswerBody::own(""));
        let out = response.headers_mut();
        out.insert(
            header::VARY,
            HeaderValue::from_static("access-control-request-method, access-control-request-headers"),
        );
        if self.allows(&origin) {
            // What was asked for rather than `*`, which browsers do not take for `authorization`.
            out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, wanted);
            if let Some(wanted) = known.request_headers.and_then(value) {
                out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
            }
            out.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        }
        Some(response)
    }

    /// Puts the router's word into the answer to a request of `origin`, in the place of a worker's.
    pub fn dress(&self, origin: &HeaderValue, out: &mut HeaderMap) {
        for name in [
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
        ] {
            out.remove(name);
        }
        let varies = |v: &HeaderValue| v.to_str().is_ok_and(|v| v.split(',').any(|v| is_origin(v.trim())));
        if !out.get_all(header::VARY).iter().any(varies) {
            out.append(header::VARY, HeaderValue::from(HeaderName::from_static("origin")));
        }
        if self.allows(origin) {
            let allowed = if *self == Self::Any { ANY } else { origin.clone() };
            out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            // The stamps and the request id are of use to a page as well.
            out.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANY);
        }
    }

    /// True for a field of a worker's answer that [`Self::dress`] replaces or reads.
    pub fn concerns(name: &[u8]) -> bool {
        matches!(
            name,
            b"vary"
                | b"access-control-allow-origin"
                | b"access-control-allow-credentials"
                | b"access-control-expose-headers"
        )
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(origins) => {
                origins.iter().any(|listed| listed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
            }
        }
    }
}

fn is_origin(name: &str) -> bool {
    name == "*" || name.eq_ignore_ascii_case("origin")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(origins: &[&str]) -> Result<Cors, ConfigError> {
        Cors::new(&origins.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
    }

    fn dressed(cors: &Cors, origin: &'static str, pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut out: HeaderMap =
            pairs.iter().map(|(n, v)| (n.clone(), HeaderValue::from_static(v))).collect();
        cors.dress(&HeaderValue::from_static(origin), &mut out);
        out
    }

    #[test]
    fn an_empty_list_or_a_star_is_any_origin_and_nonsense_is_refused() {
        assert_eq!(listed(&[]), Ok(Cors::Any));
        assert_eq!(listed(&["https://a.org", "*"]), Ok(Cors::Any));
        assert_eq!(listed(&["https://a.org/", " https://b "]), listed(&["https://a.org", "https://b"]));
        for bad in ["", "https://a\u{1}b", "/"] {
            let error = listed(&[bad]).unwrap_err().to_string();
            assert!(error.starts_with("--cors-allowed-origins: expected an origin such as"), "{error}");
        }
    }

    #[test]
    fn only_a_listed_origin_may_read_and_the_worker_has_no_say() {
        let cors = listed(&["https://a.org"]).unwrap();
        let worker = [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
            (header::VARY, "Accept-Encoding, Origin"),
        ];
        let mine = dressed(&cors, "https://A.org", &worker);
        assert_eq!(mine[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://A.org");
        assert_eq!(mine.get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN).iter().count(), 1);
        assert_eq!(mine.get_all(header::VARY).iter().count(), 1, "it says so already");
        assert!(!mine.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
        let other = dressed(&cors, "https://b.org", &worker);
        assert!(other.keys().all(|name| name == header::VARY), "{other:?}");
        assert_eq!(dressed(&Cors::Any, "null", &[])[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    }
}
