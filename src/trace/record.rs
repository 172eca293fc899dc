//! The records of the trace log: one JSON object a line, told apart by `kind`.
//!
//! Rule: one quantity, one name, its unit last; an absent value is left out, never 0. The doc comment of a field is its
//! schema (`milepost trace schema` prints this file's). Times inside a request are nanoseconds after its `arrival_mono_ns`
//! on the router's `CLOCK_MONOTONIC`; server stamps stay raw, in the server's own clock, and are aligned when read.
//! Deliberately not here: answer text, authorization, cookies, keys, and prompt text unless it was asked for; how records are written
//! or aligned.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use super::decision::{CandidateRecord, DecisionRecord, Late, ShadowRecord};
pub use super::header::{CaptureRecord, ClockRecord, LostRecord, MarkRecord};
use super::journal::JournalRecord;
use super::prompt::PromptBlocks;
use crate::clock::ClockSnapshot;
use crate::wire::Endpoint;
use crate::wire::answer::Tokens;
use crate::wire::meta_info::ServerStamps;
use crate::wire::traceparent::{SpanId, TraceId};

/// One line of the trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// First line of each run of the router, and of each file of a run.
    Run(RunRecord),
    /// The router's two clocks, read together.
    Clock(ClockRecord),
    /// One accepted request, however it ended.
    Request(Box<RequestRecord>),
    /// A connection that ended before it carried a request the router could read.
    Connection(ConnectionRecord),
    /// A worker joined, left, or changed.
    Worker(WorkerRecord),
    /// One call into the core that decides (`--trace-decisions journal`).
    Journal(Box<JournalRecord>),
    /// Somebody set a mark (`milepost trace mark`).
    Mark(MarkRecord),
    /// Records that are missing; request records + lost = requests.
    Lost(LostRecord),
}

/// What the router was when it wrote the lines that follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of this schema. A reader refuses a higher one.
    pub schema: u32,
    /// Version of milepost.
    pub version: String,
    /// Process id of the router.
    pub pid: u32,
    /// `/proc/sys/kernel/random/boot_id` of the router's host: equal ids mean one `CLOCK_MONOTONIC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The address the router listens on.
    pub listen: String,
    /// Routing policy; with `split` the one that the first arm has.
    pub policy: String,
    /// Arms of an experiment on live traffic and their weights, as given (`--split`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Policies that are asked after each decision, to compare (`--shadow-policy`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadow_policies: Vec<String>,
    /// Seed of every random decision.
    pub seed: u64,
    /// Worker URLs at start.
    pub workers: Vec<String>,
    /// How the capture is made; absent in traces from before there was more than one way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<CaptureRecord>,
    /// The clocks when this was written.
    pub clock: ClockSnapshot,
}

impl RunRecord {
    /// It tells of the same run as `earlier`: a file was rotated, or the capture stopped and started.
    pub fn continues(&self, earlier: &Self) -> bool {
        let instance = |run: &Self| run.capture.as_ref().map(|capture| capture.instance.clone());
        let is_moved = self.boot_id.is_some() && earlier.boot_id.is_some() && self.boot_id != earlier.boot_id;
        instance(self).is_some() && instance(self) == instance(earlier) && !is_moved
    }
}

/// Which part of the router answered a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// Sent to one worker.
    #[default]
    Routed,
    /// Answered by the router itself.
    Local,
    /// Put to workers by the router itself: to every one, or to some until one answers.
    FanOut,
}

/// How a request ended, as the router saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The whole answer was passed on and the worker reported no error in it.
    Done,
    /// The whole answer was passed on, and it is an error: a status of 400 or more, or inside a 200 an error event, an abort,
    /// a stream without `[DONE]` (`truncated`), no token though some were asked for (`no_tokens`), or no JSON (`unreadable`).
    WorkerError,
    /// The client was gone before the answer had ended.
    ClientGone,
    /// The worker's connection broke after its first response byte, or what it sent is not HTTP; never tried again.
    WorkerReset,
    /// No worker gave a first response byte, or there was none to ask.
    Unreachable,
    /// In `--request-timeout-secs` no whole answer came, or no whole request (408 `request_body_timeout`).
    TimedOut,
    /// The router refused the request itself: for what it is (400, 413, 501), for who asks (401, 403), or because there is no
    /// room (408 `queue_timeout`, 429, 503).
    Refused,
    /// The router was stopped and its grace period was over before the answer was.
    Stopped,
    /// The router's own code failed; the record was made by the guard.
    #[default]
    Panicked,
}

impl Outcome {
    /// All of them, each at its own number.
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::WorkerError,
        Self::ClientGone,
        Self::WorkerReset,
        Self::Unreachable,
        Self::TimedOut,
        Self::Refused,
        Self::Stopped,
        Self::Panicked,
    ];

    /// The word in the trace.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::WorkerError => "worker_error",
            Self::ClientGone => "client_gone",
            Self::WorkerReset => "worker_reset",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
            Self::Panicked => "panicked",
        }
    }
}

