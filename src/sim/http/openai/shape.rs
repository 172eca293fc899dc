//! The JSON of the `OpenAI` endpoints, key by key.
//!
//! Rule: text built here has the keys and the order of the captured answers. Words of an answer need no escapes; what a client
//! sent (`model`, `rid`) is quoted.

use super::super::ask::Ask;
use super::super::call::Call;
use super::super::problem::{Family, quoted};
use crate::sim::dialect::Dialect;
use crate::sim::meta_info::{FinishReason, weight_versions};

/// What one answer's objects have in common.
pub struct Shape {
    dialect: Dialect,
    family: Family,
    /// Quoted.
    id: String,
    created: u64,
    /// Quoted.
    model: String,
}

/// Token counts of a whole answer.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    prompt: u32,
    completion: u32,
}

impl Usage {
    /// Counts so far; the samples of one prompt count it once.
    pub fn of(call: &Call, ask: &Ask) -> Self {
        let prompt = call
            .sequences
            .iter()
            .step_by(ask.samples.max(1))
            .map(super::super::call::Sequence::prompt_tokens)
            .sum();
        Self { prompt, completion: call.sequences.iter().map(|s| s.progress.tokens).sum() }
    }
}

impl Shape {
    pub fn new(call: &Call, ask: &Ask, family: Family) -> Self {
        let worker = call.worker();
        let dialect = worker.config.dialect;
        let rid = call.sequences.first().map_or("", |s| s.rid.as_str());
        let given = ask.items.first().is_some_and(|i| i.rid.is_some());
        let prefix = if dialect.is_rust() && family == Family::Completions && !given { "cmpl-" } else { "" };
        let model = ask.model.as_deref().unwrap_or(&worker.config.model_path);
        Self {
            dialect,
            family,
            id: quoted(&format!("{prefix}{rid}")),
            created: call.clocks.created_unix(),
            model: quoted(model),
        }
    }

    pub fn is_chat(&self) -> bool {
        self.family == Family::Chat
    }

    /// The first event of a chat choice.
    pub fn role_chunk(&self, at: usize, usage: Option<Usage>) -> String {
        let delta = if self.dialect.is_049() {
            r#"{"role":"assistant","content":"","reasoning_content":null,"tool_calls":null}"#
        } else {
            r#"{"reasoning_content":null,"role":"assistant","content":""}"#
        };
        self.chat_chunk(at, delta, None, usage)
    }

