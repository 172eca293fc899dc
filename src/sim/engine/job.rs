//! What goes into the engine and what comes out of it, one request at a time.
//!
//! Rule: times are nanoseconds on the worker's `CLOCK_MONOTONIC`; an absent stamp is `None`, never 0.

use std::sync::Arc;

use crate::sim::tokens::{Answer, Token};

/// Identifies a job in one engine.
pub type JobId = u64;

/// One sequence to generate.
#[derive(Clone, Debug)]
pub struct Job {
    /// Unique in the engine.
    pub id: JobId,
    /// The prompt; never empty.
    pub prompt: Arc<[Token]>,
    /// The words of the answer.
    pub answer: Answer,
    /// Tokens to generate, at least 1; prompt and answer together fit the KV cache.
    pub output_tokens: u32,
    /// Most tokens that the request allows: what admission reserves for, as a scheduler cannot know when an answer ends.
    pub max_new_tokens: u32,
    /// The scheduler reports to the HTTP process after every this many tokens, and at the end.
    pub report_every: u32,
    /// When the request reaches the waiting queue.
    pub queued_at_ns: u64,
}

/// Why a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All its tokens were generated.
    Finished,
    /// Aborted while it waited.
    AbortedInQueue,
    /// Aborted while it ran.
    Aborted,
    /// The waiting queue was full when it came.
    QueueFull,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tokens generated.
    pub tokens: u32,
    /// Prompt tokens found in the prefix cache at the first admission.
    pub cached_tokens: u32,
    /// Times the job lost its KV and went back to the queue.
    pub retractions: u32,
    /// Entered the waiting queue.
    pub queue_start_ns: u64,
    /// Start of the first forward pass that had a part of it.
    pub queue_end_ns: Option<u64>,
    /// End of the step that made the first token.
    pub first_token_ns: Option<u64>,
    /// When the scheduler first reported tokens of it.
    pub first_report_ns: Option<u64>,
    /// When it ended.
    pub ended_ns: Option<u64>,
    /// Why it ended.
    pub end: Option<End>,
}

/// A job's state after something happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose.
    pub id: JobId,
    /// The state.
    pub progress: Progress,
}

/// What a forward pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Computed this many prompt tokens.
    Prefill {
        /// New tokens.
        tokens: u64,
    },
    /// One token for each of this many sequences.
    Decode {
        /// Sequences.
        batch: usize,
    },
}

/// One forward pass; what it made is there `duration_ns` after its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it did.
    pub kind: StepKind,
    /// How long it takes.
    pub duration_ns: u64,
    /// What is known at its end.
    pub events: Vec<Event>,
}

/// Gauges and counters of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests in the batch, one being prefilled in chunks included.
    pub running: usize,
    /// Requests in the waiting queue.
    pub waiting: usize,
    /// Prompt tokens in the waiting queue.
    pub waiting_tokens: u64,
    /// KV tokens held by running requests, shared prefixes counted once.
    pub used_tokens: u64,
    /// KV tokens that only the prefix cache holds.
    pub evictable_tokens: u64,
    /// KV capacity.
    pub capacity_tokens: u64,
    /// Tokens a second of the last decode step; 0 when nothing runs.
    pub tokens_per_s: f64,
    /// Prompt tokens of admitted requests.
    pub prompt_tokens_total: u64,
    /// Of these, found in the prefix cache.
    pub cached_tokens_total: u64,
    /// Tokens generated.
    pub generated_tokens_total: u64,
    /// Jobs that finished.
    pub finished_total: u64,
    /// Jobs that were aborted.
    pub aborted_total: u64,
    /// Retractions.
    pub retracted_total: u64,
    /// Prefill steps.
    pub prefill_steps: u64,
    /// Decode steps.
    pub decode_steps: u64,
    /// Time spent in prefill steps.
    pub prefill_busy_ns: u64,
}