/// One accepted request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Number of this request in this run, from 1, in order of arrival; unique where client ids are not.
    pub seq: u64,
    /// `x-request-id`: the client's, or made by the router.
    pub request_id: String,
    /// The body's `rid`, else nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// Request method.
    pub method: Cow<'static, str>,
    /// Request path without the query.
    pub path: Cow<'static, str>,
    /// What the path means to a worker.
    pub endpoint: Endpoint,
    /// Who answered.
    pub request_kind: RequestKind,
    /// Value of `x-milepost-phase`, such as `warmup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The body's `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The body asked for a stream.
    pub stream: bool,
    /// How the body was looked at: `json`, `malformed`, `empty`, or why not (`content_encoding`, `not_json_endpoint`).
    pub body_look: Cow<'static, str>,
    /// Number of prompts in the body (a batch has several).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<u32>,
    /// Answers to each prompt that the body asked for (`n`), where these are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u32>,
    /// Bytes of routing text in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_bytes: Option<u64>,
    /// Hashes of the prompt's blocks of 256 bytes of routing text, 16 hexadecimal digits each (`--trace-prompt hash`): keyed, and each
    /// stands for all text up to its block's end, so that equal ones mean an equal beginning. The last block may be shorter.
    #[serde(default, skip_serializing_if = "PromptBlocks::is_untold")]
    pub prompt_hashes: Option<PromptBlocks>,
    /// The prompt's text or its beginning (`--trace-prompt full` or `head:N`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_text: Option<String>,
    /// Request headers that were asked for (`--trace-headers`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Output tokens asked for (`max_new_tokens`, `max_tokens`, `max_completion_tokens`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u64>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Arc<str>>,
    /// The client's own `x-arrival-time`, which the router replaced: set by a router in front of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_arrival_time: Option<String>,
    /// W3C trace id, 32 hexadecimal digits: of the client's `traceparent`, else made by the router. Absent, as all ids of spans, unless
    /// spans are sent (`--enable-trace`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// The router's span of the request, 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<SpanId>,
    /// The client's span, which the request belongs to; absent where it named none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<SpanId>,
    /// The sampled flag that the worker was told: the client's, or of a trace that began at the router whether the request is in the
    /// share of `--trace-sample`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_sampled: Option<bool>,

    /// URL of the worker whose answer this is, else of the last one tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Arc<str>>,
    /// The connection's two addresses are on one host, so the worker's monotonic clock is the router's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_host: Option<bool>,
    /// The router's span of the attempt whose answer this is; `traceparent` told it to the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_span_id: Option<SpanId>,
    /// Data-parallel rank that the worker was told (`--dp-aware`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dp_rank: Option<u32>,
    /// How it was told: `body` (the member `data_parallel_rank` was put into the body, after its first brace; the header was
    /// set too), `header` (`x-data-parallel-rank` alone: the body is no JSON object or cannot take a member), `client` (the
    /// client had named a rank itself, so nothing was added and `worker` is another rank perhaps).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dp_rank_by: Option<Cow<'static, str>>,
    /// Policy that chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Cow<'static, str>>,
    /// Who named it, if not the configuration: `header` (`x-milepost-policy`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_by: Option<Cow<'static, str>>,
    /// Arm of the experiment that the request is in (`--split`); absent where it named its policy itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_arm: Option<Arc<str>>,
    /// What the arm was drawn by: `routing_key`, `conversation`, or `request_id` where the request has neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_by: Option<Cow<'static, str>>,
    /// The last decision: what the policy saw and said. Absent, or without candidates, where it was made while the capture was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionRecord>,
    /// What other policies would have chosen from what the last decision saw, in the order of the run's `shadow_policies`;
    /// absent where none was asked, or not in time.
    #[serde(default, skip_serializing_if = "Late::is_absent")]
    pub shadow: Late<Vec<ShadowRecord>>,
    /// Attempts made, the one whose answer this is included.
    pub attempts: u32,
    /// Earlier attempts that failed, the first 64 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_attempts: Vec<AttemptRecord>,
    /// Reused connections that were found dead and replaced by a fresh one to the same worker.
    pub reconnects: u32,
    /// The answer came over a connection that had carried a request before.
    pub reused_connection: bool,

    /// Arrival: the request head is parsed. `CLOCK_MONOTONIC` of the router's host, nanoseconds.
    pub arrival_mono_ns: u64,
    /// The same moment in Unix nanoseconds; the value of `x-arrival-time`.
    pub arrival_unix_ns: u64,
    /// The whole body was read, nanoseconds after arrival; 0 if it was read with the head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_read_ns: Option<u64>,
    /// Time waited for `--max-concurrent-requests` or `--rate-limit-tokens-per-second`, nanoseconds; absent where neither is
    /// set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_wait_ns: Option<u64>,
    /// The (last) decision was made, nanoseconds after arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_ns: Option<u64>,
    /// A connection to the worker was in hand, nanoseconds after arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_ns: Option<u64>,
    /// Just before the first byte was written to the worker that answered; the value of `x-router-send-time`. Nanoseconds after arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_send_ns: Option<u64>,
    /// First byte of the answer read, nanoseconds after arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ns: Option<u64>,
    /// The last byte of the answer's head was read, nanoseconds after arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_ns: Option<u64>,
    /// First SSE event with data, nanoseconds after arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_event_ns: Option<u64>,
    /// First event that carries tokens (streams only), nanoseconds after arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ns: Option<u64>,
    /// Last byte of the answer read from the worker and handed on, nanoseconds after arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_byte_ns: Option<u64>,
    /// The request was over and its lease released, nanoseconds after arrival.
    pub end_ns: u64,

    /// Why the record was kept though it is not in the share that is (`--trace-sample`): `error`, `slow`. One with this stands for
    /// itself alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_for: Option<Cow<'static, str>>,
    /// How it ended.
    pub outcome: Outcome,
    /// Status sent to the client; absent where no head was: the client had gone, the router was stopped or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What went wrong, in words without any body text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Bytes of the request body.
    pub request_body_bytes: u64,
    /// Bytes of the answer's body handed to the client.
    pub response_body_bytes: u64,
    /// SSE events with data, `[DONE]` not counted.
    pub sse_events: u64,
    /// The stream ended with `data: [DONE]`, or of `/v1/responses` with its last event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sse_done: Option<bool>,
    /// Token counts as the server gave them.
    #[serde(default, skip_serializing_if = "Tokens::is_empty")]
    pub tokens: Tokens,
    /// Prompt tokens that the worker was believed to have in its cache when it was chosen, to be held against
    /// `tokens.cached_tokens`: the part of the text that matched, of the server's count. Absent where the policy matches no
    /// prefixes, or where the server did not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_cached_tokens: Option<u64>,
    /// Why the answer was passed on unread, so that its tokens and stamps are missing: `content_encoding`, `too_long` (a plain
    /// one of over 16 MiB), `no_memory` (others held as much as all together may). Absent where it was read, or where there is
    /// nothing to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_unread: Option<Cow<'static, str>>,
    /// The answer held text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_text: Option<bool>,
    /// The server's finish reason (`length`, `stop`, `abort`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<Cow<'static, str>>,
    /// The server's own stamps, raw: names, units and clocks as it sent them.
    #[serde(default, skip_serializing_if = "ServerStamps::is_empty")]
    pub server: ServerStamps,
}

