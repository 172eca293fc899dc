//! Turns of sessions: what a later turn says, and when.
//!
//! Rule: a turn leaves so long after the answer before it as was planned, and never before that answer; it says all that was
//! said before and the answer as it came. Deliberately not here: which turns there are (`dataset`), sending (`arrivals`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::ahead::Made;
use super::backend::{Backend, Shape};
use super::plan::Plan;
use crate::clock::Clock;

/// A turn that is due.
#[derive(Debug)]
pub(super) struct Turned {
    pub index: usize,
    pub scheduled_ns: u64,
    /// Its body, made while its user thought.
    pub body: Made,
    /// What was said so far, its own question last.
    pub said: Vec<String>,
}

/// Makes the turn `index` after an answer that ended at `ended_ns`, and waits until it is due.
pub(super) async fn turn(
    plan: Arc<Plan>,
    index: usize,
    mut said: Vec<String>,
    (start_ns, ended_ns): (u64, u64),
    clock: Clock,
) -> Turned {
    let after = plan.prompts.after(index);
    let (think_ns, not_before_ns) = after.map_or((0, 0), |a| (a.think_ns, a.not_before_ns));
    let scheduled_ns = (ended_ns + think_ns).max(start_ns + not_before_ns);
    let body = match plan.prompts.question(index).filter(|_| after.is_some_and(|a| a.carries_reply)) {
        Some(question) => {
            said.push(question.clone());
            plan.body_saying(index, &said)
        }
        None => plan.body(index),
    };
    let left_ns = scheduled_ns.saturating_sub(clock.mono_ns());
    tokio::time::sleep(Duration::from_nanos(left_ns)).await;
    Turned { index, scheduled_ns, body, said }
}

/// The text of a whole answer, streamed or not; `None` if it cannot be read.
pub(super) fn reply_text(backend: Backend, body: &Bytes) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    if text.trim_start().starts_with('{') {
        return piece(backend, &serde_json::from_str(text).ok()?);
    }
    let mut said = String::new();
    for data in text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim) {
        if data == "[DONE]" || data.is_empty() {
            continue;
        }
        let Some(piece) = piece(backend, &serde_json::from_str(data).ok()?) else { continue };
        // Texts of /generate hold all so far, unless the server was started with --stream-output.
        if backend.shape() == Shape::Native && piece.starts_with(&said) {
            said = piece;
        } else {
            said.push_str(&piece);
        }
    }
    Some(said)
}

fn piece(backend: Backend, event: &Value) -> Option<String> {
    let choice = &event["choices"][0];
    let text = match backend.shape() {
        Shape::Native => &event["text"],
        Shape::Triton => &event["text_output"],
        Shape::Completions => &choice["text"],
        Shape::Chat if choice["delta"].is_object() => &choice["delta"]["content"],
        Shape::Chat => &choice["message"]["content"],
    };
    text.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(backend: Backend, body: &str) -> Option<String> {
        reply_text(backend, &Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn answers_of_each_shape_are_put_together() {
        let whole = "data: {\"text\":\"a\"}\n\ndata: {\"text\":\"a b\"}\n\ndata: [DONE]\n\n";
        assert_eq!(reply(Backend::Native, whole).as_deref(), Some("a b"));
        let parts = "data: {\"text\":\"a\"}\n\ndata: {\"text\":\" b\"}\n\n";
        assert_eq!(reply(Backend::Native, parts).as_deref(), Some("a b"));
        assert_eq!(reply(Backend::Native, "{\"text\":\"x\"}").as_deref(), Some("x"));
        let chat = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
            data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[],\"usage\":{}}\n\n";
        assert_eq!(reply(Backend::Chat, chat).as_deref(), Some("hi"));
        assert_eq!(reply(Backend::Completions, "{\"choices\":[{\"text\":\"y\"}]}").as_deref(), Some("y"));
        assert_eq!(reply(Backend::Completions, "{\"choices\""), None);
        let pieces = "data: {\"text_output\":\"a\"}\n\ndata: {\"text_output\":\"ab\"}\n\n";
        assert_eq!(reply(Backend::Triton, pieces).as_deref(), Some("aab"));
    }
}
