//! A look at a request body: what routing and the trace need, without rebuilding it.
//!
//! The routing text is sglang-router's (0.3.2): `/generate` `text`, else `input_ids` as decimals; chat: the contents of the
//! messages and an assistant's `reasoning_content`; completions: `prompt`; several pieces joined by one space. And of those
//! that sglang-router looks at less closely: responses: `instructions`, then `input`; embeddings and classify: `input`, or as
//! `/generate`; rerank: `query`, then `documents`. Rule: the body is borrowed, never changed; a wrong type in one field costs
//! that field only; of duplicate keys the last counts, as in Python. Deliberately not here: validation, which is the worker's;
//! images and tools, which are stepped over in the routing text. The engine text (`engine_text`) is made where it is asked for.

use std::borrow::Cow;

use super::Endpoint;
use super::engine_text::{self, Rendering};
use super::json::{Cursor, Kind, Malformed};
use super::prompt::Prompt;
use super::session::Session;

/// What became of the look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parsed {
    /// Well-formed JSON (whether or not it has the right fields).
    Json,
    /// Not JSON, or nested deeper than 1024: nothing is known about it.
    Malformed,
    /// No body, or only white space.
    Empty,
    /// The endpoint's body is not looked at.
    #[default]
    NotLooked,
}

impl Parsed {
    /// The word for the trace's `body_look`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Malformed => "malformed",
            Self::Empty => "empty",
            Self::NotLooked => "not_json_endpoint",
        }
    }
}

/// What a body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look<'a> {
    /// Whether there was JSON at all.
    pub parsed: Parsed,
    /// `model`.
    pub model: Option<Cow<'a, str>>,
    /// `stream` is `true`.
    pub stream: bool,
    /// `rid`; of a list the first.
    pub rid: Option<String>,
    /// The conversation that the body says it belongs to.
    pub session: Option<Cow<'a, str>>,
    /// `sampling_params.max_new_tokens` (of a list the first), or `max_tokens`, else `max_completion_tokens`, or of
    /// `/v1/responses` `max_output_tokens`.
    pub max_new_tokens: Option<u64>,
    /// Prompts in the body, of `/v1/rerank` its documents; 0 if none was found.
    pub prompts: u32,
    /// `n`: answers asked for per prompt.
    pub samples_per_prompt: u32,
    /// Routing text in UTF-8 as sent; absent if no prompt was found. Borrowed when it is one string without escapes.
    pub text: Option<Cow<'a, [u8]>>,
    /// Engine text, where it was asked for and is not the routing text.
    pub engine_text: Option<Vec<u8>>,
    /// Token ids in the prompt, where it is one list of them: its length as the engine counts.
    pub prompt_ids: Option<u64>,
}

impl Default for Look<'_> {
    fn default() -> Self {
        Self {
            parsed: Parsed::NotLooked,
            model: None,
            stream: false,
            rid: None,
            session: None,
            max_new_tokens: None,
            prompts: 0,
            samples_per_prompt: 1,
            text: None,
            engine_text: None,
            prompt_ids: None,
        }
    }
}

impl Look<'_> {
    /// The engine text is nothing but token ids of four bytes each.
    pub fn is_counted(&self) -> bool {
        self.engine_text
            .as_ref()
            .is_some_and(|text| self.prompt_ids.is_some_and(|ids| text.len() as u64 == ids.saturating_mul(4)))
    }

    /// The answer holds several members, interleaved if it is a stream.
    pub fn multiple(&self) -> bool {
        self.prompts > 1 || self.samples_per_prompt > 1
    }
}

/// Looks at the body of a request to `endpoint`, without making its engine text.
pub fn look(endpoint: Endpoint, body: &[u8]) -> Look<'_> {
    look_for(endpoint, body, false)
}

/// The same; with its engine text, where that is another than the routing text, if it is asked for.
pub fn look_for(endpoint: Endpoint, body: &[u8], with_engine_text: bool) -> Look<'_> {
    let nothing = |parsed| Look { parsed, ..Look::default() };
    if !endpoint.has_prompt() {
        return nothing(Parsed::NotLooked);
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return nothing(Parsed::Empty);
    }
    let own_cache = Rendering::new(with_engine_text);
    let mut fields = Fields { with_engine_text, own_cache, ..Fields::default() };
    match fields.read(endpoint, &mut Cursor::new(body)) {
        Ok(()) => fields.into_look(),
        Err(Malformed) => nothing(Parsed::Malformed),
    }
}

/// The fields as met, before it is known which of them count.
#[derive(Default)]
struct Fields<'a> {
    model: Option<Cow<'a, str>>,
    stream: bool,
    rid: Option<String>,
    session: Session<'a>,
    sampling: Sampling,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    samples: Option<u64>,
    /// What stands before the prompt wherever it is in the body: `instructions`, `query`.
    head: Prompt<'a>,
    /// `input`, `prompt`, `messages` or `documents`, by endpoint.
    prompt: Prompt<'a>,
    text: Prompt<'a>,
    input_ids: Prompt<'a>,
    with_engine_text: bool,
    /// What gives the prompt a cache of its own: adapters, salts, and images beside the text.
    own_cache: Rendering,
    tools: Option<&'a [u8]>,
}

#[derive(Default)]
struct Sampling {
    max_new_tokens: Option<u64>,
    n: Option<u64>,
}

