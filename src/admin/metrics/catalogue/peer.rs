//! The families under the names of sglang-router 0.3.2, with its label names and values.
//!
//! Rule: same name, same labels, and a meaning that a dashboard made for it can live with; where ours says more (durations of
//! whole streams) the meaning says so. Deliberately not here: its gRPC, MCP, database, discovery and mesh families, as there
//! is nothing behind them.

use super::Family;
use super::Kind::{Counter, Gauge, Histogram};

const ROUTER: [&str; 3] = ["router_type", "backend_type", "connection_mode"];
const BY_WORKER: &[&str] = &["worker"];
const BY_ENDPOINT: &[&str] = &["worker_type", "endpoint"];

macro_rules! families {
    ($($id:ident = $kind:ident $name:literal $labels:expr, $unit:literal, $meaning:literal, $moves:literal;)*) => {
        $(#[doc = concat!("`", $name, "`")]
        pub static $id: Family = Family {
            name: $name, kind: $kind, labels: $labels, unit: $unit, meaning: $meaning, moves: $moves,
        };)*
        /// All of this file.
        pub static ALL: &[&Family] = &[$(&$id),*];
    };
}
pub(super) use families;

families! {
    HTTP_REQUESTS = Counter "smg_http_requests_total" &["method", "path"], "requests",
        "Requests accepted.", "when a head has been read";
    HTTP_DURATION = Histogram "smg_http_request_duration_seconds" &["method", "path"], "seconds",
        "Arrival to end, the whole stream included.", "when the request ends, however it ends";
    HTTP_RESPONSES = Counter "smg_http_responses_total" &["status_code", "error_code"], "responses",
        "Responses by status; error_code is the X-SMG-Error-Code of the router's own errors, else empty.",
        "when the request ends; not if the client was gone before a head";
    HTTP_CONNECTIONS = Gauge "smg_http_connections_active" &[], "connections",
        "Client connections open.", "with each connection";
    HTTP_AGES = Gauge "smg_http_inflight_request_age_count" &["gt", "le"], "requests",
        "Requests in flight by age in seconds (gt < age <= le, not cumulative), to 5 s.", "always";
    HTTP_LIMIT = Counter "smg_http_rate_limit_total" &["result"], "requests",
        "Decisions of the limits (allowed, rejected).", "when a request may begin or is refused";
    ROUTER_REQUESTS = Counter "smg_router_requests_total"
        &[ROUTER[0], ROUTER[1], ROUTER[2], "model", "endpoint", "streaming"], "requests",
        "Requests that a worker was to answer.", "when the request ends";
    ROUTER_DURATION = Histogram "smg_router_request_duration_seconds"
        &[ROUTER[0], ROUTER[1], ROUTER[2], "model", "endpoint"], "seconds",
        "Arrival to end of the good answers, the whole stream included.", "when the whole answer has been passed on";
    ROUTER_ERRORS = Counter "smg_router_request_errors_total"
        &[ROUTER[0], ROUTER[1], ROUTER[2], "model", "endpoint", "error_type"], "requests",
        "Routed requests without a good answer (validation_error, backend_error, no_workers, timeout, internal_error).",
        "when the request ends; not if its client left or the router was stopped";
    UPSTREAM_RESPONSES = Counter "smg_router_upstream_responses_total"
        &["router_type", "status_code", "error_code"], "responses",
        "Response heads from workers, those of failed attempts included; error_code is empty.",
        "when the request ends";
    POOL_SIZE = Gauge "smg_worker_pool_size" &["worker_type", "connection_mode", "model"], "workers",
        "Workers in the fleet by the model they report.", "when one joins, leaves or tells its model";
    REQUESTS_ACTIVE = Gauge "smg_worker_requests_active" BY_WORKER, "requests",
        "Requests in flight at the worker through this router, for every policy.",
        "when a request is given to it and when that ends";
    HEALTH = Gauge "smg_worker_health" BY_WORKER, "0 or 1",
        "1 if the health checks let the worker have requests.", "with the worker's state";
    HEALTH_CHECKS = Counter "smg_worker_health_checks_total" &["worker_type", "result"], "checks",
        "Health checks (success, failure), those of a worker that has not answered yet included.", "with each check";
    SELECTION = Counter "smg_worker_selection_total" &["worker_type", "connection_mode", "model", "policy"], "attempts",
        "Times a policy chose a worker: one for each attempt.", "when the request ends";
    WORKER_ERRORS = Counter "smg_worker_errors_total" &["worker_type", "connection_mode", "error_type"], "attempts",
        "Attempts that a worker failed (backend_error, timeout); an answer of 400 to 499 is its client's fault and not counted, save 408 and 429.",
        "when the attempt ends";
    CB_STATE = Gauge "smg_worker_cb_state" BY_WORKER, "0, 1 or 2",
        "State of the circuit breaker: 0 closed, 1 open, 2 half-open.", "with the breaker";
    CB_TRANSITIONS = Counter "smg_worker_cb_transitions_total" &["worker", "from", "to"], "transitions",
        "Changes of the breaker's state (closed, open, half_open).", "with each change";
    CB_OUTCOMES = Counter "smg_worker_cb_outcomes_total" &["worker", "outcome"], "attempts",
        "What the breaker was told (success, failure).", "when an attempt has told it";
    CB_FAILURES = Gauge "smg_worker_cb_consecutive_failures" BY_WORKER, "attempts",
        "Failures in a row.", "when an attempt has told the breaker";
    CB_SUCCESSES = Gauge "smg_worker_cb_consecutive_successes" BY_WORKER, "attempts",
        "Successes in a row.", "when an attempt has told the breaker";
    RETRIES = Counter "smg_worker_retries_total" BY_ENDPOINT, "attempts",
        "Attempts after the first one of a request.", "when the request ends";
    RETRIES_EXHAUSTED = Counter "smg_worker_retries_exhausted_total" BY_ENDPOINT, "requests",
        "Requests that another attempt might have bettered, with none left (--retry-max-retries) or nobody to make it at.", "when the last attempt fails";
    RETRY_BACKOFF = Histogram "smg_worker_retry_backoff_seconds" &["attempt"], "seconds",
        "Pause after attempt 1, 2 and so on (16 and above together); a retry at a free worker has none.",
        "when the request ends";
}