    /// Text of a chat choice.
    pub fn delta_chunk(&self, at: usize, text: &str, usage: Option<Usage>) -> String {
        let delta = if self.dialect.is_049() {
            format!(r#"{{"role":null,"content":"{text}","reasoning_content":null,"tool_calls":null}}"#)
        } else {
            format!(r#"{{"reasoning_content":null,"content":"{text}"}}"#)
        };
        self.chat_chunk(at, &delta, None, usage)
    }

    /// The last event of a chat choice.
    pub fn finish_chunk(&self, at: usize, reason: &FinishReason, usage: Option<Usage>) -> String {
        let delta = if self.dialect.is_049() {
            r#"{"role":null,"content":null,"reasoning_content":null,"tool_calls":null}"#
        } else {
            r#"{"reasoning_content":null}"#
        };
        self.chat_chunk(at, delta, Some(reason), usage)
    }

    fn chat_chunk(
        &self,
        at: usize,
        delta: &str,
        reason: Option<&FinishReason>,
        usage: Option<Usage>,
    ) -> String {
        let usage = match usage {
            _ if self.dialect.is_049() => ",\"usage\":null".to_owned(),
            Some(usage) => format!(",\"usage\":{}", self.usage(usage)),
            None => String::new(),
        };
        let (head, ending) = (self.head("chat.completion.chunk"), ending(reason));
        format!(r#"{{{head},"choices":[{{"index":{at},"delta":{delta},"logprobs":null,{ending}}}]{usage}}}"#)
    }

    /// Text of a completions choice; the last has the reason.
    pub fn text_chunk(
        &self,
        at: usize,
        text: &str,
        reason: Option<&FinishReason>,
        usage: Option<Usage>,
    ) -> String {
        let usage =
            usage.filter(|_| !self.dialect.is_049()).map_or("null".to_owned(), |u| self.stream_usage(u));
        let ending = ending(reason);
        if self.dialect.is_rust() {
            let ending = if reason.is_some() { ending } else { "\"matched_stop\":null".to_owned() };
            return self.rust(&format!(r#"{{"text":"{text}","index":{at},{ending}}}"#), &usage);
        }
        let head = self.head("text_completion");
        format!(
            r#"{{{head},"choices":[{{"index":{at},"text":"{text}","logprobs":null,{ending}}}],"usage":{usage}}}"#
        )
    }

    /// The event of `include_usage`.
    pub fn usage_event(&self, usage: Usage) -> String {
        if self.is_chat() {
            return format!(
                r#"{{{},"choices":[],"usage":{}}}"#,
                self.head("chat.completion.chunk"),
                self.usage(usage)
            );
        }
        if self.dialect.is_rust() {
            return self.rust("", &self.stream_usage(usage));
        }
        format!(r#"{{{},"choices":[],"usage":{}}}"#, self.head("text_completion"), self.stream_usage(usage))
    }

    /// A choice of an answer that is not streamed; with `meta_info` where it was asked for and the server has it.
    pub fn whole_choice(&self, call: &Call, at: usize, meta_sent_ns: Option<u64>) -> String {
        let text = &call.sequences[at].text;
        let ending = ending(call.finish_reason(at).as_ref());
        if !self.is_chat() {
            return if self.dialect.is_rust() {
                format!(r#"{{"text":"{text}","index":{at},{ending}}}"#)
            } else {
                format!(r#"{{"index":{at},"text":"{text}","logprobs":null,{ending}}}"#)
            };
        }
        let tools = if self.dialect.is_049() { ",\"tool_calls\":null" } else { "" };
        let meta_info = meta_sent_ns
            .filter(|_| self.dialect == Dialect::V0523)
            .map(|sent_ns| call.meta_info(at, Some(sent_ns)));
        let meta_info = meta_info.map(|m| format!(",\"meta_info\":{m}")).unwrap_or_default();
        let message = format!(r#"{{"role":"assistant","content":"{text}","reasoning_content":null{tools}}}"#);
        format!(r#"{{"index":{at},"message":{message},"logprobs":null,{ending}{meta_info}}}"#)
    }

    /// An answer that is not streamed.
    pub fn whole(&self, choices: &[String], usage: Usage) -> String {
        let choices = choices.join(",");
        if self.dialect.is_rust() && !self.is_chat() {
            return self.rust(&choices, &self.stream_usage(usage));
        }
        let head = self.head(if self.is_chat() { "chat.completion" } else { "text_completion" });
        let metadata = if self.dialect.is_049() {
            String::new()
        } else {
            let versions = serde_json::to_string(&weight_versions(usage.completion)).unwrap_or_default();
            format!(r#","metadata":{{"weight_version":"default","weight_versions":{versions}}}"#)
        };
        format!(r#"{{{head},"choices":[{choices}],"usage":{}{metadata}}}"#, self.usage(usage))
    }

    fn head(&self, object: &str) -> String {
        let Self { id, created, model, .. } = self;
        format!(r#""id":{id},"object":"{object}","created":{created},"model":{model}"#)
    }

    fn rust(&self, choices: &str, usage: &str) -> String {
        let Self { id, created, model, .. } = self;
        format!(
            r#"{{"id":{id},"choices":[{choices}],"created":{created},"model":{model},"usage":{usage},"object":"text_completion"}}"#
        )
    }

    fn usage(&self, usage: Usage) -> String {
        let Usage { prompt, completion } = usage;
        let more = if self.dialect.is_049() {
            ""
        } else {
            ",\"reasoning_tokens\":0,\"completion_tokens_details\":null"
        };
        let total = prompt + completion;
        format!(
            r#"{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{completion},"prompt_tokens_details":null{more}}}"#
        )
    }

    /// Usage as completions write it in a stream, and the Rust front end always.
    fn stream_usage(&self, usage: Usage) -> String {
        let Usage { prompt, completion } = usage;
        let total = prompt + completion;
        if self.dialect.is_rust() {
            return format!(
                r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total}}}"#
            );
        }
        let more = if self.dialect.is_049() { "" } else { ",\"reasoning_tokens\":0" };
        format!(
            r#"{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{completion}{more}}}"#
        )
    }
}

/// `"finish_reason":..,"matched_stop":..`.
fn ending(reason: Option<&FinishReason>) -> String {
    let word = reason.map_or("null".to_owned(), |r| format!("\"{}\"", r.word()));
    let matched = reason.and_then(FinishReason::matched_stop).map_or("null".to_owned(), |m| m.to_string());
    format!(r#""finish_reason":{word},"matched_stop":{matched}"#)
}
