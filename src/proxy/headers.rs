//! Which headers go where, and the router's own.
//!
//! Rule: towards a worker an allowlist (sglang-router's, plus what a body needs to be understood, plus
//! `--forward-headers`); towards the client everything but hop-by-hop headers. Stamps are Unix seconds with nine decimals.
//! Deliberately not here: when the stamps are taken.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::journey::Journey;
use crate::units;
use crate::wire::problem;

/// Request id, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// When the request head was parsed.
pub const ARRIVAL_TIME: HeaderName = HeaderName::from_static("x-arrival-time");
/// Just before the first byte went to the worker.
pub const ROUTER_SEND_TIME: HeaderName = HeaderName::from_static("x-router-send-time");
/// The worker that answered: an engine, never a router behind this one.
pub const WORKER_URL: HeaderName = HeaderName::from_static("x-worker-url");
/// The same, as sglang-router's successor names it.
pub const ROUTED_WORKER: HeaderName = HeaderName::from_static("x-smg-routed-worker-id");
/// The policy that chose it.
pub const POLICY: HeaderName = HeaderName::from_static("x-policy");
/// Routers that this request has passed.
pub const HOP: HeaderName = HeaderName::from_static("x-milepost-hop");
/// sglang-router's machine-readable error code.
pub const ERROR_CODE: HeaderName = HeaderName::from_static(problem::CODE_HEADER);
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Longest request id kept, in characters.
const MAX_ID_CHARS: usize = 128;

/// What the router itself reads of a client's headers, found in one pass: each look-up by name would hash the name.
#[derive(Debug, Default)]
pub struct ClientHeaders<'a> {
    ids: [Option<&'a HeaderValue>; 4],
    /// The first `authorization`.
    pub authorization: Option<&'a HeaderValue>,
    /// `origin`: a browser asks.
    pub origin: Option<&'a HeaderValue>,
    /// `access-control-request-method`: a browser asks whether it may ask.
    pub request_method: Option<&'a HeaderValue>,
    /// `access-control-request-headers`.
    pub request_headers: Option<&'a HeaderValue>,
    /// `x-milepost-phase`.
    pub phase: Option<&'a HeaderValue>,
    /// `x-arrival-time` of a router in front.
    pub arrival_time: Option<&'a HeaderValue>,
    /// `x-smg-routing-key`, sglang-router's sticky key.
    pub routing_key: Option<&'a HeaderValue>,
    /// `x-smg-target-worker`.
    pub target_worker: Option<&'a HeaderValue>,
    /// `x-milepost-policy`.
    pub policy: Option<&'a HeaderValue>,
    /// Who asks: `authorization`, `x-forwarded-for`, `cookie`.
    pub client: [Option<&'a HeaderValue>; 3],
    /// `upgrade`.
    pub upgrade: Option<&'a HeaderValue>,
    /// A `transfer-encoding` is there that is not `chunked` alone.
    pub is_coded: bool,
    /// Number of `host` headers.
    pub hosts: usize,
    /// This router has seen the request before.
    pub is_loop: bool,
}

impl<'a> ClientHeaders<'a> {
    /// Reads them; `instance` is this router's mark.
    pub fn scan(headers: &'a HeaderMap, instance: &HeaderValue) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                // The four names of a request id, in sglang-router's order.
                "x-request-id" => found.ids[0] = found.ids[0].or(Some(value)),
                "x-correlation-id" => found.ids[1] = found.ids[1].or(Some(value)),
                "x-trace-id" => found.ids[2] = found.ids[2].or(Some(value)),
                "request-id" => found.ids[3] = found.ids[3].or(Some(value)),
                "authorization" => {
                    found.authorization = found.authorization.or(Some(value));
                    found.client[0] = Some(value);
                }
                "origin" => found.origin = Some(value),
                "access-control-request-method" => found.request_method = Some(value),
                "access-control-request-headers" => found.request_headers = Some(value),
                "x-milepost-phase" => found.phase = Some(value),
                "x-arrival-time" => found.arrival_time = Some(value),
                "x-smg-routing-key" => found.routing_key = Some(value),
                "x-smg-target-worker" => found.target_worker = Some(value),
                "x-milepost-policy" => found.policy = Some(value),
                "x-forwarded-for" => found.client[1] = Some(value),
                "cookie" => found.client[2] = Some(value),
                "upgrade" => found.upgrade = Some(value),
                "host" => found.hosts += 1,
                "transfer-encoding" => found.is_coded |= !value.as_bytes().eq_ignore_ascii_case(b"chunked"),
                "x-milepost-hop" => found.is_loop |= value == instance,
                _ => {}
            }
        }
        found
    }

    /// Looks for the request id under these names, in their order, and no longer under the four usual ones.
    pub fn take_ids_from(&mut self, headers: &'a HeaderMap, names: &[HeaderName]) {
        let fit = names.iter().find_map(|name| headers.get(name).filter(|v| is_visible(v)));
        self.ids = [fit, None, None, None];
    }

    /// The first of the ids that is 1 to 128 visible ASCII characters, as text and as it came.
    pub fn request_id(&self) -> Option<(String, HeaderValue)> {
        self.ids.iter().flatten().find_map(|value| Some((visible(value)?, (*value).clone())))
    }
}

