//! Which headers go where, and the router's own.
//!
//! Rule: towards a worker an allowlist (sglang-router's, plus what a body needs to be understood, plus
//! `--forward-headers`); towards the client everything but hop-by-hop headers. Stamps are Unix seconds with nine decimals.
//! Deliberately not here: when the stamps are taken.

use std::borrow::Cow;

use http::HeaderName;

use super::journey::Journey;
use crate::buffer::Buffer;
use crate::http1::{Connection, lines};
use crate::wire::problem;
use crate::wire::traceparent::Traceparent;

/// Request id, in and out.
pub const REQUEST_ID: &str = "x-request-id";
/// When the request head was parsed.
pub const ARRIVAL_TIME: &str = "x-arrival-time";
/// Just before the first byte went to the worker.
pub const ROUTER_SEND_TIME: &str = "x-router-send-time";
/// The worker that answered: an engine, never a router behind this one.
pub const WORKER_URL: &str = "x-worker-url";
/// The same, as sglang-router's successor names it.
pub const ROUTED_WORKER: &str = "x-smg-routed-worker-id";
/// The policy that chose it.
pub const POLICY: &str = "x-policy";
/// Routers that this request has passed.
pub const HOP: &str = "x-milepost-hop";
/// sglang-router's machine-readable error code.
pub const ERROR_CODE: HeaderName = HeaderName::from_static(problem::CODE_HEADER);
/// A client's own data-parallel rank.
pub const RANK: &str = "x-data-parallel-rank";
const SERVER_TIMING: &str = "server-timing";

/// Longest request id kept, in characters.
const MAX_ID_CHARS: usize = 128;

/// What the router itself reads of a client's headers, found in one pass.
#[derive(Debug, Default)]
pub struct ClientHeaders<'a> {
    ids: [Option<&'a [u8]>; 4],
    /// The first `authorization`.
    pub authorization: Option<&'a [u8]>,
    /// `origin`: a browser asks.
    pub origin: Option<&'a [u8]>,
    /// `access-control-request-method`: a browser asks whether it may ask.
    pub request_method: Option<&'a [u8]>,
    /// `access-control-request-headers`.
    pub request_headers: Option<&'a [u8]>,
    /// `x-milepost-phase`.
    pub phase: Option<&'a [u8]>,
    /// `x-arrival-time` of a router in front.
    pub arrival_time: Option<&'a [u8]>,
    /// `x-smg-routing-key`, sglang-router's sticky key.
    pub routing_key: Option<&'a [u8]>,
    /// `x-smg-target-worker`.
    pub target_worker: Option<&'a [u8]>,
    /// `x-milepost-policy`.
    pub policy: Option<&'a [u8]>,
    /// The last `traceparent`.
    traceparent: Option<&'a [u8]>,
    /// Their number.
    traceparents: usize,
    /// Who asks: `authorization`, `x-forwarded-for`, `cookie`.
    pub client: [Option<&'a [u8]>; 3],
    /// `upgrade`.
    pub upgrade: Option<&'a [u8]>,
    /// The body was coded before it was sent, so it cannot be looked at.
    pub is_encoded: bool,
    /// Number of `host` headers.
    pub hosts: usize,
    /// One of them is neither a host, perhaps with a port, nor empty.
    pub host_is_none: bool,
    /// This router has seen the request before.
    pub is_loop: bool,
}

impl<'a> ClientHeaders<'a> {
    /// Reads them; `instance` is this router's mark.
    pub fn scan(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>, instance: &str) -> Self {
        let mut found = Self::default();
        for (name, value) in fields {
            match name {
                // The four names of a request id, in sglang-router's order.
                b"x-request-id" => found.ids[0] = found.ids[0].or(Some(value)),
                b"x-correlation-id" => found.ids[1] = found.ids[1].or(Some(value)),
                b"x-trace-id" => found.ids[2] = found.ids[2].or(Some(value)),
                b"request-id" => found.ids[3] = found.ids[3].or(Some(value)),
                b"authorization" => {
                    found.authorization = found.authorization.or(Some(value));
                    found.client[0] = Some(value);
                }
                b"origin" => found.origin = Some(value),
                b"access-control-request-method" => found.request_method = Some(value),
                b"access-control-request-headers" => found.request_headers = Some(value),
                b"x-milepost-phase" => found.phase = Some(value),
                b"x-arrival-time" => found.arrival_time = Some(value),
                b"x-smg-routing-key" => found.routing_key = Some(value),
                b"x-smg-target-worker" => found.target_worker = Some(value),
                b"x-milepost-policy" => found.policy = Some(value),
                b"traceparent" => {
                    found.traceparent = Some(value);
                    found.traceparents += 1;
                }
                b"x-forwarded-for" => found.client[1] = Some(value),
                b"cookie" => found.client[2] = Some(value),
                b"upgrade" => found.upgrade = Some(value),
                b"content-encoding" | b"x-body-compressed" => found.is_encoded = true,
                b"host" => {
                    found.hosts += 1;
                    found.host_is_none |= !is_host(value);
                }
                b"x-milepost-hop" => found.is_loop |= value == instance.as_bytes(),
                _ => {}
            }
        }
        found
    }

    /// Looks for the request id under these names, in their order, and no longer under the four usual ones.
    pub fn take_ids_from(&mut self, field: impl Fn(&str) -> Option<&'a [u8]>, names: &[HeaderName]) {
        let fit = names.iter().find_map(|name| field(name.as_str()).filter(|v| is_visible(v)));
        self.ids = [fit, None, None, None];
    }

    /// The trace that the request is part of; of two `traceparent` nobody knows which one counts.
    pub fn traceparent(&self) -> Option<Traceparent> {
        self.traceparent.filter(|_| self.traceparents == 1).and_then(Traceparent::parse)
    }

    /// The first of the ids that is 1 to 128 visible ASCII characters.
    pub fn request_id(&self) -> Option<String> {
        self.ids.iter().flatten().find_map(|value| visible(value))
    }
}

/// Host and port as in a URI (RFC 3986, 3.2.2), without the comma, which makes two hosts for some readers. It may be empty.
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~%:[]!$&'()*+;=".contains(b))
}

