//! `meta_info`: what a server says about one sequence, with the keys and the order of each dialect.
//!
//! Rule: the fields are in the order of the captured answers; a field that a server leaves out is left out. Deliberately not
//! here: log probabilities, hidden states, speculative decoding.

use serde::Serialize;

use super::dialect::Dialect;
use super::engine::{End, Progress};
use super::stamps::{Clocks, span_s};
use super::tokens::END_OF_TURN;

/// What a sequence's `meta_info` is made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whose keys.
    pub dialect: Dialect,
    /// `--enable-metrics`.
    pub metrics: bool,
    /// Request id of the sequence.
    pub id: &'a str,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Whether the answer ends by itself when it ends.
    pub stops: bool,
    /// The request's clocks.
    pub clocks: Clocks,
    /// When the request was handed to the scheduler.
    pub dispatched_ns: u64,
    /// When the answer, or the first event of a stream, is sent; absent in later events that do not repeat it.
    pub sent_ns: Option<u64>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// How far the sequence is.
    pub progress: Progress,
}

/// `finish_reason` of /generate.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FinishReason {
    /// All tokens asked for.
    Length {
        /// How many.
        length: u32,
    },
    /// The answer ended by itself.
    Stop {
        /// The token that ended it.
        matched: u32,
    },
    /// Aborted or refused.
    Abort {
        /// Why.
        message: &'static str,
        /// HTTP status it stands for.
        status_code: Option<u16>,
        /// Error class.
        err_type: Option<&'static str>,
    },
}

impl FinishReason {
    /// The word of the `OpenAI` endpoints.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Length { .. } => "length",
            Self::Stop { .. } => "stop",
            Self::Abort { .. } => "abort",
        }
    }

    /// `matched_stop` of the `OpenAI` endpoints.
    pub fn matched_stop(&self) -> Option<u32> {
        if let Self::Stop { matched } = self { Some(*matched) } else { None }
    }
}

impl Facts<'_> {
    /// Why the sequence ended, if it has.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        let plain = |message| FinishReason::Abort { message, status_code: None, err_type: None };
        Some(match self.progress.end? {
            End::Finished if self.stops => FinishReason::Stop { matched: END_OF_TURN },
            End::Finished => FinishReason::Length { length: self.progress.tokens },
            End::Aborted => plain("Aborted"),
            End::AbortedInQueue if self.dialect.is_049() => plain("Abort before prefill"),
            End::AbortedInQueue => plain("Abort in waiting queue"),
            End::QueueFull => FinishReason::Abort {
                message: "The request queue is full.",
                status_code: Some(503),
                err_type: Some("SERVICE_UNAVAILABLE"),
            },
        })
    }

    /// The object, as JSON text.
    pub fn to_json(&self) -> String {
        let text = match self.dialect {
            Dialect::V049 | Dialect::V049Patched => serde_json::to_string(&self.v049()),
            Dialect::V0523 => serde_json::to_string(&self.v0523()),
            Dialect::V0523Rust => serde_json::to_string(&self.rust()),
        };
        // Structs of plain values always serialise.
        text.unwrap_or_default()
    }

    /// Ended, and not before it ran: fields about its run are known.
    fn ran(&self) -> bool {
        !matches!(self.progress.end, Some(End::AbortedInQueue | End::QueueFull))
    }

    fn e2e_latency(&self) -> Option<f64> {
        self.progress.ended_ns.map(|ended_ns| span_s(self.clocks.created_ns(), ended_ns))
    }

    fn v049(&self) -> V049<'_> {
        let p = &self.progress;
        let patched = self.dialect == Dialect::V049Patched;
        let first_token = p.first_report_ns.or(p.ended_ns).filter(|_| self.metrics && patched);
        V049 {
            id: self.id,
            finish_reason: self.finish_reason(),
            prompt_tokens: if self.ran() { self.prompt_tokens } else { 0 },
            completion_tokens: p.tokens,
            cached_tokens: self.ran().then_some(p.cached_tokens),
            e2e_latency: self.e2e_latency(),
            server_created_time: patched.then(|| self.clocks.unix_s(self.clocks.created_ns())),
            server_first_token_time: first_token.map(|at_ns| self.clocks.unix_s(at_ns)),
            queue_time_start: patched.then(|| self.clocks.perf_counter_s(p.queue_start_ns)),
            queue_time_end: patched.then(|| {
                p.queue_end_ns.filter(|_| self.metrics).map(|at_ns| self.clocks.perf_counter_s(at_ns))
            }),
        }
    }

    fn v0523(&self) -> V0523<'_> {
        let p = &self.progress;
        let unix_s = |at_ns| self.clocks.unix_s(at_ns);
        let ended = p.end.is_some();
        let timed = |at_ns: Option<u64>| at_ns.filter(|_| self.metrics).map(unix_s);
        let last = |at_ns: Option<u64>| timed(at_ns.filter(|_| ended));
        let latency = |from_ns: Option<u64>, to_ns: Option<u64>| {
            Some(span_s(from_ns?, to_ns?)).filter(|_| self.metrics)
        };
        let decode_s = latency(p.first_token_ns, p.ended_ns).filter(|s| *s > 0.0);
        let sent_ts = self.sent_ns.map(unix_s);
        V0523 {
            id: self.id,
            finish_reason: self.finish_reason(),
            prompt_tokens: self.ran().then_some(self.prompt_tokens),
            weight_version: "default",
            num_retractions: p.retractions,
            storage_prefetch_wait: self.metrics.then_some(0.0),
            storage_staging_wait: self.metrics.then_some(0.0),
            forward_entry_time: timed(p.queue_end_ns),
            prefill_finished_time: timed(p.first_token_ns),
            queue_time: latency(Some(p.queue_start_ns), p.queue_end_ns),
            reasoning_tokens: 0,
            completion_tokens: p.tokens,
            cached_tokens: self.ran().then_some(p.cached_tokens),
            weight_versions: ended.then(|| weight_versions(p.tokens)),
            cached_tokens_details: Device { device: p.cached_tokens, host: 0 },
            dp_rank: None,
            e2e_latency: self.e2e_latency(),
            request_received_ts: last(Some(self.clocks.created_ns())),
            first_token_latency: latency(Some(self.clocks.created_ns()), p.first_token_ns).filter(|_| ended),
            api_server_dispatch_finish_ts: last(Some(self.dispatched_ns)),
            stream_sent_ts: sent_ts.filter(|_| self.stream),
            request_finished_ts: last(p.ended_ns),
            decode_throughput: decode_s.map(|s| f64::from(p.tokens.saturating_sub(1)) / s),
            sent_ts: sent_ts.filter(|_| !self.stream),
        }
    }

    fn rust(&self) -> Rust<'_> {
        let p = &self.progress;
        Rust {
            id: self.id,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: p.tokens,
            finish_reason: self.finish_reason(),
            e2e_latency: self.e2e_latency(),
            cached_tokens: p.cached_tokens,
            reasoning_tokens: 0,
            weight_version: "default",
            weight_versions: p.end.map(|_| weight_versions(p.tokens)),
        }
    }
}

