//! One prompt to several workers, each at the same time, without chance: what does each say?
//!
//! Rule: every worker is asked by itself and not through a router; what it does not answer is told beside its name.
//! Deliberately not here: comparing (`report::outputs`).

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::body::{self, RequestOptions};
use super::client::{Client, Outgoing};
use super::config::LoadConfig;
use super::dataset::{Content, Prompt, approximate_tokens};
use super::join::failure_of;
use super::probe;
use super::run::{LoadError, RunContext, connect, model_name};
use super::target::Target;
use super::turns::reply_text;
use crate::config::worker_url::WorkerUrl;

/// Workers that are asked at most.
const MOST_WORKERS: usize = 1024;

/// A worker, or one data-parallel rank of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// As it was given.
    pub url: String,
    target: Target,
    rank: Option<u32>,
}

impl Worker {
    /// Reads a worker's URL, perhaps with `@rank`.
    ///
    /// # Errors
    /// It is none; the text says what was expected.
    pub fn parse(url: &str) -> Result<Self, String> {
        let worker = WorkerUrl::parse(url).map_err(|e| e.to_string())?;
        let target = Target::parse(worker.with_rank(None).as_str())?;
        Ok(Self { url: url.to_owned(), target, rank: worker.rank() })
    }
}

/// What one worker said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its URL.
    pub worker: String,
    /// The text, or why there is none.
    pub text: Result<String, String>,
}

/// The workers of the router at the target.
///
/// # Errors
/// It is no router, or does not tell them.
pub async fn workers_of(config: &LoadConfig, context: &RunContext) -> Result<Vec<Worker>, LoadError> {
    let client = connect(config, context).await?;
    let mut why = String::new();
    for path in ["/workers", "/list_workers"] {
        match probe::json(&client, &config.target, path).await {
            Ok(answer) => {
                let workers: Result<Vec<Worker>, String> =
                    urls(&answer).take(MOST_WORKERS).map(Worker::parse).collect();
                return workers.map_err(|e| LoadError::Target(format!("{}: {path}: {e}", config.target)));
            }
            Err(e) if why.is_empty() => why = e,
            Err(_) => {}
        }
    }
    Err(LoadError::Target(format!(
        "{}: is no router that tells its workers ({why}); name them by --worker-urls",
        config.target
    )))
}

/// Both shapes of a router's list.
fn urls(answer: &Value) -> impl Iterator<Item = &str> {
    let list = answer["workers"].as_array().or_else(|| answer["urls"].as_array());
    list.into_iter().flatten().filter_map(|worker| worker.as_str().or_else(|| worker["url"].as_str()))
}

/// Asks every worker for `output_tokens` after `prompt`, at temperature 0.
///
/// # Errors
/// None could be asked: Ctrl-C.
pub async fn ask(
    config: &LoadConfig,
    context: &RunContext,
    workers: &[Worker],
    prompt: &str,
    output_tokens: u64,
) -> Result<Vec<Said>, LoadError> {
    let mut asked = JoinSet::new();
    for (index, worker) in workers.iter().take(MOST_WORKERS).enumerate() {
        let config = LoadConfig { target: worker.target.clone(), ..config.clone() };
        let (context, rank, prompt) = (context.clone(), worker.rank, prompt.to_owned());
        asked.spawn(async move { (index, one(&config, &context, rank, &prompt, output_tokens).await) });
    }
    let mut said: Vec<Said> = workers
        .iter()
        .map(|worker| Said { worker: worker.url.clone(), text: Err("not asked".to_owned()) })
        .collect();
    while let Some(answered) = asked.join_next().await {
        if let Ok((index, text)) = answered {
            said[index].text = text;
        }
    }
    if context.stop.is_set() { Err(LoadError::Interrupted) } else { Ok(said) }
}

async fn one(
    config: &LoadConfig,
    context: &RunContext,
    rank: Option<u32>,
    prompt: &str,
    output_tokens: u64,
) -> Result<String, String> {
    let client = connect(config, context).await.map_err(|e| e.to_string())?;
    let asking = async {
        let model = model_name(config, &client).await.map_err(|e| e.to_string())?;
        let outgoing = outgoing(config, &model, rank, prompt, output_tokens)?;
        answered(&client, &outgoing, config, context).await
    };
    tokio::select! {
        biased;
        () = context.stop.wait() => Err("ended by Ctrl-C".to_owned()),
        text = asking => text,
    }
}

async fn answered(
    client: &Client,
    outgoing: &Outgoing,
    config: &LoadConfig,
    context: &RunContext,
) -> Result<String, String> {
    let seen = client.exchange(outgoing, context.stop.wait()).await;
    if let Some(failure) = failure_of(&seen) {
        return Err(failure.to_string());
    }
    let body = seen.body.unwrap_or_default().freeze();
    reply_text(config.backend, &body).ok_or_else(|| "the answer holds no text".to_owned())
}

fn outgoing(
    config: &LoadConfig,
    model: &str,
    rank: Option<u32>,
    prompt: &str,
    output_tokens: u64,
) -> Result<Outgoing, String> {
    let prompt = Prompt {
        id: None,
        content: Content::Text(prompt.to_owned()),
        planned_tokens: approximate_tokens(prompt),
        output_tokens,
        group: None,
        turn: None,
    };
    let mut options = RequestOptions { temperature: 0.0, ..config.request.clone() };
    if let Some(rank) = rank {
        options.extra.insert("data_parallel_rank".to_owned(), json!(rank));
    }
    let body = body::make(config.backend, model, &prompt, &options)?;
    let path = config.target.path(config.backend.path(body.stream));
    Ok(Outgoing {
        path: path.parse().map_err(|e| format!("path {path}: {e}"))?,
        endpoint: config.backend.endpoint(),
        multiple: false,
        body: body.bytes,
        keep_answer: true,
        headers: http::HeaderMap::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_of_routers_are_read() {
        let of = |text: &str| {
            let answer: Value = serde_json::from_str(text).unwrap();
            urls(&answer).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            of(r#"{"workers":[{"id":"1","url":"http://a:1"},{"url":"http://b:2@1"}]}"#),
            ["http://a:1", "http://b:2@1"]
        );
        assert_eq!(of(r#"{"urls":["http://a:1"]}"#), ["http://a:1"]);
        assert!(of("{}").is_empty());
        let rank = Worker::parse("http://b:2@1").unwrap();
        assert_eq!((rank.target.to_string().as_str(), rank.rank), ("http://b:2", Some(1)));
        assert!(Worker::parse("b:2").is_err());
    }
}
