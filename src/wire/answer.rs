//! What one answer told, gathered while its bytes pass.
//!
//! Rule: the bytes are looked at, not kept, beyond a few events (streams) or a capped body (plain answers). An error inside
//! a 200 is an error: SGLang reports errors of a stream as an event, aborts as a finish reason, and a full queue (0.4.9) as
//! a body that just stops. Deliberately not here: HTTP, clocks; the caller says when a chunk came.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Endpoint;
use super::gather::Gather;
use super::meta_info::ServerStamps;
use super::reply::{Body, ErrorBody, Reply};
use super::sse::Scanner;

/// Most bytes of a plain answer, or of one event, that are held to be read.
pub const ANSWER_CAP_BYTES: usize = 16 << 20;
/// An answer without generated tokens that is longer than this is not read but for its end: vectors are long.
const READ_WHOLE_BYTES: usize = 16 << 10;
/// How much of its end is held, where `usage` stands.
const END_BYTES: usize = 512;
/// How the content type of a stream begins; a charset may follow.
const EVENT_STREAM: &[u8] = b"text/event-stream";
const USAGE: &[u8] = b"\"usage\":";
/// Longest error message kept, in characters.
const MESSAGE_CHARS: usize = 200;

/// Token counts as the server gave them; several choices or prompts are summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Prompt tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// Generated tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// Prompt tokens found in the prefix cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
}

impl Tokens {
    /// True if the server gave none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each count of `later`, and those that only this one has.
    #[must_use]
    pub fn updated_by(self, later: Self) -> Self {
        Self {
            prompt_tokens: later.prompt_tokens.or(self.prompt_tokens),
            completion_tokens: later.completion_tokens.or(self.completion_tokens),
            cached_tokens: later.cached_tokens.or(self.cached_tokens),
        }
    }

    /// The sums; a count that only one side has stays as it is.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        Self {
            prompt_tokens: sum(self.prompt_tokens, other.prompt_tokens),
            completion_tokens: sum(self.completion_tokens, other.completion_tokens),
            cached_tokens: sum(self.cached_tokens, other.cached_tokens),
        }
    }
}

/// What was wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerError {
    /// `http_status`, `error_event`, `error_body`, `abort`, `truncated`, `unreadable`, `no_tokens`.
    pub class: &'static str,
    /// The HTTP status, or the one that the server named inside a 200.
    pub code: Option<u16>,
    /// The server's words, at most 200 characters. They may quote the prompt: not for the trace.
    pub message: String,
}

impl AnswerError {
    /// Class and code alone, such as `abort 503`: safe to write anywhere.
    pub fn public(&self) -> String {
        match self.code {
            Some(code) => format!("{} {code}", self.class),
            None => self.class.to_owned(),
        }
    }

    fn new(class: &'static str, code: Option<u16>, message: &str) -> Self {
        Self { class, code, message: message.chars().take(MESSAGE_CHARS).collect() }
    }

    fn of_body(class: &'static str, body: &ErrorBody) -> Self {
        Self::new(class, body.code, &body.message)
    }
}

/// How many tokens had come when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenTime {
    /// When the event ended, on the caller's clock.
    pub at_ns: u64,
    /// Completion tokens so far, this event included; of all members.
    pub tokens: u32,
    /// Whose event it is: members are numbered from 0 as they come to stand here.
    pub member: u32,
}

/// What one answer told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The answer was read: a known endpoint, no content coding, not over the cap. Of a long answer without generated tokens
    /// that means its end.
    pub looked: bool,
    /// Why it was not read though it was due: `content_encoding`, `too_long` (a plain one over the cap), `no_memory` (its caller
    /// had no room for it).
    pub unread: Option<&'static str>,
    /// SSE events with data, `[DONE]` not counted.
    pub events: u64,
    /// Of these, events over the cap, whose data was dropped.
    pub overlong_events: u64,
    /// First event with data, on the caller's clock.
    pub first_event_ns: Option<u64>,
    /// First event with tokens (`completion_tokens` ≥ 1, `choices`, or a delta of `/v1/responses`), on the caller's clock;
    /// streams only. Of several members where token times are noted: the first of the member whose first came last.
    pub first_token_ns: Option<u64>,
    /// The stream had its closing event, `[DONE]` or of `/v1/responses` its last one; absent where none is due.
    pub done: Option<bool>,
    /// The stream ended inside an event.
    pub partial_event: bool,
    /// Counts of the last event or the body; all members summed.
    pub tokens: Tokens,
    /// The server's stamps, raw; of several members as [`ServerStamps::spanning`].
    pub stamps: ServerStamps,
    /// Why generation ended; an abort before any other reason.
    pub finish_reason: Option<Cow<'static, str>>,
    /// What was wrong; absent for a good answer.
    pub error: Option<AnswerError>,
    /// The answer held text (reasoning counts, tool calls do not); absent if it was not read or is not generated.
    pub has_text: Option<bool>,
    /// One entry for each event that brought tokens, if asked for. OpenAI events without running `usage` count one token for
    /// each event with text, a lower bound: a 0.5.23 event may hold several.
    pub token_times: Vec<TokenTime>,
}

