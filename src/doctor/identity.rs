//! What answers at a URL: an SGLang server, a router, or something else.
//!
//! Rule: by what it says and by what its answers hold, never by the name that it was given. Only flags that a router's user acts
//! on are kept of a server's description, which also holds keys. Deliberately not here: what follows (`remedy`).

use http::StatusCode;
use serde_json::Value;

use super::call::Exchange;
use super::patient::Patient;
use super::report::{Identity, Kind};
use crate::fleet::ask::{Question, ask_whole};
use crate::fleet::worker::{Described, INFO_PATHS};
use crate::proxy::headers;

/// Flags of an engine that matter to whoever routes to it.
const ENGINE: [&str; 12] = [
    "chunked_prefill_size",
    "disable_radix_cache",
    "dp_size",
    "enable_cache_report",
    "enable_metrics",
    "max_queued_requests",
    "max_running_requests",
    "max_total_num_tokens",
    "page_size",
    "schedule_policy",
    "stream_interval",
    "tp_size",
];
/// What bounds the tokens of one request, prompt included; the least counts.
const TOKEN_LIMITS: [&str; 4] =
    ["max_req_input_len", "max_context_length", "context_length", "max_total_num_tokens"];
/// Numbers from here on stand for "no limit" (0.4.9 tells 2^63 - 1).
const NO_LIMIT: u64 = 1 << 53;

/// Asks it what it is. `first` is the status of the first question, `heard` are the small requests.
pub(super) async fn find(patient: &Patient, first: StatusCode, heard: &[&Exchange]) -> (Kind, Identity) {
    let mut statuses = vec![first.as_u16()];
    let mut described = Described::default();
    let mut identity = Identity::default();
    let mut names_itself = false;
    for path in INFO_PATHS {
        let question = Question::get(path, patient.limits.question);
        let Ok(answer) = ask_whole(&patient.worker, &patient.clock, &question).await else {
            continue;
        };
        statuses.push(answer.status.as_u16());
        if !answer.status.is_success() {
            continue;
        }
        let Ok(info) = serde_json::from_slice::<Value>(&answer.body) else {
            continue;
        };
        names_itself |= info.get("router_manager").is_some();
        described = described.with(&info, answer.routed);
        read_flags(&mut identity, &info);
        if described.version.is_some() {
            break;
        }
    }
    let has_header = |name| heard.iter().any(|exchange| exchange.router_headers.contains(&name));
    let is_router = described.router == Some(true) || heard.iter().any(|e| !e.router_headers.is_empty());
    let generates = heard.iter().any(|exchange| exchange.answer.tokens.completion_tokens.is_some());
    let what = if is_router {
        Kind::Router
    } else if generates || described.version.is_some() || described.model.is_some() {
        Kind::Sglang
    } else {
        Kind::Http
    };
    identity.router = is_router.then(|| match () {
        () if has_header(headers::ARRIVAL_TIME) => "milepost",
        () if names_itself => "sglang-router",
        () => "unknown",
    });
    let refuses = |status: &u16| matches!(status, 401 | 403);
    identity.wants_key = heard.iter().filter_map(|exchange| exchange.status).find(refuses);
    // A proxy may let requests through and keep descriptions to itself.
    identity.hides_description = statuses.into_iter().find(refuses).filter(|_| identity.wants_key.is_none());
    identity.simulated = if heard.iter().any(|e| e.simulated) { Some(true) } else { described.simulated };
    identity.version = described.version;
    identity.model = described.served_model_name.or(described.model);
    (what, identity)
}

fn read_flags(identity: &mut Identity, info: &Value) {
    for flag in ENGINE {
        let told = info.get(flag).filter(|value| !value.is_null());
        if let Some(value) = told.filter(|value| value.as_u64().is_none_or(|n| n < NO_LIMIT)) {
            identity.engine.insert(flag, value.clone());
        }
    }
    let limits = TOKEN_LIMITS.iter().filter_map(|name| info.get(name)?.as_u64());
    identity.max_request_tokens = limits.chain(identity.max_request_tokens).min();
    if let Some(front_end) = info.get("frontend").and_then(Value::as_str) {
        identity.front_end = Some(front_end.to_owned());
    }
}
