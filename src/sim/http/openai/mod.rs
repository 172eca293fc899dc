//! /`v1/chat/completions` and /v1/completions.
//!
//! Rule: keys and order of the captured answers of each dialect; the role event of a chat comes with the first token, not
//! before. The Rust front end's own `cmpl-` shape is kept for completions; its other chat shape (seen where a client asks for
//! `return_meta_info`, which it ignores) is not: chat answers have its usual one.

mod shape;

use http::Response;
use serde_json::Value;

use super::Exchange;
use super::ask::{self, Ask};
use super::call::Call;
use super::problem::{self, Family, Refusal};
use super::reply::{Cut, DONE, Piece, SimBody, Source, event};
use shape::{Shape, Usage};

/// Answers one request of either endpoint.
pub async fn answer(exchange: &Exchange, body: &Result<Value, Refusal>, family: Family) -> Response<SimBody> {
    let replies = exchange.replies();
    let stream = body.as_ref().is_ok_and(ask::is_stream);
    let check = if family == Family::Chat { ask::chat } else { ask::completions };
    let asked: Result<Ask, Refusal> =
        body.as_ref().map_err(Clone::clone).and_then(|b| check(b, exchange.limits()));
    let call = asked.and_then(|ask| Call::start(&exchange.worker, &ask, stream).map(|call| (call, ask)));
    let (mut call, ask) = match call {
        Ok(started) => started,
        Err(refusal) => return refusal.answer(replies, family, stream),
    };
    let shape = Shape::new(&call, &ask, family);
    if stream {
        return replies.events(family == Family::Chat, Stream { call, ask, shape, over: false });
    }
    if !call.ended().await {
        return problem::internal_error(replies);
    }
    if call.refused() {
        return problem::queue_full(replies);
    }
    let sent_ns = exchange.worker.clock.mono_ns();
    let choices: Vec<String> = (0..call.sequences.len())
        .map(|at| shape.whole_choice(&call, at, ask.return_meta_info.then_some(sent_ns)))
        .collect();
    replies.json(http::StatusCode::OK, shape.whole(&choices, Usage::of(&call, &ask)))
}

struct Stream {
    call: Call,
    ask: Ask,
    shape: Shape,
    over: bool,
}

impl Source for Stream {
    async fn more(&mut self) -> Vec<Piece> {
        if self.over {
            return Vec::new();
        }
        let moved = self.call.moved().await;
        if self.call.refused() {
            self.over = true;
            let cut = self.call.worker().config.dialect.is_049();
            return if cut { vec![Err(Cut)] } else { vec![Ok(problem::queue_full_event()), Ok(DONE)] };
        }
        let mut pieces: Vec<Piece> = Vec::new();
        for at in moved {
            pieces.extend(self.choice(at));
        }
        self.over = self.call.all_ended();
        if self.over {
            if self.ask.include_usage {
                pieces.push(Ok(event(&self.shape.usage_event(Usage::of(&self.call, &self.ask)))));
            }
            pieces.push(Ok(DONE));
        }
        // Nothing moved and not over: the worker has stopped.
        if pieces.is_empty() { vec![Err(Cut)] } else { pieces }
    }
}

impl Stream {
    /// The events of one sequence's last move.
    fn choice(&mut self, at: usize) -> Vec<Piece> {
        let now_ns = self.call.worker().clock.mono_ns();
        let first = self.call.sequences[at].first_sent_ns.is_none();
        self.call.sequences[at].first_sent_ns.get_or_insert(now_ns);
        let usage = self.ask.continuous_usage.then(|| Usage::of(&self.call, &self.ask));
        let finish = self.call.finish_reason(at);
        let text = self.call.sequences[at].new_text();
        if !self.shape.is_chat() {
            return vec![Ok(event(&self.shape.text_chunk(at, text, finish.as_ref(), usage)))];
        }
        let mut pieces = Vec::with_capacity(3);
        if first {
            pieces.push(Ok(event(&self.shape.role_chunk(at, usage))));
        }
        if !text.is_empty() {
            pieces.push(Ok(event(&self.shape.delta_chunk(at, text, usage))));
        }
        if let Some(reason) = finish {
            pieces.push(Ok(event(&self.shape.finish_chunk(at, &reason, usage))));
        }
        pieces
    }
}
