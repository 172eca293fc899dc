//! `/readiness`: may this router get traffic?
//!
//! Rule: 200 only if a worker would be chosen now, that is, one is healthy and its breaker admits a request (sglang-router's
//! looks at health alone); body shapes are sglang-router's. `/health` and `/liveness` are 200 while
//! the process runs, as its are.

use std::sync::atomic::Ordering;

use http::Response;
use serde_json::json;

use super::json as reply;
use crate::proxy::Shared;
use crate::proxy::body::AnswerBody;

/// 200 with counts, or 503 with the reason.
pub fn readiness(shared: &Shared) -> Response<AnswerBody> {
    let workers = shared.fleet.workers();
    let now_ns = shared.clock.mono_ns();
    let healthy = workers.iter().filter(|w| w.is_available(now_ns)).count();
    if shared.draining.load(Ordering::Acquire) {
        return reply(503, &json!({"status": "not ready", "reason": "shutting down"}));
    }
    if healthy == 0 {
        return reply(503, &json!({"status": "not ready", "reason": "insufficient healthy workers"}));
    }
    reply(200, &json!({"status": "ready", "healthy_workers": healthy, "total_workers": workers.len()}))
}
