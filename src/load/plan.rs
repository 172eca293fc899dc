//! From prompts to requests ready to be sent.
//!
//! Rule: everything that costs time is done here, before the clock of the run starts. Deliberately not here: sending.

use http::{HeaderMap, HeaderValue, Uri};

use super::body::{self, Body};
use super::client::Outgoing;
use super::config::LoadConfig;
use super::dataset::{After, Content, Prompt};
use crate::clock::Stamp;
use crate::wire::call::look;

/// One request, ready.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its `x-request-id`.
    pub req_id: String,
    /// What is sent.
    pub outgoing: Outgoing,
    /// Words of the prompt.
    pub words: Option<u64>,
    /// Prompt tokens as planned.
    pub prompt_tokens: u64,
    /// Output tokens asked for.
    pub max_new_tokens: Option<u64>,
    /// Which group of a shared prefix it belongs to.
    pub group: Option<u32>,
    /// Members of its answer: prompts times samples of each.
    pub batch_size: u32,
    /// It asks for a stream.
    pub stream: bool,
    /// Output tokens of the prompt.
    pub output_tokens: u64,
    /// Its session and turn, from 1.
    pub turn: Option<(u32, u32)>,
    /// What it waits for; without it it has a due time of its own.
    pub after: Option<After>,
    /// What the user says in it, where a later turn says it again.
    pub question: Option<String>,
    /// Turns that wait for its answer.
    pub followers: Vec<usize>,
}

/// The requests of a run, in order. Ids that the data set does not give are unique over runs, as they hold the start time.
pub fn plan(
    config: &LoadConfig,
    prompts: &[Prompt],
    model: &str,
    now: Stamp,
) -> Result<Vec<Planned>, String> {
    let run = format!("{:x}", now.unix_ns / 1000);
    let planned: Result<Vec<Planned>, String> = prompts
        .iter()
        .enumerate()
        .map(|(i, prompt)| {
            let id = prompt.id.clone().unwrap_or_else(|| format!("mp-{run}-{:06}", i + 1));
            one(config, prompt, model, id, None)
        })
        .collect();
    let mut planned = planned?;
    for index in 0..planned.len() {
        if let Some(before) = planned[index].after.as_ref().map(|after| after.prompt) {
            let carries = planned[index].after.as_ref().is_some_and(|after| after.carries_reply);
            planned[before].outgoing.keep_answer |= carries;
            planned[before].followers.push(index);
        }
    }
    Ok(planned)
}

/// The warm-up requests: the first prompts again and again, with at most 32 output tokens as in `bench_serving`.
pub fn warmup(
    config: &LoadConfig,
    prompts: &[Prompt],
    model: &str,
    now: Stamp,
) -> Result<Vec<Planned>, String> {
    let run = format!("{:x}", now.unix_ns / 1000);
    (0..config.warmup_requests)
        .zip(prompts.iter().cycle())
        .map(|(i, prompt)| {
            let short = Prompt { output_tokens: prompt.output_tokens.min(32), ..prompt.clone() };
            one(config, &short, model, format!("mp-{run}-warmup-{:06}", i + 1), Some("warmup"))
        })
        .collect()
}

/// XXH3 of the hashes of all bodies, in order.
pub fn hash(planned: &[Planned]) -> String {
    let each = planned.iter().flat_map(|p| milepost_policies::name_hash(&p.outgoing.body).to_le_bytes());
    format!("{:016x}", milepost_policies::name_hash(&each.collect::<Vec<u8>>()))
}

fn one(
    config: &LoadConfig,
    prompt: &Prompt,
    model: &str,
    req_id: String,
    phase: Option<&'static str>,
) -> Result<Planned, String> {
    let Body { bytes, max_new_tokens, stream } = body::make(config.backend, model, prompt, &config.request)?;
    let mut headers = HeaderMap::with_capacity(2);
    let id = HeaderValue::from_str(&req_id).map_err(|_| format!("id {req_id:?} cannot be a header value"))?;
    headers.insert("x-request-id", id);
    if let Some(phase) = phase {
        headers.insert("x-milepost-phase", HeaderValue::from_static(phase));
    }
    let path = config.target.path(config.backend.path(stream));
    let path: Uri = path.parse().map_err(|e| format!("path {path}: {e}"))?;
    let endpoint = config.backend.endpoint();
    // --extra-request-body may ask for several answers in one.
    let asked = look(endpoint, &bytes);
    let multiple = asked.multiple();
    let batch_size = asked.prompts.max(1).saturating_mul(asked.samples_per_prompt.max(1));
    Ok(Planned {
        req_id,
        outgoing: Outgoing { path, endpoint, multiple, body: bytes, keep_answer: false, headers },
        words: prompt.words(),
        prompt_tokens: prompt.planned_tokens,
        max_new_tokens,
        group: prompt.group,
        batch_size,
        stream,
        output_tokens: prompt.output_tokens,
        turn: prompt.turn.as_ref().map(|turn| (turn.session, turn.turn)),
        after: prompt.turn.as_ref().and_then(|turn| turn.after.clone()),
        question: match (&prompt.content, &prompt.turn) {
            (Content::Text(text), Some(_)) => Some(text.clone()),
            _ => None,
        },
        followers: Vec::new(),
    })
}
