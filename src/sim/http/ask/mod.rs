//! Request bodies: JSON in, what to generate out.
//!
//! Rule: every check of a real server that a client can run into is made, in its order, or the field is ignored as unknown
//! ones are. Not simulated and ignored: stop strings and token ids, constrained output, log probabilities, images, tools.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::problem::{Refusal, SAMPLING_PARAMS};
use crate::sim::dialect::Dialect;
use crate::sim::profile::Profile;
use crate::sim::tokens::{Answer, Token, open_answer, tokenize, tokenize_message};

/// Most sequences of one request: what bounds the queue of commands to the engine.
const MOST_ITEMS: usize = 4_096;

/// SGLang's default for /generate.
const NATIVE_MAX_NEW_TOKENS: u64 = 128;

/// The `OpenAI` default for /v1/completions.
const COMPLETIONS_MAX_TOKENS: u64 = 16;

/// What a worker checks a body against.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// Whose words and checks.
    pub dialect: Dialect,
    /// Sizes.
    pub profile: &'a Profile,
    /// Seed of the answers.
    pub seed: u64,
}

/// One sequence to generate.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its request id, where the client gave one.
    pub rid: Option<String>,
    /// Tokens of the prompt.
    pub prompt: Arc<[Token]>,
    /// Bytes of prompt text to tokenise; 0 for ids and for further samples of one prompt.
    pub text_bytes: usize,
    /// The words of the answer.
    pub answer: Answer,
    /// Most tokens of the answer.
    pub max_new_tokens: u32,
    /// Tokens after which it ends.
    pub output_tokens: u32,
    /// Whether it ends by itself there.
    pub stops: bool,
}

/// A checked request.
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the body")]
#[derive(Clone, Debug)]
pub struct Ask {
    /// Sequences, prompt-major.
    pub items: Vec<Item>,
    /// Whether the answer is a list (a batch, or more than one sample).
    pub list: bool,
    /// Samples of each prompt.
    pub samples: usize,
    /// `model`, as sent.
    pub model: Option<String>,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// `stream_options.continuous_usage_stats`.
    pub continuous_usage: bool,
    /// `return_meta_info`.
    pub return_meta_info: bool,
}

/// Parses a body; an empty one is missing.
pub fn parse(body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Err(Refusal::NoBody);
    }
    serde_json::from_slice(body).map_err(|e| Refusal::BadJson(e.column(), e.to_string()))
}

/// `stream`.
pub fn is_stream(body: &Value) -> bool {
    body["stream"].as_bool().unwrap_or(false)
}

/// What one prompt is to become.
struct Sampling {
    max_new_tokens: Option<u64>,
    ignore_eos: bool,
    samples: usize,
}

/// The body of /generate.
pub fn generate(body: &Value, limits: Limits<'_>) -> Result<Ask, Refusal> {
    let (prompts, batch) = match (&body["text"], &body["input_ids"]) {
        (Value::Null, Value::Null) => {
            return Err(Refusal::Value(no_input(limits.dialect).to_owned()));
        }
        (Value::Null, ids) => ids_prompts("input_ids", ids)?,
        (text, _) => text_prompts("text", text)?,
    };
    let none = Value::Null;
    let per_prompt = |at: usize| match &body["sampling_params"] {
        Value::Array(list) => list.get(at).unwrap_or(&none).clone(),
        one => one.clone(),
    };
    let mut ask = Ask::of(body);
    for (at, (prompt, text_bytes)) in prompts.into_iter().enumerate() {
        let sampling = native_sampling(per_prompt(at).as_object(), limits.dialect)?;
        ask.samples = sampling.samples;
        ask.push(prompt, text_bytes, &sampling, limits, Some(NATIVE_MAX_NEW_TOKENS))?;
    }
    ask.list = batch || ask.samples > 1;
    ask.name(&body["rid"]);
    Ok(ask)
}

/// The body of /`v1/chat/completions`.
pub fn chat(body: &Value, limits: Limits<'_>) -> Result<Ask, Refusal> {
    let messages = match &body["messages"] {
        Value::Null => return Err(Refusal::Missing("messages", body.clone())),
        Value::Array(list) if list.is_empty() => {
            let rust = limits.dialect.is_rust();
            let message = if rust { "messages cannot be empty" } else { "Messages cannot be empty." };
            return Err(Refusal::Early(message, "BadRequestError"));
        }
        Value::Array(list) => list,
        other => return Err(Refusal::WrongType("messages", other.clone())),
    };
    if limits.dialect == Dialect::V0523 && is_stream(body) && body["return_meta_info"] == true {
        let message = "return_meta_info is not supported with streaming. Please set stream=false when using return_meta_info=true.";
        return Err(Refusal::Early(message, "BadRequest"));
    }
    let (mut prompt, mut text_bytes) = (Vec::new(), 0);
    for message in messages {
        let content = message_text(&message["content"])?;
        text_bytes += content.len();
        tokenize_message(message["role"].as_str().unwrap_or("user"), &content, &mut prompt);
    }
    open_answer(&mut prompt);
    let mut ask = Ask::of(body);
    let sampling = openai_sampling(body, limits.dialect)?;
    ask.samples = sampling.samples;
    ask.push(prompt, text_bytes, &sampling, limits, None)?;
    ask.name(&body["rid"]);
    Ok(ask)
}

