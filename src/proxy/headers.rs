//! Which headers go where, and the router's own.
//!
//! Rule: towards a worker an allowlist (sglang-router's, plus what a body needs to be understood, plus
//! `--forward-headers`); towards the client everything but hop-by-hop headers. Stamps are Unix seconds with nine decimals.
//! Deliberately not here: when the stamps are taken.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::journey::Journey;
use crate::units;

/// Request id, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// When the request head was parsed.
pub const ARRIVAL_TIME: HeaderName = HeaderName::from_static("x-arrival-time");
/// Just before the first byte went to the worker.
pub const ROUTER_SEND_TIME: HeaderName = HeaderName::from_static("x-router-send-time");
/// The worker that answered.
pub const WORKER_URL: HeaderName = HeaderName::from_static("x-worker-url");
/// The policy that chose it.
pub const POLICY: HeaderName = HeaderName::from_static("x-policy");
/// Part of a run that a request belongs to, such as `warmup`.
pub const PHASE: HeaderName = HeaderName::from_static("x-milepost-phase");
/// Routers that this request has passed.
pub const HOP: HeaderName = HeaderName::from_static("x-milepost-hop");
/// Sticky key of sglang-router's `manual` policy.
pub const ROUTING_KEY: HeaderName = HeaderName::from_static("x-smg-routing-key");
/// sglang-router's machine-readable error code.
pub const ERROR_CODE: HeaderName = HeaderName::from_static("x-smg-error-code");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Names of the request id, in sglang-router's order.
const ID_NAMES: [&str; 4] = ["x-request-id", "x-correlation-id", "x-trace-id", "request-id"];
/// Longest request id kept, in characters.
const MAX_ID_CHARS: usize = 128;

/// Passed to a worker as they are. The first six are sglang-router 0.3.2's list; the others say what the body is, who asks,
/// or are read by SGLang itself.
const ALLOWED: [&str; 13] = [
    "authorization",
    "x-correlation-id",
    "traceparent",
    "tracestate",
    "x-smg-routing-key",
    "x-request-id",
    "content-type",
    "content-encoding",
    "x-body-compressed",
    "accept",
    "user-agent",
    "x-data-parallel-rank",
    "x-milepost-sim-fault",
];
const ALLOWED_PREFIXES: [&str; 2] = ["x-request-id-", "x-override-"];

const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The client's request id: the first of the four names that holds 1 to 128 visible ASCII characters.
pub fn client_request_id(headers: &HeaderMap) -> Option<String> {
    ID_NAMES.iter().find_map(|name| visible(headers.get(*name)?))
}

/// A header's text, if it is short and visible ASCII.
pub fn visible(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let fine = (1..=MAX_ID_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fine.then(|| text.to_owned())
}

/// What a worker gets of the client's headers; the router's own are added by [`stamp_request`].
pub fn to_worker(client: &HeaderMap, extra: &[HeaderName]) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(16);
    for (name, value) in client {
        let text = name.as_str();
        let allowed = ALLOWED.contains(&text)
            || ALLOWED_PREFIXES.iter().any(|p| text.starts_with(p))
            || extra.contains(name);
        if allowed && !is_router_owned(text) && !is_hop_by_hop(text) {
            out.append(name.clone(), value.clone());
        }
    }
    // The router's mark on the way: a request that comes back is a loop.
    for hop in client.get_all(HOP) {
        out.append(HOP, hop.clone());
    }
    out
}

fn is_router_owned(name: &str) -> bool {
    matches!(name, "host" | "content-length" | "x-arrival-time" | "x-router-send-time")
}

fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// Adds the stamps that a worker sees.
pub fn stamp_request(headers: &mut HeaderMap, journey: &Journey) {
    headers.insert(REQUEST_ID, journey.id_value().clone());
    headers.insert(ARRIVAL_TIME, journey.arrival_value().clone());
    headers.insert(ROUTER_SEND_TIME, seconds(journey.router_send_unix_ns()));
}

/// Turns a worker's response headers into the client's.
pub fn to_client(headers: &mut HeaderMap, journey: &Journey) {
    // `Connection` may name more hop-by-hop headers.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|n| n.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    stamp_response(headers, journey);
}

/// Adds the stamps that a client sees.
pub fn stamp_response(headers: &mut HeaderMap, journey: &Journey) {
    let record = journey.record();
    headers.insert(REQUEST_ID, journey.id_value().clone());
    headers.insert(ARRIVAL_TIME, journey.arrival_value().clone());
    if let Some(send_ns) = record.router_send_ns {
        headers.insert(ROUTER_SEND_TIME, seconds(journey.router_send_unix_ns()));
        let wait_ns = record.head_ns.map_or(0, |head_ns| head_ns.saturating_sub(send_ns));
        let timing =
            format!("router;dur={}, worker-head;dur={}", units::millis(send_ns), units::millis(wait_ns));
        headers.insert(SERVER_TIMING, ascii(&timing));
    }
    if let Some(worker) = &record.worker {
        headers.insert(WORKER_URL, ascii(worker));
    }
    if let Some(policy) = &record.policy {
        headers.insert(POLICY, ascii(policy));
    }
}

/// A Unix time as a header value.
pub fn seconds(unix_ns: u64) -> HeaderValue {
    ascii(&units::unix_seconds(unix_ns))
}

/// Text known to be ASCII as a header value; anything else becomes empty rather than a panic.
pub fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap()))
            .collect()
    }

    #[test]
    fn the_allowlist_passes_and_nothing_else() {
        let client = map(&[
            ("authorization", "Bearer k"),
            ("cookie", "c"),
            ("x-custom", "1"),
            ("x-override-rid", "r"),
            ("x-request-id-span", "s"),
            ("x-arrival-time", "1"),
            ("content-type", "application/json"),
            ("connection", "close"),
        ]);
        let out = to_worker(&client, &["x-custom".parse().unwrap()]);
        let names: Vec<&str> = out.keys().map(HeaderName::as_str).collect();
        assert_eq!(
            names,
            ["authorization", "x-custom", "x-override-rid", "x-request-id-span", "content-type"]
        );
    }

    #[test]
    fn an_id_is_taken_from_the_first_name_that_is_fit_to_be_kept() {
        let headers = map(&[("request-id", "d"), ("x-correlation-id", "b")]);
        assert_eq!(client_request_id(&headers).as_deref(), Some("b"));
        let long = "a".repeat(129);
        assert_eq!(
            client_request_id(&map(&[("x-request-id", &long), ("x-trace-id", "t")])).as_deref(),
            Some("t")
        );
        assert_eq!(client_request_id(&map(&[("x-request-id", "has space")])), None);
    }
}
