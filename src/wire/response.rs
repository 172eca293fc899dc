//! The objects of `/v1/responses`: the answer, and the events of its stream.
//!
//! A stream names each event in `type`, wherever that stands in the object. Pieces of output end in `.delta`; the last event is
//! `response.completed`, `response.incomplete` or `response.failed` and holds the whole answer with its `usage`; there is no
//! `[DONE]`. Rule: as in `reply`. Deliberately not here: the items of the output one by one.

use super::json::{Cursor, Malformed};
use super::meta_info::Finish;
use super::reply::{ErrorBody, Reply, code, error, some_text, text, usage};

/// Reads an answer or an event.
pub(super) fn read(json: &mut Cursor<'_>) -> Result<Reply, Malformed> {
    let mut reply = Reply::default();
    let mut kind = Vec::new();
    let mut bare = ErrorBody::default();
    let mut delta = false;
    let mut is_error = false;
    json.object(|key, json| {
        match key {
            b"type" => kind = json.str()?.map(|s| s.text().into_owned()).unwrap_or_default(),
            b"delta" => delta = some_text(json)?,
            b"response" => json.object(|key, json| member(&mut reply, key, json))?,
            b"object" => is_error = json.str()?.is_some_and(|s| s.text().as_ref() == b"error"),
            b"message" => bare.message = text(json)?,
            b"code" => bare.code = code(json)?,
            b"detail" => reply.detail = Some(text(json)?),
            key => member(&mut reply, key, json)?,
        }
        Ok(())
    })?;
    if kind.ends_with(b".delta") {
        reply.choices = 1;
        reply.text = delta && kind.ends_with(b"text.delta");
    }
    reply.last = matches!(&kind[..], b"response.completed" | b"response.incomplete" | b"response.failed");
    if !kind.is_empty() && !reply.last {
        // The answer in an event before the last says how it stands, not how it ended.
        reply.finish = None;
    }
    if (is_error || kind == b"error") && reply.error.is_none() {
        reply.error = Some(bare);
    }
    Ok(reply)
}

/// A member of the answer.
fn member(reply: &mut Reply, key: &[u8], json: &mut Cursor<'_>) -> Result<(), Malformed> {
    match key {
        b"status" => {
            let kind = json.str()?.map(|s| s.string().into_owned());
            reply.finish = kind.map(|kind| Finish { kind: kind.into(), ..Finish::default() });
        }
        b"output" => json.array(|json| {
            reply.choices += 1;
            reply.text |= item_text(json)?;
            Ok(())
        })?,
        b"usage" => reply.usage = usage(json)?,
        b"error" => reply.error = error(json)?,
        _ => drop(json.skip()?),
    }
    Ok(())
}

/// An item of the output holds text that is not empty.
fn item_text(json: &mut Cursor<'_>) -> Result<bool, Malformed> {
    let mut found = false;
    json.object(|key, json| {
        if !matches!(key, b"content" | b"summary") {
            return json.skip().map(drop);
        }
        json.array(|json| {
            json.object(|key, json| {
                if key == b"text" {
                    found |= some_text(json)?;
                    return Ok(());
                }
                json.skip().map(drop)
            })
        })
    })?;
    Ok(found)
}