/// A header's text, if it is short and visible ASCII.
pub fn visible(value: &[u8]) -> Option<String> {
    is_visible(value).then(|| std::str::from_utf8(value).ok().map(str::to_owned)).flatten()
}

fn is_visible(value: &[u8]) -> bool {
    (1..=MAX_ID_CHARS).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

/// What a worker gets of the client's headers, in their order; the key and the router's own are added by others.
pub fn to_worker<'a>(
    client: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    extra: &[HeaderName],
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    client.filter(|(name, _)| {
        passes(name) || extra.iter().any(|e| e.as_str().as_bytes() == *name && !is_router_owned(name))
    })
}

/// The allowlist: the first line is sglang-router 0.3.2's (with `x-request-id-*`, and `authorization`, see `auth`); then what
/// says what the body is and who asks, what SGLang itself reads, and the marks of routers on the way and of `milepost
/// worker`'s faults.
fn passes(name: &[u8]) -> bool {
    matches!(
        name,
        b"x-correlation-id"
            | b"traceparent"
            | b"tracestate"
            | b"x-smg-routing-key"
            | b"content-type"
            | b"content-encoding"
            | b"x-body-compressed"
            | b"accept"
            | b"user-agent"
            | b"x-data-parallel-rank"
            | b"x-milepost-hop"
            | b"x-milepost-sim-fault"
    ) || [&b"x-request-id-"[..], b"x-override-"].iter().any(|prefix| name.starts_with(prefix))
}

/// Never taken from a client, whatever `--forward-headers` says: the router sets them, or they are of one hop.
fn is_router_owned(name: &[u8]) -> bool {
    matches!(
        name,
        b"host"
            | b"content-length"
            | b"expect"
            | b"authorization"
            | b"x-request-id"
            | b"x-arrival-time"
            | b"x-router-send-time"
    ) || is_hop_by_hop(name)
}

fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"keep-alive"
            | b"proxy-authenticate"
            | b"proxy-authorization"
            | b"proxy-connection"
            | b"te"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
    )
}

/// Writes the stamps that a worker sees.
pub fn request_stamps(out: &mut Buffer, journey: &Journey) {
    lines::unix_seconds(out, ARRIVAL_TIME, journey.arrival_unix_ns());
    if let Some(send_ns) = journey.send_unix_ns() {
        lines::unix_seconds(out, ROUTER_SEND_TIME, send_ns);
    }
    lines::field(out, REQUEST_ID.as_bytes(), journey.record().request_id.as_bytes());
}

