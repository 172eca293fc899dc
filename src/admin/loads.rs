//! How much the engines have to do, as they say themselves.
//!
//! Rule: a load that is not known is not a number: `None` in the program, `-1` only in the answer that sglang-router's clients
//! read. Its own code compared that -1 with real loads, and it won. Deliberately not here: requests in flight through this
//! router, which every policy sees fresh (`fleet`).

use std::time::Duration;

use http::Response;
use serde_json::{Map, Value, json};

use super::errand::{Errand, no_workers};
use super::fan_out::{ask_all, servers};
use super::json as reply;
use crate::proxy::body::AnswerBody;
use crate::proxy::journey::Refusal;
use crate::wire::loads::tokens;

/// Longest wait for one worker: 0.4.9 answers between two steps.
const TIMEOUT: Duration = Duration::from_secs(5);

/// `GET /get_loads`: tokens used and waiting at each worker, `-1` where it did not say.
pub async fn numbers(errand: &Errand<'_>) -> Response<AnswerBody> {
    let shared = errand.shared;
    let workers = servers(shared);
    // From 0.5.8 on, and the only one in 0.5.23; older ones have the other.
    let newer = errand.question("/v1/loads", TIMEOUT);
    let mut loads: Vec<Option<u64>> = Vec::with_capacity(workers.len());
    for heard in ask_all(shared, workers.clone(), &newer).all().await {
        loads.push(heard.success().and_then(|answer| tokens(&answer.body)));
    }
    let (positions, left): (Vec<usize>, Vec<_>) =
        workers.iter().cloned().enumerate().filter(|(i, _)| loads[*i].is_none()).unzip();
    let older = errand.question("/get_load", TIMEOUT);
    for (position, heard) in positions.into_iter().zip(ask_all(shared, left, &older).all().await) {
        loads[position] = heard.success().and_then(|answer| tokens(&answer.body));
    }
    let outside = |load: Option<u64>| load.map_or(json!(-1), |load| json!(load));
    let listed: Vec<Value> = workers
        .iter()
        .zip(loads)
        .map(|(worker, load)| json!({"worker": worker.url.as_str(), "load": outside(load)}))
        .collect();
    reply(200, &json!({"workers": listed}))
}

/// `GET /v1/loads`: what each worker answers to it, by worker.
pub async fn answers(errand: &Errand<'_>) -> Result<Response<AnswerBody>, Refusal> {
    let workers = servers(errand.shared);
    if workers.is_empty() {
        return Err(no_workers());
    }
    let question = errand.question(&errand.with_query(&errand.path), TIMEOUT);
    let mut by_worker = Map::new();
    for heard in ask_all(errand.shared, workers, &question).all().await {
        let said = match &heard.answer {
            Ok(answer) if answer.status.is_success() => serde_json::from_slice(&answer.body)
                .unwrap_or_else(|_| String::from_utf8_lossy(&answer.body).into_owned().into()),
            Ok(answer) => json!({"error": format!("status {}", answer.status.as_u16())}),
            Err(error) => json!({"error": error}),
        };
        by_worker.insert(heard.worker.url.as_str().to_owned(), said);
    }
    Ok(reply(200, &json!({"workers": by_worker})))
}
