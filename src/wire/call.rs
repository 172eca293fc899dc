//! A look at a request body: what routing and the trace need, without rebuilding it.
//!
//! The routing text is sglang-router's (0.3.2): `/generate` `text`, else `input_ids` as decimals; chat: the contents of the
//! messages and an assistant's `reasoning_content`; completions: `prompt`; several pieces joined by one space. Rule: the
//! body is borrowed, never changed; a wrong type in one field costs that field only; of duplicate keys the last counts, as
//! in Python. Deliberately not here: validation, which is the worker's; images and tools, which are stepped over.

use std::borrow::Cow;

use super::Endpoint;
use super::json::{Cursor, Kind, Malformed};

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
    /// `sampling_params.max_new_tokens` (of a list the first), or `max_tokens`, else `max_completion_tokens`.
    pub max_new_tokens: Option<u64>,
    /// Prompts in the body; 0 if none was found.
    pub prompts: u32,
    /// `n`: answers asked for per prompt.
    pub samples_per_prompt: u32,
    /// Routing text in UTF-8 as sent; absent if no prompt was found. Borrowed when it is one string without escapes.
    pub text: Option<Cow<'a, [u8]>>,
}

impl Default for Look<'_> {
    fn default() -> Self {
        Self {
            parsed: Parsed::NotLooked,
            model: None,
            stream: false,
            rid: None,
            max_new_tokens: None,
            prompts: 0,
            samples_per_prompt: 1,
            text: None,
        }
    }
}

impl Look<'_> {
    /// The answer holds several members, interleaved if it is a stream.
    pub fn multiple(&self) -> bool {
        self.prompts > 1 || self.samples_per_prompt > 1
    }
}

/// Looks at the body of a request to `endpoint`.
pub fn look(endpoint: Endpoint, body: &[u8]) -> Look<'_> {
    let nothing = |parsed| Look { parsed, ..Look::default() };
    if !endpoint.generates() {
        return nothing(Parsed::NotLooked);
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return nothing(Parsed::Empty);
    }
    let mut fields = Fields { samples: None, ..Fields::default() };
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
    sampling: Sampling,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    samples: Option<u64>,
    prompt: Prompt<'a>,
    input_ids: Prompt<'a>,
}

#[derive(Default)]
struct Sampling {
    max_new_tokens: Option<u64>,
    n: Option<u64>,
}