/// Writes the stamps that a client sees.
pub fn response_stamps(out: &mut Buffer, journey: &Journey) {
    request_stamps(out, journey);
    let record = journey.record();
    if let (Some(_), Some(send_ns)) = (journey.send_unix_ns(), record.router_send_ns) {
        out.push(b"server-timing: router;dur=");
        out.push_millis(send_ns);
        if let Some(head_ns) = record.head_ns {
            out.push(b", worker-head;dur=");
            out.push_millis(head_ns.saturating_sub(send_ns));
        }
        out.push(b"\r\n");
    }
    if let Some(worker) = journey.worker() {
        // What is told is the engine: of a router behind, its own word passes, if it has one.
        if !worker.is_router() {
            lines::field(out, WORKER_URL.as_bytes(), worker.url.as_str().as_bytes());
        }
        if let Some(Cow::Borrowed(policy)) = record.policy {
            lines::field(out, POLICY.as_bytes(), policy.as_bytes());
        }
        lines::field(out, ROUTED_WORKER.as_bytes(), worker.url.as_str().as_bytes());
    }
}

/// Name and value of each line of fields that were written.
pub fn written(lines: &Buffer) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = lines.as_bytes().split(|b| *b == b'\n');
    lines.filter_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

/// What a client gets of a worker's headers: all but those of one hop, those that frame the body, and those that are the
/// router's own. `of_router`: the worker is a router itself, whose word on the engine passes.
pub fn to_client(upstream: &Connection, of_router: bool) -> impl Iterator<Item = (&[u8], &[u8])> {
    // `Connection` may name more of one hop; most answers have none, and then nothing is allocated.
    let named: Vec<&[u8]> =
        upstream.fields().filter(|(name, _)| *name == b"connection").map(|(_, v)| v).collect();
    let is_named = move |name: &[u8]| {
        named.iter().flat_map(|v| v.split(|b| *b == b',')).any(|n| n.trim_ascii().eq_ignore_ascii_case(name))
    };
    upstream.fields().filter(move |(name, _)| {
        !is_hop_by_hop(name)
            && (!is_stamp(name) || (of_router && *name == WORKER_URL.as_bytes()))
            && *name != b"content-length"
            && !is_named(name)
    })
}

fn is_stamp(name: &[u8]) -> bool {
    [REQUEST_ID, ARRIVAL_TIME, ROUTER_SEND_TIME, SERVER_TIMING, WORKER_URL, POLICY, ROUTED_WORKER]
        .iter()
        .any(|stamp| stamp.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(pairs: &'a [(&str, &str)]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()))
    }

    #[test]
    fn the_allowlist_passes_and_nothing_else() {
        let client = [
            ("authorization", "Bearer k"),
            ("cookie", "c"),
            ("x-custom", "1"),
            ("x-override-rid", "r"),
            ("x-request-id-span", "s"),
            ("x-arrival-time", "1"),
            ("content-type", "application/json"),
            ("connection", "close"),
        ];
        let extra: [HeaderName; 2] = ["x-custom".parse().unwrap(), "connection".parse().unwrap()];
        let names: Vec<&[u8]> = to_worker(fields(&client), &extra).map(|(name, _)| name).collect();
        let expected = ["x-custom", "x-override-rid", "x-request-id-span", "content-type"];
        assert_eq!(names, expected.map(str::as_bytes));
    }

    #[test]
    fn a_host_is_one_host() {
        for good in ["gpu-3.lan:8000", "[::1]:30000", "a_b", "%C3%A9", ""] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in ["a, b", "u@a", "a/b", "a?b", "a#b", "a b", "a\\b", "\u{e9}"] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn an_id_is_taken_from_the_first_name_that_is_fit_to_be_kept() {
        let id = |pairs: &[(&str, &str)]| ClientHeaders::scan(fields(pairs), "me").request_id();
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
            let mut known = ClientHeaders::scan(fields(pairs), "me");
            known.take_ids_from(
                |name| fields(pairs).find(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v),
                &names,
            );
            known.request_id()
        };
        assert_eq!(id(&[("x-span", "s"), ("x-trace", "t")]).as_deref(), Some("t"));
        assert_eq!(id(&[("x-span", "s"), ("x-trace", "not fit")]).as_deref(), Some("s"));
        assert_eq!(id(&[("x-request-id", "r")]), None);
    }
}