/// `weight_versions` of an answer of `tokens` tokens: `[{"version":"default","start":0,"end":n}]`.
pub fn weight_versions(tokens: u32) -> [WeightVersion; 1] {
    [WeightVersion { version: "default", start: 0, end: tokens }]
}

/// The tokens that one version of the weights made.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WeightVersion {
    version: &'static str,
    start: u32,
    end: u32,
}

#[derive(Serialize)]
struct V049<'a> {
    id: &'a str,
    finish_reason: Option<FinishReason>,
    prompt_tokens: u32,
    completion_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e2e_latency: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_created_time: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_first_token_time: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_time_start: Option<f64>,
    /// Present in the patched build; null while unknown and without `--enable-metrics`.
    #[expect(clippy::option_option, reason = "absent, null and a number are three answers")]
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_time_end: Option<Option<f64>>,
}

#[derive(Serialize)]
struct Device {
    device: u32,
    host: u32,
}

#[derive(Serialize)]
struct V0523<'a> {
    id: &'a str,
    finish_reason: Option<FinishReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens: Option<u32>,
    weight_version: &'static str,
    num_retractions: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_prefetch_wait: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_staging_wait: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forward_entry_time: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefill_finished_time: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_time: Option<f64>,
    reasoning_tokens: u32,
    completion_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_versions: Option<[WeightVersion; 1]>,
    cached_tokens_details: Device,
    dp_rank: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e2e_latency: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_received_ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_token_latency: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_server_dispatch_finish_ts: Option<f64>,
    #[serde(rename = "response_sent_to_client_ts", skip_serializing_if = "Option::is_none")]
    stream_sent_ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_finished_ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decode_throughput: Option<f64>,
    #[serde(rename = "response_sent_to_client_ts", skip_serializing_if = "Option::is_none")]
    sent_ts: Option<f64>,
}

#[derive(Serialize)]
struct Rust<'a> {
    id: &'a str,
    prompt_tokens: u32,
    completion_tokens: u32,
    finish_reason: Option<FinishReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e2e_latency: Option<f64>,
    cached_tokens: u32,
    reasoning_tokens: u32,
    weight_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_versions: Option<[WeightVersion; 1]>,
}