/// A header's text, if it is short and visible ASCII.
pub fn visible(value: &HeaderValue) -> Option<String> {
    is_visible(value).then(|| value.to_str().ok().map(str::to_owned)).flatten()
}

fn is_visible(value: &HeaderValue) -> bool {
    (1..=MAX_ID_CHARS).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// What a worker gets of the client's headers; the router's own are added by [`stamp_request`].
pub fn to_worker(client: &HeaderMap, extra: &[HeaderName]) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(16);
    for (name, value) in client {
        // Of two keys no worker could tell which one counts.
        if name == header::AUTHORIZATION && out.contains_key(name) {
            continue;
        }
        if passes(name.as_str()) || (extra.contains(name) && !is_router_owned(name.as_str())) {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

/// The allowlist: the first line is sglang-router 0.3.2's (with `x-request-id-*`); then what says what the body is and who
/// asks, what SGLang itself reads, and the marks of routers on the way and of `milepost worker`'s faults.
fn passes(name: &str) -> bool {
    let allowed = [
        [
            "authorization",
            "x-correlation-id",
            "traceparent",
            "tracestate",
            "x-smg-routing-key",
            "x-request-id",
        ],
        [
            "content-type",
            "content-encoding",
            "x-body-compressed",
            "accept",
            "user-agent",
            "x-data-parallel-rank",
        ],
    ];
    allowed.as_flattened().contains(&name)
        || ["x-request-id-", "x-override-"].iter().any(|prefix| name.starts_with(prefix))
        || matches!(name, "x-milepost-hop" | "x-milepost-sim-fault")
}

/// Never taken from a client, whatever `--forward-headers` says: the router sets them, or they are of one hop.
fn is_router_owned(name: &str) -> bool {
    matches!(name, "host" | "content-length" | "x-arrival-time" | "x-router-send-time") || is_hop_by_hop(name)
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Adds the stamps that a worker sees.
pub fn stamp_request(headers: &mut HeaderMap, journey: &Journey) {
    headers.insert(REQUEST_ID, journey.id_value().clone());
    headers.insert(ARRIVAL_TIME, journey.arrival_value().clone());
    if let Some(send) = journey.send_value() {
        headers.insert(ROUTER_SEND_TIME, send.clone());
    }
}

/// Turns a worker's response headers into the client's.
pub fn to_client(headers: &mut HeaderMap, journey: &Journey) {
    // Most answers have no hop-by-hop header but `transfer-encoding`, so look before removing. `Connection` may name more.
    let mut drop: Vec<HeaderName> = headers.keys().filter(|n| is_hop_by_hop(n.as_str())).cloned().collect();
    if drop.contains(&header::CONNECTION) {
        let named = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
        drop.extend(named.flat_map(|v| v.split(',')).filter_map(|n| n.trim().parse().ok()));
    }
    if drop.contains(&header::TRANSFER_ENCODING) {
        // The chunks say where the body ends; a length beside them is not to be believed (RFC 9112, 6.3) and hyper would.
        drop.push(header::CONTENT_LENGTH);
    }
    for name in drop {
        headers.remove(name);
    }
    stamp_response(headers, journey);
}

/// Adds the stamps that a client sees.
pub fn stamp_response(headers: &mut HeaderMap, journey: &Journey) {
    headers.insert(REQUEST_ID, journey.id_value().clone());
    headers.insert(ARRIVAL_TIME, journey.arrival_value().clone());
    let record = journey.record();
    if let (Some(send), Some(send_ns)) = (journey.send_value(), record.router_send_ns) {
        headers.insert(ROUTER_SEND_TIME, send.clone());
        let mut timing = Vec::with_capacity(64);
        timing.extend_from_slice(b"router;dur=");
        units::push_millis(&mut timing, send_ns);
        if let Some(head_ns) = record.head_ns {
            timing.extend_from_slice(b", worker-head;dur=");
            units::push_millis(&mut timing, head_ns.saturating_sub(send_ns));
        }
        headers.insert(SERVER_TIMING, value(timing));
    }
    if let Some(worker) = journey.worker() {
        // What is told is the engine: of a router behind, its own word passes, if it has one.
        if !worker.is_router() {
            headers.insert(WORKER_URL, worker.url_value.clone());
        }
        if let Some(Cow::Borrowed(policy)) = record.policy {
            headers.insert(POLICY, HeaderValue::from_static(policy));
        }
        headers.insert(ROUTED_WORKER, worker.url_value.clone());
    }
}

/// A Unix time as a header value.
pub fn seconds(unix_ns: u64) -> HeaderValue {
    let mut text = Vec::with_capacity(24);
    units::push_unix_seconds(&mut text, unix_ns);
    value(text)
}

/// Bytes known to be ASCII as a header value; anything else becomes empty rather than a panic.
pub fn value(text: Vec<u8>) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static(""))
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
        let id = |pairs: &[(&str, &str)]| {
            let headers = map(pairs);
            let mark = HeaderValue::from_static("me");
            ClientHeaders::scan(&headers, &mark).request_id().map(|(text, _)| text)
        };
        assert_eq!(id(&[("request-id", "d"), ("x-correlation-id", "b")]).as_deref(), Some("b"));
        let long = "a".repeat(129);
        assert_eq!(id(&[("x-request-id", &long), ("x-trace-id", "t")]).as_deref(), Some("t"));
        assert_eq!(id(&[("x-request-id", "has space")]), None);
        assert_eq!(id(&[("x-request-id", "first"), ("x-request-id", "second")]).as_deref(), Some("first"));
    }

    #[test]
    fn names_of_ones_own_replace_the_four() {
        let names: [HeaderName; 2] = ["x-trace".parse().unwrap(), "x-span".parse().unwrap()];
        let id = |pairs: &[(&str, &str)]| {
            let headers = map(pairs);
            let mut known = ClientHeaders::scan(&headers, &HeaderValue::from_static("me"));
            known.take_ids_from(&headers, &names);
            known.request_id().map(|(text, _)| text)
        };
        assert_eq!(id(&[("x-span", "s"), ("x-trace", "t")]).as_deref(), Some("t"));
        assert_eq!(id(&[("x-span", "s"), ("x-trace", "not fit")]).as_deref(), Some("s"));
        assert_eq!(id(&[("x-request-id", "r")]), None);
    }
}
