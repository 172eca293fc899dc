//! Which conversation a body says it belongs to.
//!
//! SGLang's own bodies name it `session_id`, `conversation_id` or `session_params.id`, `/v1/responses` names it `conversation`
//! (a text, or an object with an `id`). Rule: the first of these, in this order, wherever they are in the body.
//! `previous_response_id` is another one at each turn and therefore none. Deliberately not here: what it is used for.

use std::borrow::Cow;

use super::json::{Cursor, Kind, Malformed, RawStr};

/// The names met so far, each at its place in the order.
#[derive(Default)]
pub(super) struct Session<'a>([Option<Cow<'a, str>>; 4]);

impl<'a> Session<'a> {
    /// Reads the member called `key` if it names a conversation; `false`: it does not, and nothing was read.
    pub(super) fn read(&mut self, key: &[u8], json: &mut Cursor<'a>) -> Result<bool, Malformed> {
        let place = match key {
            b"session_id" => 0,
            b"conversation_id" => 1,
            b"session_params" => 2,
            b"conversation" => 3,
            _ => return Ok(false),
        };
        self.0[place] = if json.peek()? == Kind::Object { id(json)? } else { text(json)? };
        Ok(true)
    }

    /// The name that counts.
    pub(super) fn name(self) -> Option<Cow<'a, str>> {
        self.0.into_iter().flatten().next()
    }
}

fn text<'a>(json: &mut Cursor<'a>) -> Result<Option<Cow<'a, str>>, Malformed> {
    Ok(json.str()?.map(RawStr::string).filter(|name| !name.is_empty()))
}

fn id<'a>(json: &mut Cursor<'a>) -> Result<Option<Cow<'a, str>>, Malformed> {
    let mut found = None;
    json.object(|key, json| {
        match key {
            b"id" => found = text(json)?,
            _ => drop(json.skip()?),
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use crate::wire::Endpoint;
    use crate::wire::call::look;

    #[test]
    fn a_conversation_is_found_under_each_of_its_names() {
        let session = |endpoint, body: &str| look(endpoint, body.as_bytes()).session.map(String::from);
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(
            session(Endpoint::Generate, r#"{"text":"x","session_params":{"rid":"r","id":"s\u0031"}}"#),
            named("s1")
        );
        assert_eq!(
            session(Endpoint::Chat, r#"{"conversation_id":"c","session_id":"s","messages":[]}"#),
            named("s")
        );
        assert_eq!(session(Endpoint::Responses, r#"{"conversation":{"id":"v"},"input":"x"}"#), named("v"));
        assert_eq!(session(Endpoint::Responses, r#"{"conversation":"v","input":"x"}"#), named("v"));
        for none in [
            r#"{"text":"x"}"#,
            r#"{"session_id":"","text":"x"}"#,
            r#"{"session_id":7,"session_params":[1],"text":"x"}"#,
        ] {
            assert_eq!(session(Endpoint::Generate, none), None, "{none}");
            assert!(
                look(Endpoint::Generate, none.as_bytes()).text.is_some(),
                "a strange one costs nothing else"
            );
        }
    }
}