impl<'a> Fields<'a> {
    fn read(&mut self, endpoint: Endpoint, json: &mut Cursor<'a>) -> Result<(), Malformed> {
        let openai = endpoint != Endpoint::Generate;
        json.object(|key, json| {
            match key {
                b"model" => self.model = json.str()?.map(super::json::RawStr::string),
                b"stream" => self.stream = json.bool()? == Some(true),
                b"rid" => self.rid = first_string(json)?,
                b"text" if !openai => self.prompt = Prompt::read(json)?,
                b"input_ids" if !openai => self.input_ids = Prompt::read(json)?,
                b"sampling_params" if !openai => self.sampling = Sampling::read(json)?,
                b"prompt" if endpoint == Endpoint::Completions => self.prompt = Prompt::read(json)?,
                b"messages" if endpoint == Endpoint::Chat => {
                    self.prompt = Prompt::of_messages(json)?;
                }
                b"n" if openai => self.samples = json.u64()?,
                b"max_tokens" if openai => self.max_tokens = json.u64()?,
                b"max_completion_tokens" if openai => self.max_completion_tokens = json.u64()?,
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        json.end()
    }

    fn into_look(self) -> Look<'a> {
        let prompt = if self.prompt.prompts > 0 { self.prompt } else { self.input_ids };
        // SGLang: `max_tokens or max_completion_tokens`, so that 0 counts as absent.
        let max_tokens = self.max_tokens.filter(|&n| n > 0).or(self.max_completion_tokens);
        let samples = self.samples.or(self.sampling.n).unwrap_or(1);
        Look {
            parsed: Parsed::Json,
            model: self.model,
            stream: self.stream,
            rid: self.rid,
            max_new_tokens: self.sampling.max_new_tokens.or(max_tokens),
            prompts: prompt.prompts,
            samples_per_prompt: u32::try_from(samples.max(1)).unwrap_or(u32::MAX),
            text: prompt.text.finish(),
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

/// Routing text and how many prompts it stands for.
#[derive(Default)]
struct Prompt<'a> {
    text: Joined<'a>,
    prompts: u32,
}

impl<'a> Prompt<'a> {
    /// A string, token ids, or a list of either.
    fn read(json: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let mut prompt = Self::default();
        match json.peek()? {
            Kind::String => {
                prompt.piece(json)?;
                prompt.prompts = 1;
            }
            Kind::Array if prompt.text.counts(json) => prompt.prompts = 1,
            Kind::Array => {
                let mut ids = false;
                json.array(|json| {
                    match json.peek()? {
                        Kind::String => {
                            prompt.piece(json)?;
                            prompt.prompts += 1;
                        }
                        Kind::Array => {
                            if !prompt.text.counts(json) {
                                json.array(|json| prompt.id(json))?;
                            }
                            prompt.prompts += 1;
                        }
                        Kind::Number => {
                            prompt.id(json)?;
                            ids = true;
                        }
                        _ => drop(json.skip()?),
                    }
                    Ok(())
                })?;
                prompt.prompts += u32::from(ids);
            }
            _ => drop(json.skip()?),
        }
        Ok(prompt)
    }

    fn of_messages(json: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let mut prompt = Self::default();
        let listed = json.peek()? == Kind::Array;
        json.array(|json| prompt.message(json))?;
        prompt.prompts = u32::from(listed);
        Ok(prompt)
    }

    fn message(&mut self, json: &mut Cursor<'a>) -> Result<(), Malformed> {
        let mut content = Joined::default();
        let mut reasoning = None;
        let mut assistant = false;
        json.object(|key, json| {
            match key {
                b"role" => {
                    assistant = json.str()?.is_some_and(|role| role.text().as_ref() == b"assistant");
                }
                b"content" => content = content_text(json)?,
                b"reasoning_content" => reasoning = json.str()?,
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        if let Some(content) = content.finish() {
            self.text.add(content);
        }
        if let Some(reasoning) = reasoning.filter(|_| assistant) {
            self.text.add(reasoning.text());
        }
        Ok(())
    }

    fn piece(&mut self, json: &mut Cursor<'a>) -> Result<(), Malformed> {
        if let Some(piece) = json.str()? {
            self.text.add(piece.text());
        }
        Ok(())
    }

    fn id(&mut self, json: &mut Cursor<'a>) -> Result<(), Malformed> {
        if let Some(digits) = json.number()? {
            self.text.add(Cow::Borrowed(digits.as_bytes()));
        }
        Ok(())
    }
}

/// A message's `content`: a string, or parts of which those of type `text` count. A list without text is empty text.
fn content_text<'a>(json: &mut Cursor<'a>) -> Result<Joined<'a>, Malformed> {
    let mut text = Joined::default();
    if json.peek()? != Kind::Array {
        if let Some(content) = json.str()? {
            text.add(content.text());
        }
        return Ok(text);
    }
    json.array(|json| {
        let mut is_text = true;
        let mut part = None;
        json.object(|key, json| {
            match key {
                b"type" => {
                    is_text = json.str()?.is_some_and(|kind| kind.text().as_ref() == b"text");
                }
                b"text" => part = json.str()?,
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        if let Some(part) = part.filter(|_| is_text) {
            text.add(part.text());
        }
        Ok(())
    })?;
    if matches!(text, Joined::None) {
        text.add(Cow::Borrowed(b""));
    }
    Ok(text)
}

/// Pieces joined by one space; one piece stays borrowed.
#[derive(Default)]
enum Joined<'a> {
    #[default]
    None,
    One(Cow<'a, [u8]>),
    Many(Vec<u8>),
}

impl<'a> Joined<'a> {
    fn add(&mut self, piece: Cow<'a, [u8]>) {
        match self {
            Self::None => *self = Self::One(piece),
            Self::One(first) => *self = Self::Many([first, &b" "[..], &piece].concat()),
            Self::Many(text) => {
                text.push(b' ');
                text.extend_from_slice(&piece);
            }
        }
    }

    /// Adds a list of token ids if it is nothing else; false, with nothing done, otherwise.
    fn counts(&mut self, json: &mut Cursor<'a>) -> bool {
        let mut text = match std::mem::take(self) {
            Self::None => Vec::new(),
            Self::One(text) => text.into_owned(),
            Self::Many(text) => text,
        };
        let done = json.counts(&mut text);
        if !text.is_empty() {
            *self = Self::Many(text);
        }
        done
    }

    fn finish(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::None => None,
            Self::One(text) => Some(text),
            Self::Many(text) => Some(Cow::Owned(text)),
        }
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
