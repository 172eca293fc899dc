//! The requests of a run: as they were asked, as they were answered.
//!
//! Rule: times are microseconds after the run's first choice, of the router's clock alone; what was not recorded is `None`. A
//! request without a worker, a prompt or an answer has nothing to be played again and is left out. Deliberately not here: what
//! would have been, see `arm`.

use std::collections::BTreeMap;
use std::sync::Arc;

use milepost_policies::{PromptHashes, RequestView};

use super::prompt::{self, Guess};
use crate::trace::align::server_spans;
use crate::trace::journal::{ChoiceCall, Prompts};
use crate::trace::record::{Outcome, RequestRecord};

/// Tokens of a byte of text where no answer tells: the usual figure for English.
const TOKENS_PER_BYTE: f64 = 0.25;

/// Longest prompt that is played again; a longer one is not a prompt but a broken record.
const MAX_PROMPT_BYTES: u64 = 64 << 20;
/// The same in tokens, and the longest answer.
const MAX_TOKENS: u64 = 1 << 22;
/// Last moment that is believed, nanoseconds: a machine that runs for 140 years.
const MAX_MONO_NS: u64 = 1 << 62;
/// Tokens that a byte of text may make.
const TOKENS_PER_BYTE_RANGE: [f64; 2] = [0.001, 8.0];

/// What is kept of a request's record.
#[derive(Clone, Debug)]
pub struct Request {
    seq: u64,
    chosen_mono_ns: u64,
    stream: bool,
    prompt_bytes: u64,
    max_new_tokens: Option<u64>,
    output_tokens: u32,
    /// Longest prefix that was said to match, at any worker.
    match_bytes: u64,
    model: Option<Arc<str>>,
    recorded: Recorded,
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recorded {
    /// Who answered; number of the worker.
    pub worker: usize,
    /// From the choice to the first token; streams alone.
    pub ttft_us: Option<f64>,
    /// From the choice to the last byte.
    pub e2e_us: f64,
    /// Prompt tokens by the server's count.
    pub prompt_tokens: Option<u64>,
    /// Prompt tokens that the server took from its cache.
    pub cached_tokens: Option<u64>,
    /// In the server's queue, by its own clock.
    pub queue_us: Option<f64>,
    /// From the queue's end to the first token, by the server's own clock.
    pub prefill_us: Option<f64>,
    /// Everything went well.
    pub ok: bool,
    /// Several prompts or several answers to one: its tokens are a sum, made side by side.
    pub is_sum: bool,
}

/// A request that can be played again.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its number in the run.
    pub seq: u64,
    /// When it was chosen for, nanoseconds of the run's `CLOCK_MONOTONIC`.
    pub chosen_mono_ns: u64,
    /// When it was chosen for, microseconds after the first.
    pub at_us: u64,
    /// Hashes of its prompt.
    pub prompts: Prompts,
    /// Length of its routing text.
    pub prompt_bytes: u64,
    /// What the engine sees of it are token ids.
    pub is_counted: bool,
    /// Its answer holds several sequences.
    pub is_multiple: bool,
    /// Tokens of its prompt, as they are simulated.
    pub prompt_tokens: u64,
    /// Tokens of its answer.
    pub output_tokens: u32,
    /// Tokens that it allowed.
    pub max_new_tokens: Option<u64>,
    /// It was a stream.
    pub stream: bool,
    /// Tokens of its prompt that a policy was told.
    pub told_tokens: Option<u64>,
    /// The model asked for.
    pub model: Option<Arc<str>>,
    /// Hash of its routing key.
    pub routing_key_hash: Option<u64>,
    /// Hash of who asked.
    pub client_hash: Option<u64>,
    /// Place of the worker asked for.
    pub target: Option<u32>,
    /// How it was answered.
    pub recorded: Recorded,
}

impl Row {
    /// Hashes of what the engine sees of its prompt.
    pub fn engine_text(&self) -> Option<&PromptHashes> {
        self.prompts.engine.as_ref().or(self.prompts.routing.as_ref())
    }

    /// As a policy sees it.
    pub fn view(&self) -> RequestView<'_> {
        RequestView {
            seq: self.seq,
            prompt: self.prompts.routing.as_ref(),
            prompt_bytes: self.prompt_bytes,
            engine_prompt: self.prompts.engine.as_ref(),
            is_counted: self.is_counted,
            is_multiple: self.is_multiple,
            prompt_tokens: self.told_tokens,
            max_new_tokens: self.max_new_tokens,
            stream: self.stream,
            model: self.model.as_deref(),
            routing_key_hash: self.routing_key_hash,
            target: self.target,
            client_hash: self.client_hash,
            ..RequestView::default()
        }
    }
}

