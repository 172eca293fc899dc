//! One JSON object of an answer: an SSE event, a plain body, or a member of a batch.
//!
//! Rule: read by presence of names; what is not asked for (logprobs, token ids, text itself) is stepped over. Error shapes
//! are those of the captured servers: `{"error":{..}}`, `{"error":"text"}`, `{"object":"error","message":..,"code":..}`,
//! `{"detail":..}`. The objects of `/v1/responses` are read by [`super::response`]. Deliberately not here: which object of an
//! answer counts, see `gather`.

use super::Endpoint;
use super::answer::Tokens;
use super::json::{Cursor, Kind, Malformed};
use super::meta_info::{Finish, MetaInfo};
use super::response;

/// An error a server described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorBody {
    /// Its code, if that is an HTTP status.
    pub(super) code: Option<u16>,
    pub(super) message: String,
}

/// What one object told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reply {
    /// It holds text that is not empty.
    pub(super) text: bool,
    /// Which member of a batch (or which sample) it is.
    pub(super) index: Option<u64>,
    /// The same of its choice; of several the last one's.
    pub(super) choice_index: Option<u64>,
    /// `meta_info`, of the object or its choices.
    pub(super) meta: Option<MetaInfo>,
    /// Number of `choices`; of `/v1/responses` items of output, or 1 for an event that brings a piece of one; of
    /// Triton 1 for text.
    pub(super) choices: u64,
    /// It is the last event of a `/v1/responses` stream.
    pub(super) last: bool,
    /// Why a choice ended; an abort before any other reason.
    pub(super) finish: Option<Finish>,
    /// `usage`.
    pub(super) usage: Tokens,
    pub(super) error: Option<ErrorBody>,
    /// `detail`, an error only under a status of 400 or more.
    pub(super) detail: Option<String>,
}

/// A plain body.
#[expect(
    clippy::large_enum_variant,
    reason = "one object is what nearly all bodies are, and it is taken apart at once"
)]
pub(super) enum Body {
    /// One object.
    One(Reply),
    /// The list of a batch.
    Batch(Vec<Reply>),
}

impl Reply {
    /// Reads an object that is all of `bytes`.
    pub(super) fn parse(endpoint: Endpoint, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut json = Cursor::new(bytes);
        if json.peek()? != Kind::Object {
            return Err(Malformed);
        }
        let reply = Self::read(endpoint, &mut json)?;
        json.end()?;
        Ok(reply)
    }

    /// Reads a `usage` object that `bytes` begin with.
    pub(super) fn usage_of(bytes: &[u8]) -> Result<Tokens, Malformed> {
        usage(&mut Cursor::new(bytes))
    }

    /// Reads a plain body: one object, or the list of a batch.
    pub(super) fn parse_body(endpoint: Endpoint, bytes: &[u8]) -> Result<Body, Malformed> {
        let mut json = Cursor::new(bytes);
        if json.peek()? != Kind::Array {
            return Self::parse(endpoint, bytes).map(Body::One);
        }
        let mut replies = Vec::new();
        json.array(|json| {
            let mut reply = Self::read(endpoint, json)?;
            reply.index = Some(replies.len() as u64);
            replies.push(reply);
            Ok(())
        })?;
        json.end()?;
        Ok(Body::Batch(replies))
    }