/// Looks at one answer as its chunks pass.
#[derive(Debug)]
pub struct AnswerReader {
    status: u16,
    source: Source,
    gather: Gather,
    unread: Option<&'static str>,
}

#[derive(Debug)]
enum Source {
    Unread,
    Stream(Scanner),
    Plain(Vec<u8>),
    /// Read whole while it is short, else only its end is held.
    End {
        held: Vec<u8>,
        cut: bool,
    },
}

impl AnswerReader {
    /// A reader for an answer of `endpoint` with this HTTP status. `event_stream`: its content type is
    /// `text/event-stream` (not believed for a status of 400 or more: sglang-router sets it on error bodies too).
    /// `multiple`: a batch or `n` > 1, see [`super::call::Look::multiple`].
    pub fn new(endpoint: Endpoint, status: u16, event_stream: bool, multiple: bool) -> Self {
        let source = if event_stream && status < 400 {
            Source::Stream(Scanner::new(ANSWER_CAP_BYTES))
        } else if !endpoint.has_prompt() {
            Source::Unread
        } else if !endpoint.generates() {
            Source::End { held: Vec::new(), cut: false }
        } else {
            Source::Plain(Vec::new())
        };
        Self { status, source, gather: Gather::new(endpoint, multiple), unread: None }
    }

    /// A reader that reads nothing: for an answer of `endpoint` with a content coding.
    pub fn blind(endpoint: Endpoint, status: u16) -> Self {
        let gather = Gather::new(Endpoint::Other, false);
        let unread = endpoint.has_prompt().then_some("content_encoding");
        Self { status, source: Source::Unread, gather, unread }
    }