impl<'a> Fields<'a> {
    fn read(&mut self, endpoint: Endpoint, json: &mut Cursor<'a>) -> Result<(), Malformed> {
        let sampled = endpoint == Endpoint::Generate;
        let native = matches!(endpoint, Endpoint::Generate | Endpoint::Embeddings | Endpoint::Classify);
        let openai = matches!(endpoint, Endpoint::Chat | Endpoint::Completions);
        json.object(|key, json| {
            match key {
                b"model" => self.model = json.str()?.map(super::json::RawStr::string),
                b"stream" => self.stream = json.bool()? == Some(true),
                b"rid" => self.rid = first_string(json)?,
                b"text" if native => self.text = Prompt::read(json)?,
                b"input_ids" if native => self.input_ids = Prompt::read(json)?,
                b"sampling_params" if sampled => self.sampling = Sampling::read(json)?,
                b"lora_path" | b"cache_salt" | b"extra_key" | b"image_data" | b"video_data"
                | b"audio_data"
                    if self.with_engine_text =>
                {
                    let value = json.skip()?;
                    if value != b"null" {
                        self.own_cache.raw(key);
                        self.own_cache.raw(value);
                    }
                }
                b"n" if openai => self.samples = json.u64()?,
                b"max_tokens" if openai => self.max_tokens = json.u64()?,
                b"max_completion_tokens" if openai => self.max_completion_tokens = json.u64()?,
                b"max_output_tokens" if endpoint == Endpoint::Responses => self.max_tokens = json.u64()?,
                key if self.session.read(key, json)? => (),
                key if endpoint != Endpoint::Generate => self.prompt(endpoint, key, json)?,
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        json.end()
    }

    /// The members that hold the prompt in the formats that are not SGLang's own.
    fn prompt(&mut self, endpoint: Endpoint, key: &[u8], json: &mut Cursor<'a>) -> Result<(), Malformed> {
        match (endpoint, key) {
            (Endpoint::Chat, b"messages") => self.prompt = Prompt::of_messages(json, self.with_engine_text)?,
            (Endpoint::Chat | Endpoint::Responses, b"tools") => {
                self.tools = Some(json.skip()?).filter(|tools| *tools != b"null");
            }
            (Endpoint::Completions, b"prompt")
            | (Endpoint::Embeddings | Endpoint::Classify, b"input")
            | (Endpoint::Rerank, b"documents") => self.prompt = Prompt::read(json)?,
            (Endpoint::Responses, b"input") => self.prompt = Prompt::of_items(json, self.with_engine_text)?,
            (Endpoint::Responses, b"instructions") | (Endpoint::Rerank, b"query") => {
                self.head = Prompt::read(json)?;
            }
            _ => drop(json.skip()?),
        }
        Ok(())
    }

    fn into_look(self) -> Look<'a> {
        let found = [self.prompt, self.text, self.input_ids].into_iter().find(|prompt| prompt.prompts > 0);
        let mut prompt = self.head.before(found.unwrap_or_default());
        let text = std::mem::take(&mut prompt.text).finish();
        let is_ids = prompt.is_ids && prompt.prompts == 1;
        let ids = |text: &[u8]| text.split(|&byte| byte == b' ').count() as u64;
        let prompt_ids = text.as_deref().filter(|_| is_ids).map(ids);
        // A batch is one text, the routing text: an engine sees none of it alone.
        let engine_text = match (text.as_deref(), prompt.engine.into_bytes()) {
            _ if !self.with_engine_text || prompt.prompts != 1 => None,
            (_, Some(rendered)) => Some(rendered),
            (Some(text), None) if is_ids => Some(engine_text::ids(text)),
            (Some(text), None) if !self.own_cache.is_empty() => Some(text.to_vec()),
            _ => None,
        };
        let engine_text =
            engine_text.map(|text| engine_text::behind(self.own_cache, self.tools.unwrap_or_default(), text));
        // SGLang: `max_tokens or max_completion_tokens`, so that 0 counts as absent.
        let max_tokens = self.max_tokens.filter(|&n| n > 0).or(self.max_completion_tokens);
        let samples = self.samples.or(self.sampling.n).unwrap_or(1);
        Look {
            parsed: Parsed::Json,
            model: self.model,
            stream: self.stream,
            rid: self.rid,
            session: self.session.name(),
            max_new_tokens: self.sampling.max_new_tokens.or(max_tokens),
            prompts: prompt.prompts,
            samples_per_prompt: u32::try_from(samples.max(1)).unwrap_or(u32::MAX),
            text,
            engine_text,
            prompt_ids,
        }
    }
}

impl Sampling {
    /// One object, or a list with one object a prompt, of which the first speaks for all.
    fn read(json: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let mut first = None;
        if json.peek()? == Kind::Array {
            json.array(|json| {
                let one = Self::of_object(json)?;
                first.get_or_insert(one);
                Ok(())
            })?;
        } else {
            first = Some(Self::of_object(json)?);
        }
        Ok(first.unwrap_or_default())
    }

    fn of_object(json: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let mut sampling = Self::default();
        json.object(|key, json| {
            match key {
                b"max_new_tokens" => sampling.max_new_tokens = json.u64()?,
                b"n" => sampling.n = json.u64()?,
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        Ok(sampling)
    }
}

fn first_string(json: &mut Cursor<'_>) -> Result<Option<String>, Malformed> {
    if json.peek()? != Kind::Array {
        return Ok(json.str()?.map(|s| s.string().into_owned()));
    }
    let mut first = None;
    let mut index = 0;
    json.array(|json| {
        let value = json.str()?;
        if index == 0 {
            first = value.map(|s| s.string().into_owned());
        }
        index += 1;
        Ok(())
    })?;
    Ok(first)
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
