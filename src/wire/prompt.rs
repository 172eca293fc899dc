//! The texts of a request body: the routing text, its pieces in order, joined by one space; and where that is another one, the
//! engine text (`engine_text`).
//!
//! Rule: one piece without escapes stays borrowed; what is not text (images, tools) is stepped over in the routing text.
//! Deliberately not here: which member of a body is the prompt, see `call`.

use std::borrow::Cow;

use super::engine_text::Rendering;
use super::json::{Cursor, Kind, Malformed, RawStr};

/// Routing text, how many prompts it stands for, and the engine text.
#[derive(Default)]
pub(super) struct Prompt<'a> {
    pub(super) text: Joined<'a>,
    pub(super) prompts: u32,
    /// The text is the decimals of token ids.
    pub(super) is_ids: bool,
    /// Of messages and items.
    pub(super) engine: Rendering,
}

impl<'a> Prompt<'a> {
    /// A string, token ids, or a list of either, or of objects with a `text`.
    pub(super) fn read(json: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let mut prompt = Self::default();
        match json.peek()? {
            Kind::String => {
                prompt.piece(json)?;
                prompt.prompts = 1;
            }
            Kind::Array if prompt.text.counts(json) => (prompt.prompts, prompt.is_ids) = (1, true),
            Kind::Array => {
                let mut ids = false;
                json.array(|json| {
                    match json.peek()? {
                        Kind::String => {
                            prompt.piece(json)?;
                            prompt.prompts += 1;
                            prompt.is_ids = false;
                        }
                        Kind::Array => {
                            prompt.is_ids = prompt.text.counts(json);
                            if !prompt.is_ids {
                                json.array(|json| prompt.id(json))?;
                            }
                            prompt.prompts += 1;
                        }
                        Kind::Number => {
                            prompt.id(json)?;
                            ids = true;
                        }
                        Kind::Object => {
                            prompt.text_of(json)?;
                            prompt.prompts += 1;
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

    /// The messages of a chat; with their engine text if it is asked for.
    pub(super) fn of_messages(json: &mut Cursor<'a>, with_engine: bool) -> Result<Self, Malformed> {
        let mut prompt = Self { engine: Rendering::new(with_engine), ..Self::default() };
        let listed = json.peek()? == Kind::Array;
        json.array(|json| prompt.message(json))?;
        prompt.prompts = u32::from(listed);
        Ok(prompt)
    }

    /// The `input` of `/v1/responses`: a string, or items, of which messages have `content` and tools `output`.
    pub(super) fn of_items(json: &mut Cursor<'a>, with_engine: bool) -> Result<Self, Malformed> {
        if json.peek()? != Kind::Array {
            return Self::read(json);
        }
        let mut prompt = Self { prompts: 1, engine: Rendering::new(with_engine), ..Self::default() };
        json.array(|json| {
            prompt.engine.begin();
            json.object(|key, json| {
                match key {
                    b"content" | b"output" => {
                        if let Some(text) = content_text(json, &mut prompt.engine)?.finish() {
                            prompt.text.add(text);
                        }
                    }
                    b"role" | b"name" | b"arguments" => prompt.engine.raw(json.skip()?),
                    _ => drop(json.skip()?),
                }
                Ok(())
            })
        })?;
        Ok(prompt)
    }

    /// This one's text before that of `prompt`, which says how many there are, if there are any.
    pub(super) fn before(mut self, prompt: Self) -> Self {
        let head = self.text.finish();
        self.engine = prompt.engine.after(head.as_deref());
        self.is_ids = prompt.is_ids && head.is_none();
        self.text = head.map_or(Joined::None, Joined::One);
        if let Some(text) = prompt.text.finish() {
            self.text.add(text);
        }
        if prompt.prompts > 0 {
            self.prompts = prompt.prompts;
        }
        self
    }

    fn text_of(&mut self, json: &mut Cursor<'a>) -> Result<(), Malformed> {
        json.object(|key, json| if key == b"text" { self.piece(json) } else { json.skip().map(drop) })
    }

    fn message(&mut self, json: &mut Cursor<'a>) -> Result<(), Malformed> {
        let mut content = Joined::default();
        let mut reasoning = None;
        let mut assistant = false;
        self.engine.begin();
        json.object(|key, json| {
            match key {
                b"role" => {
                    let role = json.str()?.map(RawStr::text).unwrap_or_default();
                    assistant = role.as_ref() == b"assistant";
                    self.engine.raw(&role);
                }
                b"content" => content = content_text(json, &mut self.engine)?,
                b"reasoning_content" => reasoning = json.str()?,
                b"tool_calls" | b"tool_call_id" => self.engine.raw(json.skip()?),
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

/// A message's `content`: a string, or parts of which those of type `text` count (of `/v1/responses` `input_text`,
/// `output_text`, `reasoning_text`). A list without text is empty text. The engine sees all parts.
fn content_text<'a>(json: &mut Cursor<'a>, engine: &mut Rendering) -> Result<Joined<'a>, Malformed> {
    let mut text = Joined::default();
    if json.peek()? != Kind::Array {
        if let Some(content) = json.str()? {
            let content = content.text();
            engine.text(&content);
            text.add(content);
        }
        return Ok(text);
    }
    json.array(|json| {
        let mut is_text = true;
        let mut part = None;
        let place = json.place();
        json.object(|key, json| {
            match key {
                b"type" => {
                    is_text = json.str()?.is_some_and(|kind| kind.text().ends_with(b"text"));
                }
                b"text" => part = json.str()?,
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        match part.filter(|_| is_text) {
            Some(part) => {
                let part = part.text();
                engine.text(&part);
                text.add(part);
            }
            None => engine.raw(json.since(place)),
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
pub(super) enum Joined<'a> {
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

    pub(super) fn finish(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::None => None,
            Self::One(text) => Some(text),
            Self::Many(text) => Some(Cow::Owned(text)),
        }
    }
}