    /// A reader for an answer by two fields of its head, `content-encoding` and `content-type`: a coded body is not read.
    pub fn by_head(
        endpoint: Endpoint,
        status: u16,
        encoding: Option<&[u8]>,
        content_type: Option<&[u8]>,
        multiple: bool,
    ) -> Self {
        if encoding.is_some() {
            return Self::blind(endpoint, status);
        }
        let start = content_type.and_then(|value| value.get(..EVENT_STREAM.len()));
        let event_stream = start.is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM));
        Self::new(endpoint, status, event_stream, multiple)
    }

    /// Also note when tokens came, of several members each one's first: a quick scan of each event, for the load generator.
    #[must_use]
    pub fn with_token_times(mut self) -> Self {
        self.gather.token_times = Some(Vec::new());
        self
    }

    /// Takes a chunk of the body that was read at `at_ns`.
    pub fn push(&mut self, chunk: &[u8], at_ns: u64) {
        match &mut self.source {
            Source::Unread => {}
            Source::Stream(scanner) => {
                let gather = &mut self.gather;
                scanner.push(chunk, &mut |event| gather.event(event, at_ns));
            }
            Source::Plain(body) => {
                if body.len() + chunk.len() > ANSWER_CAP_BYTES {
                    (self.source, self.unread) = (Source::Unread, Some("too_long"));
                } else {
                    body.extend_from_slice(chunk);
                }
            }
            Source::End { held, cut } => {
                held.extend_from_slice(chunk);
                *cut |= held.len() > READ_WHOLE_BYTES;
                if *cut && held.len() > 2 * END_BYTES {
                    held.drain(..held.len() - END_BYTES);
                    held.shrink_to(2 * END_BYTES);
                }
            }
        }
    }

    /// Bytes of a plain answer that are held to be read at its end.
    pub fn held_bytes(&self) -> usize {
        if let Source::Plain(body) = &self.source { body.len() } else { 0 }
    }

    /// Lets go of what is held: the answer will not be read.
    pub fn give_up(&mut self) {
        (self.source, self.unread) = (Source::Unread, Some("no_memory"));
    }

    /// The first event with tokens has passed, at this time on the caller's clock.
    pub fn first_token_ns(&self) -> Option<u64> {
        self.gather.first_token_ns
    }

    /// What the answer told. `complete`: the body ended as HTTP says it must.
    pub fn finish(mut self, complete: bool) -> Answer {
        let looked = self.gather.endpoint.has_prompt();
        let mut answer = Answer { looked, unread: self.unread, ..Answer::default() };
        let mut trouble = None;
        match std::mem::replace(&mut self.source, Source::Unread) {
            Source::Unread => answer.looked = false,
            Source::Stream(scanner) => {
                self.gather.settle();
                answer.partial_event = scanner.finish();
                // What generates nothing does not stream either, or nothing is known of it.
                answer.looked = self.gather.endpoint.generates();
                let due = self.gather.endpoint.closes_streams();
                answer.done = (due || self.gather.done).then_some(self.gather.done);
                // Where nothing closes a stream, half an event is all that tells of a cut.
                let cut = self.gather.endpoint == Endpoint::Triton && answer.partial_event;
                trouble = self.stream_trouble(complete && !cut, answer.done);
            }
            Source::Plain(body) | Source::End { held: body, cut: false } => {
                trouble = self.read_plain(&body, complete);
            }
            Source::End { held, .. } => self.read_end(&held),
        }
        if self.status >= 400 {
            let message = self.gather.error.take().unwrap_or_default().message;
            trouble = Some(AnswerError::new("http_status", Some(self.status), &message));
        } else if !complete && trouble.is_none() {
            trouble = Some(AnswerError::new("truncated", None, "the answer ended early"));
        }
        self.fill(answer, trouble)
    }

    fn stream_trouble(&self, complete: bool, done: Option<bool>) -> Option<AnswerError> {
        if let Some(body) = &self.gather.error {
            return Some(AnswerError::of_body("error_event", body));
        }
        let cut = done == Some(false) || !complete;
        let missing = match self.gather.endpoint {
            Endpoint::Responses => "its last event",
            Endpoint::Triton => "an end",
            _ => "[DONE]",
        };
        cut.then(|| AnswerError::new("truncated", None, &format!("the stream ended without {missing}")))
    }

    /// Takes the `usage` that stands last in an answer. The bytes looked for cannot stand inside a JSON string.
    fn read_end(&mut self, body: &[u8]) {
        let end = &body[body.len().saturating_sub(END_BYTES)..];
        if let Some(at) = end.windows(USAGE.len()).rposition(|window| window == USAGE)
            && let Ok(usage) = Reply::usage_of(&end[at + USAGE.len()..])
        {
            self.gather.add(Reply { usage, ..Reply::default() });
        }
    }

    fn read_plain(&mut self, body: &[u8], complete: bool) -> Option<AnswerError> {
        let status = self.status;
        let take = |gather: &mut Gather, mut reply: Reply| {
            if let Some(detail) = reply.detail.take().filter(|_| status >= 400 && reply.error.is_none()) {
                reply.error = Some(ErrorBody { code: None, message: detail });
            }
            gather.add(reply);
        };
        match Reply::parse_body(self.gather.endpoint, body) {
            Ok(Body::One(reply)) => take(&mut self.gather, reply),
            Ok(Body::Batch(replies)) => replies.into_iter().for_each(|reply| take(&mut self.gather, reply)),
            Err(_) if !complete => {
                return Some(AnswerError::new("truncated", None, "the answer ended early"));
            }
            Err(_) => {
                return Some(AnswerError::new("unreadable", None, "the answer is not JSON"));
            }
        }
        self.gather.error.as_ref().map(|body| AnswerError::of_body("error_body", body))
    }

    fn fill(mut self, mut answer: Answer, trouble: Option<AnswerError>) -> Answer {
        let (tokens, meta) = self.gather.total();
        let gather = self.gather;
        answer.events = gather.events;
        answer.overlong_events = gather.overlong_events;
        answer.first_event_ns = gather.first_event_ns;
        answer.first_token_ns = gather.first_token_ns;
        answer.token_times = gather.token_times.unwrap_or_default();
        let generates = gather.endpoint.generates();
        answer.has_text = (answer.looked && generates && self.status < 400).then_some(gather.has_text);
        answer.tokens = tokens;
        answer.stamps = meta.stamps;
        let told =
            gather.first_token_ns.is_some() || gather.has_choices || tokens.completion_tokens.is_some();
        let aborted = meta
            .finish
            .as_ref()
            .filter(|f| f.kind == "abort")
            .map(|f| AnswerError::new("abort", f.status_code, f.message.as_deref().unwrap_or_default()));
        let truncated = trouble.as_ref().is_some_and(|t| t.class == "truncated");
        answer.error = match trouble {
            Some(trouble) if !truncated => Some(trouble),
            other => aborted.or(other),
        };
        // A `/v1/responses` in the background is answered before it has begun.
        let begun = !matches!(meta.finish.as_ref().map(|f| &*f.kind), Some("queued" | "in_progress"));
        let no_tokens = begun && (!told || tokens.completion_tokens == Some(0));
        if answer.error.is_none() && answer.looked && generates && no_tokens {
            answer.error = Some(AnswerError::new("no_tokens", None, "the answer held no token"));
        }
        answer.finish_reason = meta.finish.map(|f| f.kind);
        answer
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