/// The body of /v1/completions.
pub fn completions(body: &Value, limits: Limits<'_>) -> Result<Ask, Refusal> {
    let prompt = &body["prompt"];
    let numbers = |list: &Vec<Value>| list.iter().all(|v| v.is_number() || v.is_array());
    let (prompts, _) = match prompt {
        Value::Null => return Err(Refusal::Missing("prompt", body.clone())),
        Value::Array(list) if numbers(list) => ids_prompts("prompt", prompt)?,
        _ => text_prompts("prompt", prompt)?,
    };
    let mut ask = Ask::of(body);
    let sampling = openai_sampling(body, limits.dialect)?;
    ask.samples = sampling.samples;
    for (prompt, text_bytes) in prompts {
        ask.push(prompt, text_bytes, &sampling, limits, Some(COMPLETIONS_MAX_TOKENS))?;
    }
    ask.name(&body["rid"]);
    Ok(ask)
}

impl Ask {
    fn of(body: &Value) -> Self {
        let options = &body["stream_options"];
        Self {
            items: Vec::new(),
            list: false,
            samples: 1,
            model: body["model"].as_str().map(str::to_owned),
            include_usage: options["include_usage"] == true,
            continuous_usage: options["continuous_usage_stats"] == true,
            return_meta_info: body["return_meta_info"] == true,
        }
    }

    /// Adds the samples of one prompt.
    fn push(
        &mut self,
        prompt: Vec<Token>,
        text_bytes: usize,
        sampling: &Sampling,
        limits: Limits<'_>,
        default: Option<u64>,
    ) -> Result<(), Refusal> {
        if prompt.is_empty() {
            return Err(Refusal::Value("The prompt is empty.".to_owned()));
        }
        let (len, context) = (prompt.len() as u64, limits.profile.context_tokens);
        if len >= context {
            return Err(Refusal::Value(format!(
                "The input ({len} tokens) is longer than the model's context length ({context} tokens)."
            )));
        }
        let longest = limits.profile.max_input_tokens();
        if len > longest {
            return Err(Refusal::Value(format!(
                "Input length ({len} tokens) exceeds the maximum allowed length ({longest} tokens). Use a shorter input or enable --allow-auto-truncate."
            )));
        }
        if let Some(new) = sampling.max_new_tokens.filter(|new| new.saturating_add(len) >= context) {
            return Err(Refusal::Value(format!(
                "Requested token count exceeds the model's maximum context length of {context} tokens. You requested a total of {} tokens: {len} tokens from the input messages and {new} tokens for the completion. Please reduce the number of tokens in the input messages or the completion to fit within the limit.",
                new.saturating_add(len)
            )));
        }
        if self.items.len() + sampling.samples > MOST_ITEMS {
            return Err(Refusal::Value(format!(
                "the simulated worker takes at most {MOST_ITEMS} sequences in one request"
            )));
        }
        let room = limits.profile.max_request_tokens() - len;
        let wanted = sampling.max_new_tokens.or(default).unwrap_or(room);
        let max_new_tokens = u32::try_from(wanted.clamp(1, room)).unwrap_or(u32::MAX);
        let prompt: Arc<[Token]> = prompt.into();
        for sample in 0..sampling.samples {
            let answer = Answer::new(limits.seed, &prompt, sample);
            let stops = !sampling.ignore_eos && answer.natural_tokens() < max_new_tokens;
            let output_tokens = if stops { answer.natural_tokens() } else { max_new_tokens };
            let text_bytes = if sample == 0 { text_bytes } else { 0 };
            let prompt = prompt.clone();
            self.items.push(Item {
                rid: None,
                prompt,
                text_bytes,
                answer,
                max_new_tokens,
                output_tokens,
                stops,
            });
        }
        Ok(())
    }