impl Request {
    /// What a record says; `seat` numbers the workers. `None` if there is nothing to be played again.
    pub fn of(record: &RequestRecord, seat: impl FnOnce(&Arc<str>) -> usize) -> Option<Self> {
        let decided_ns = record.decided_ns?;
        let chosen_mono_ns = record.arrival_mono_ns.saturating_add(decided_ns);
        let prompt_bytes = record.prompt_bytes.unwrap_or(0);
        let tokens = &record.tokens;
        let prompt_tokens = tokens.prompt_tokens;
        if !record.endpoint.has_prompt() || (prompt_bytes == 0 && tokens.prompt_tokens.is_none()) {
            return None;
        }
        if prompt_bytes > MAX_PROMPT_BYTES
            || prompt_tokens.is_some_and(|tokens| tokens > MAX_TOKENS)
            || chosen_mono_ns > MAX_MONO_NS
        {
            return None;
        }
        let events = Some(record.sse_events).filter(|events| *events > 0);
        let output_tokens =
            tokens.completion_tokens.or(events).filter(|made| (1..=MAX_TOKENS).contains(made))?;
        let worker = seat(record.worker.as_ref()?);
        let spans = server_spans(record);
        let us = |ns: u64| ns as f64 / 1e3;
        let after = |ns: u64| us(ns.saturating_sub(decided_ns));
        let candidates = record.decision.iter().flat_map(|decision| &decision.candidates);
        Some(Self {
            seq: record.seq,
            chosen_mono_ns,
            stream: record.stream,
            prompt_bytes,
            max_new_tokens: record.max_new_tokens,
            output_tokens: output_tokens as u32,
            match_bytes: candidates.filter_map(|c| c.prefix_match_bytes).max().unwrap_or(0),
            model: record.model.as_deref().map(Arc::from),
            recorded: Recorded {
                worker,
                ttft_us: record.first_token_ns.map(after),
                e2e_us: after(record.last_byte_ns.unwrap_or(record.end_ns)),
                prompt_tokens,
                cached_tokens: tokens
                    .cached_tokens
                    .map(|cached| cached.min(prompt_tokens.unwrap_or(MAX_TOKENS))),
                queue_us: spans.queue_ns.map(us),
                prefill_us: spans.prefill_ns.map(us),
                ok: record.outcome == Outcome::Done && record.attempts == 1,
                is_sum: record.members() > 1,
            },
        })
    }
}

/// Requests with their prompts.
#[derive(Debug)]
pub struct Joined {
    /// In the order in which they were sent.
    pub rows: Vec<Row>,
    /// Tokens that a byte of prompt text makes.
    pub tokens_per_byte: f64,
    /// Requests whose prompt is not known to its end.
    pub guessed: u64,
}

/// Puts together what was asked and what came of it.
pub fn join(mut requests: Vec<Request>, mut choices: BTreeMap<u64, ChoiceCall>) -> Joined {
    requests.sort_by_key(|request| (request.chosen_mono_ns, request.seq));
    let first_ns = requests.first().map_or(0, |request| request.chosen_mono_ns);
    let pairs: Vec<(Request, Option<ChoiceCall>)> = requests
        .into_iter()
        .map(|request| {
            let choice = choices.remove(&request.seq);
            (request, choice)
        })
        .collect();
    let tokens_per_byte = tokens_per_byte(&pairs);
    let (mut guess, mut guessed) = (Guess::default(), 0);
    let rows = pairs
        .into_iter()
        .map(|(request, choice)| {
            let choice = choice.unwrap_or_default();
            let mut prompts = choice.prompts().unwrap_or_default();
            if prompts == Prompts::default() {
                let cached_bytes = request.recorded.cached_tokens.unwrap_or(0) as f64 / tokens_per_byte;
                let shared_bytes = request.match_bytes.max(cached_bytes as u64);
                prompts.routing =
                    guess.prompt(request.recorded.worker, request.seq, request.prompt_bytes, shared_bytes);
            }
            let is_whole = choice.engine_bytes.is_some()
                || choice.hashed_bytes.unwrap_or(0) >= engine_bytes(&request, &choice);
            guessed += u64::from(!is_whole);
            row(request, &choice, prompts, first_ns, tokens_per_byte)
        })
        .collect();
    Joined { rows, tokens_per_byte, guessed }
}

/// Length of what the engine sees of a prompt.
fn engine_bytes(request: &Request, choice: &ChoiceCall) -> u64 {
    choice.engine_bytes.unwrap_or(request.prompt_bytes).min(MAX_PROMPT_BYTES)
}

fn tokens_per_byte(pairs: &[(Request, Option<ChoiceCall>)]) -> f64 {
    let none = ChoiceCall::default();
    let (tokens, bytes) = pairs
        .iter()
        .map(|(request, choice)| (request, engine_bytes(request, choice.as_ref().unwrap_or(&none))))
        .filter(|(_, bytes)| *bytes > 0)
        .filter_map(|(request, bytes)| Some((request.recorded.prompt_tokens?, bytes)))
        .fold((0, 0), |(tokens, bytes), (t, b)| (tokens + t, bytes + b));
    let [least, most] = TOKENS_PER_BYTE_RANGE;
    if bytes == 0 { TOKENS_PER_BYTE } else { (tokens as f64 / bytes as f64).clamp(least, most) }
}

fn row(request: Request, choice: &ChoiceCall, prompts: Prompts, first_ns: u64, tokens_per_byte: f64) -> Row {
    // Where there is text, its length alone decides, so that what is shared is as long in every prompt.
    let prompt_tokens = match engine_bytes(&request, choice) {
        0 => request.recorded.prompt_tokens.unwrap_or(1).max(1),
        bytes => prompt::token_count(bytes, tokens_per_byte).min(MAX_TOKENS),
    };
    Row {
        seq: request.seq,
        chosen_mono_ns: request.chosen_mono_ns,
        at_us: (request.chosen_mono_ns - first_ns) / 1_000,
        prompts,
        prompt_bytes: request.prompt_bytes,
        is_counted: choice.is_counted,
        is_multiple: choice.is_multiple,
        prompt_tokens,
        output_tokens: request.output_tokens,
        max_new_tokens: request.max_new_tokens,
        stream: request.stream,
        told_tokens: choice.prompt_tokens,
        model: request.model,
        routing_key_hash: choice.routing_key_hash,
        client_hash: choice.client_hash,
        target: choice.target,
        recorded: request.recorded,
    }
}
