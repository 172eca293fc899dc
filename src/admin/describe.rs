//! What the workers are: models, server arguments, whether they generate.
//!
//! Rule: the engines' own answers, not the registry's idea of them: clients read `internal_states` and `max_running_requests`
//! from `/get_server_info`. Deliberately not here: `/readiness`, which is about the router.

use std::time::Duration;

use http::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::errand::{Errand, no_answer, no_workers, passed};
use super::fan_out::{Heard, ask_all, available};
use super::json as reply;
use crate::fleet::ask::{Answer, ask_whole};
use crate::fleet::worker::Worker;
use crate::proxy::body::AnswerBody;
use crate::proxy::headers::ROUTED_WORKER;
use crate::proxy::journey::{Journey, Refusal};

/// Longest wait for a list of models; a worker that takes longer is shown as it described itself before.
const MODELS_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for one worker's description: 0.4.9 answers `/get_server_info` only after its first request.
const INFO_TIMEOUT: Duration = Duration::from_secs(5);
/// Workers asked for a description before the router gives up.
const INFO_WORKERS: usize = 3;
/// Longest wait for one worker to generate a token; the engine itself gives up after 20 s.
const GENERATE_TIMEOUT: Duration = Duration::from_secs(25);
/// Workers asked to generate a token at one time; one that does is enough.
const GENERATE_AT_ONCE: usize = 8;

/// `GET /v1/models`: every model that some available worker serves, once.
pub async fn models(errand: &Errand<'_>) -> Result<Response<AnswerBody>, Refusal> {
    let question = errand.question(&errand.with_query(&errand.path), MODELS_TIMEOUT);
    let heard = ask_all(errand.shared, available(errand.shared), &question).all().await;
    let created = errand.shared.clock.now().unix_ns / 1_000_000_000;
    let mut models: Vec<Value> = Vec::new();
    for one in &heard {
        for model in said(one).unwrap_or_else(|| described(&one.worker, created)) {
            if !models.iter().any(|m| m["id"] == model["id"]) {
                models.push(model);
            }
        }
    }
    if models.is_empty() {
        return Err(no_workers());
    }
    Ok(reply(200, &json!({"object": "list", "data": models})))
}

/// The models of a worker's answer.
fn said(heard: &Heard) -> Option<Vec<Value>> {
    let mut answer: Value = serde_json::from_slice(&heard.success()?.body).ok()?;
    let mut models = std::mem::take(answer.get_mut("data")?.as_array_mut()?);
    models.retain(|model| model["id"].is_string());
    Some(models).filter(|models| !models.is_empty())
}

/// The model that a worker described when it was found, or that it was added with.
fn described(worker: &Worker, created: u64) -> Vec<Value> {
    let known = worker.described();
    let name = known.served_model_name.or(known.model).or(worker.settings().model_id);
    let model = |id: String| json!({"id": id, "object": "model", "created": created, "owned_by": "sglang"});
    name.map(model).into_iter().collect()
}

/// `/get_model_info`, `/model_info`, `/get_server_info`, `/server_info`: one worker's answer as it came.
pub async fn info(errand: &Errand<'_>, journey: &mut Journey) -> Result<Response<AnswerBody>, Refusal> {
    let mut error = None;
    let mut refused = None;
    for worker in available(errand.shared).into_iter().take(INFO_WORKERS) {
        match under_either_name(errand, &worker).await {
            Ok(answer) if answer.status.is_success() => {
                return Ok(told_by(&worker, answer, journey));
            }
            Ok(answer) => refused = Some((worker, answer)),
            Err(words) => error = Some(words),
        }
    }
    match (refused, error) {
        (Some((worker, answer)), _) => Ok(told_by(&worker, answer, journey)),
        (None, Some(error)) => Err(no_answer(&error)),
        (None, None) => Err(no_workers()),
    }
}

/// A worker's answer as it came, with its name: who asks may be a router, which has to know that it is not the worker.
fn told_by(worker: &Worker, answer: Answer, journey: &mut Journey) -> Response<AnswerBody> {
    journey.note(|r| r.worker = Some(worker.url.shared()));
    let mut response = passed(answer);
    response.headers_mut().insert(ROUTED_WORKER, worker.url_value.clone());
    response
}

/// 0.4.9 knows only the names with `get_`, the Rust front end only those without.
async fn under_either_name(errand: &Errand<'_>, worker: &Worker) -> Result<Answer, String> {
    let other = match errand.path.strip_prefix("/get_") {
        Some(name) => format!("/{name}"),
        None => format!("/get_{}", errand.path.trim_start_matches('/')),
    };
    let ask = async |path: &str| {
        let question = errand.question(&errand.with_query(path), INFO_TIMEOUT);
        ask_whole(worker, &errand.shared.clock, &question).await.map_err(|why| why.to_string())
    };
    let first = ask(&errand.path).await?;
    if first.status != StatusCode::NOT_FOUND {
        return Ok(first);
    }
    match ask(&other).await {
        Ok(second) if second.status.is_success() => Ok(second),
        _ => Ok(first),
    }
}

/// `/health_generate`: 200 if one available worker generates a token, else 503.
pub async fn health_generate(errand: &Errand<'_>) -> Result<Response<AnswerBody>, Refusal> {
    let workers = available(errand.shared);
    if workers.is_empty() {
        return Err(no_workers());
    }
    for some in workers.chunks(GENERATE_AT_ONCE) {
        let question = errand.question(&errand.path, GENERATE_TIMEOUT);
        let mut asked = ask_all(errand.shared, some.to_vec(), &question);
        while let Some(heard) = asked.next().await {
            if heard.success().is_some() {
                return Ok(super::text(200, "OK"));
            }
        }
    }
    Ok(super::text(503, "no worker generates"))
}