    /// Gives the sequences the client's ids: one for one, a list in order, else the id and a number.
    fn name(&mut self, rid: &Value) {
        let alone = self.items.len() == 1;
        for (at, item) in self.items.iter_mut().enumerate() {
            item.rid = match rid {
                Value::String(rid) if alone => Some(rid.clone()),
                Value::String(rid) => Some(format!("{rid}_{at}")),
                Value::Array(list) => list.get(at).and_then(Value::as_str).map(str::to_owned),
                _ => None,
            };
        }
    }
}

fn no_input(dialect: Dialect) -> &'static str {
    if dialect.is_rust() {
        "either `text` or `input_ids` must be provided"
    } else {
        "Either text, input_ids or input_embeds should be provided."
    }
}

type Prompts = (Vec<(Vec<Token>, usize)>, bool);

/// One text or a list of texts, tokenised; whether it was a list.
fn text_prompts(field: &'static str, value: &Value) -> Result<Prompts, Refusal> {
    let one = |text: &str| {
        let mut tokens = Vec::with_capacity(text.len() / 4 + 1);
        tokenize(text, &mut tokens);
        (tokens, text.len())
    };
    match value {
        Value::String(text) => Ok((vec![one(text)], false)),
        Value::Array(list) => {
            let texts =
                list.iter().map(|v| v.as_str().map(one).ok_or_else(|| Refusal::WrongType(field, v.clone())));
            Ok((texts.collect::<Result<_, _>>()?, true))
        }
        other => Err(Refusal::WrongType(field, other.clone())),
    }
}

/// One list of ids or a list of lists; whether it was the latter.
fn ids_prompts(field: &'static str, value: &Value) -> Result<Prompts, Refusal> {
    let wrong = |v: &Value| Refusal::WrongType(field, v.clone());
    let list = value.as_array().ok_or_else(|| wrong(value))?;
    let one = |ids: &Vec<Value>| {
        let ids =
            ids.iter().map(|v| v.as_u64().and_then(|id| Token::try_from(id).ok()).ok_or_else(|| wrong(v)));
        Ok((ids.collect::<Result<Vec<Token>, Refusal>>()?, 0))
    };
    if list.first().is_some_and(Value::is_array) {
        let lists = list.iter().map(|v| v.as_array().ok_or_else(|| wrong(v)).and_then(one));
        return Ok((lists.collect::<Result<_, _>>()?, true));
    }
    Ok((vec![one(list)?], false))
}

/// The text of a message: a string, the text parts of a list, or nothing.
fn message_text(content: &Value) -> Result<String, Refusal> {
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            Ok(parts.iter().filter_map(|p| p["text"].as_str()).collect::<Vec<_>>().join("\n"))
        }
        other => Err(Refusal::WrongType("messages", other.clone())),
    }
}

fn native_sampling(params: Option<&Map<String, Value>>, dialect: Dialect) -> Result<Sampling, Refusal> {
    let none = Map::new();
    let params = params.unwrap_or(&none);
    if let Some(key) = params.keys().find(|key| !SAMPLING_PARAMS.contains(&key.as_str())) {
        return Err(Refusal::UnknownSampling(key.clone()));
    }
    sampling(|key| params.get(key), "max_new_tokens", dialect)
}

fn openai_sampling(body: &Value, dialect: Dialect) -> Result<Sampling, Refusal> {
    let key = if body["max_completion_tokens"].is_null() { "max_tokens" } else { "max_completion_tokens" };
    sampling(|key| body.get(key), key, dialect)
}

fn sampling<'a>(
    get: impl Fn(&str) -> Option<&'a Value>,
    max_key: &str,
    dialect: Dialect,
) -> Result<Sampling, Refusal> {
    let given = |key: &str| get(key).filter(|v| !v.is_null());
    if let Some(temperature) = given("temperature").filter(|v| v.as_f64().is_none_or(|t| t < 0.0)) {
        let stop = if dialect.is_rust() { "" } else { "." };
        let must = if dialect.is_049() { "non-negative" } else { "a non-negative finite number" };
        return Err(Refusal::Value(format!("temperature must be {must}, got {temperature}{stop}")));
    }
    let count = |key: &str| match given(key) {
        None => Ok(None),
        Some(v) => {
            v.as_u64().map(Some).ok_or_else(|| Refusal::Value(format!("{key} must be at least 0, got {v}.")))
        }
    };
    let samples = count("n")?.unwrap_or(1).max(1);
    if dialect.is_rust() && samples > 1 {
        return Err(Refusal::Value("n > 1 is not supported".to_owned()));
    }
    Ok(Sampling {
        max_new_tokens: count(max_key)?,
        ignore_eos: given("ignore_eos") == Some(&Value::Bool(true)),
        samples: usize::try_from(samples).unwrap_or(usize::MAX).min(MOST_ITEMS + 1),
    })
}

#[cfg(test)]
mod tests;