impl RequestRecord {
    /// Members of its answer: prompts times samples of each, at least 1.
    pub fn members(&self) -> u32 {
        self.prompts.unwrap_or(1).max(1).saturating_mul(self.samples.unwrap_or(1).max(1))
    }

    /// The router itself was asked, and had an answer: a probe, a look at its pages, a step of the capture. Who looks for what
    /// became of traffic leaves these out.
    pub fn is_about_the_router(&self) -> bool {
        let was_answered = self.request_kind == RequestKind::Local && self.error.is_none();
        was_answered || self.path.starts_with("/milepost/")
    }
}

/// An attempt that gave no answer, or one that was not passed on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Worker URL.
    pub worker: Arc<str>,
    /// The router's span of this attempt; `traceparent` told it to the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<SpanId>,
    /// Just before the first byte was written, nanoseconds after arrival; absent if no connection was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_send_ns: Option<u64>,
    /// When it failed, nanoseconds after arrival.
    pub failed_ns: u64,
    /// Status of the answer that was not passed on; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Pause after it, before the next attempt, nanoseconds; absent where another worker was free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_ns: Option<u64>,
    /// What failed.
    pub error: String,
}

/// A connection that carried no readable request: a malformed or slow head, an over-long one, a failed TLS handshake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionRecord {
    /// When it ended, `CLOCK_MONOTONIC` of the router's host, nanoseconds.
    pub end_mono_ns: u64,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Requests it had carried before.
    pub requests: u64,
    /// What was wrong.
    pub error: String,
}

/// A change in the fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// When, `CLOCK_MONOTONIC` of the router's host, nanoseconds.
    pub mono_ns: u64,
    /// Worker URL.
    pub worker: Arc<str>,
    /// `added`, `no_answer_yet` (since it was added), `healthy`, `unhealthy`, `removed`, `described`, `breaker_open` (it gets no
    /// requests), `breaker_half_open` (one at a time), `breaker_closed`, `known` (no change: said again where a file begins, so
    /// that it can be read alone; `detail` is the last change before it).
    pub event: String,
    /// What was found or went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Model path the worker reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// SGLang version the worker reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `max_running_requests` the worker reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running_requests: Option<u64>,
    /// The worker says that it is simulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated: Option<bool>,
    /// `true`: the worker is a router itself, so that it is not known which engine answered, nor in which clock. Absent where
    /// nothing told that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn outcomes_stand_at_their_numbers_and_their_names_are_those_that_are_written() {
        for (i, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, i);
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
        }
    }
}