    fn read(endpoint: Endpoint, json: &mut Cursor<'_>) -> Result<Self, Malformed> {
        if endpoint == Endpoint::Responses {
            return response::read(json);
        }
        let generate = endpoint == Endpoint::Generate;
        let mut reply = Self::default();
        let mut bare = ErrorBody::default();
        let mut is_error = false;
        json.object(|key, json| {
            match key {
                b"text" if generate => reply.text = some_text(json)?,
                // Nothing else tells of a token.
                b"text_output" if endpoint == Endpoint::Triton => {
                    reply.text = some_text(json)?;
                    reply.choices = u64::from(reply.text);
                }
                b"index" => reply.index = json.u64()?,
                b"meta_info" => reply.meta = Some(MetaInfo::read(json)?),
                b"choices" if !generate => json.array(|json| reply.choice(json))?,
                b"usage" => reply.usage = usage(json)?,
                b"error" => reply.error = error(json)?,
                b"object" => is_error = json.str()?.is_some_and(|s| s.text().as_ref() == b"error"),
                b"message" => bare.message = text(json)?,
                b"code" => bare.code = code(json)?,
                b"detail" => reply.detail = Some(text(json)?),
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        if is_error && reply.error.is_none() {
            reply.error = Some(bare);
        }
        Ok(reply)
    }

    fn choice(&mut self, json: &mut Cursor<'_>) -> Result<(), Malformed> {
        let mut finish = None;
        let mut meta = None;
        json.object(|key, json| {
            match key {
                b"text" => self.text |= some_text(json)?,
                b"delta" | b"message" => self.text |= message_text(json)?,
                b"finish_reason" => finish = Finish::read(json)?,
                b"index" => self.choice_index = json.u64()?,
                b"meta_info" => meta = Some(MetaInfo::read(json)?),
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        self.choices += 1;
        self.finish = worse(self.finish.take(), finish);
        self.meta = match (self.meta.take(), meta) {
            (Some(a), Some(b)) => Some(a.merged(b)),
            (a, b) => a.or(b),
        };
        Ok(())
    }
}

/// An abort before any other reason, else the first one given.
pub(super) fn worse(a: Option<Finish>, b: Option<Finish>) -> Option<Finish> {
    match b {
        Some(b) if b.kind == "abort" => Some(b),
        b => a.or(b),
    }
}

pub(super) fn some_text(json: &mut Cursor<'_>) -> Result<bool, Malformed> {
    Ok(json.str()?.is_some_and(|s| !s.is_empty()))
}

fn message_text(json: &mut Cursor<'_>) -> Result<bool, Malformed> {
    let mut found = false;
    json.object(|key, json| {
        match key {
            b"content" | b"reasoning_content" => found |= some_text(json)?,
            _ => drop(json.skip()?),
        }
        Ok(())
    })?;
    Ok(found)
}

/// `usage`, with the names of `/v1/responses` too.
pub(super) fn usage(json: &mut Cursor<'_>) -> Result<Tokens, Malformed> {
    let mut tokens = Tokens::default();
    json.object(|key, json| {
        match key {
            b"prompt_tokens" | b"input_tokens" => tokens.prompt_tokens = json.u64()?,
            b"completion_tokens" | b"output_tokens" => tokens.completion_tokens = json.u64()?,
            b"prompt_tokens_details" | b"input_tokens_details" => json.object(|key, json| {
                match key {
                    b"cached_tokens" => tokens.cached_tokens = json.u64()?,
                    _ => drop(json.skip()?),
                }
                Ok(())
            })?,
            _ => drop(json.skip()?),
        }
        Ok(())
    })?;
    Ok(tokens)
}

/// The value of `error`: a text or an object; anything else (null above all) is no error.
pub(super) fn error(json: &mut Cursor<'_>) -> Result<Option<ErrorBody>, Malformed> {
    match json.peek()? {
        Kind::String => Ok(Some(ErrorBody { code: None, message: text(json)? })),
        Kind::Object => {
            let mut body = ErrorBody::default();
            json.object(|key, json| {
                match key {
                    b"message" => body.message = text(json)?,
                    b"code" => body.code = code(json)?,
                    _ => drop(json.skip()?),
                }
                Ok(())
            })?;
            Ok(Some(body))
        }
        _ => json.skip().map(|_| None),
    }
}

pub(super) fn text(json: &mut Cursor<'_>) -> Result<String, Malformed> {
    Ok(json.str()?.map(|s| s.string().into_owned()).unwrap_or_default())
}

pub(super) fn code(json: &mut Cursor<'_>) -> Result<Option<u16>, Malformed> {
    let number = if json.peek()? == Kind::String { text(json)?.parse().ok() } else { json.u64()? };
    Ok(number.and_then(|n| u16::try_from(n).ok()).filter(|n| (100..600).contains(n)))
}
