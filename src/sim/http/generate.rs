//! /generate: SGLang's own endpoint.
//!
//! Rule: text and ids are cumulative; a state that the reader missed is merged into the next event, as real servers do.

use http::Response;
use serde_json::Value;

use super::Exchange;
use super::ask::{self, Ask};
use super::call::Call;
use super::problem::{self, Family, Refusal};
use super::reply::{Cut, DONE, Piece, Replies, SimBody, Source, event};

/// Answers one request.
pub async fn answer(exchange: &Exchange, body: &Result<Value, Refusal>) -> Response<SimBody> {
    let replies = exchange.replies();
    let stream = body.as_ref().is_ok_and(ask::is_stream);
    let asked: Result<Ask, Refusal> =
        body.as_ref().map_err(Clone::clone).and_then(|b| ask::generate(b, exchange.limits()));
    let call = asked.and_then(|ask| Call::start(&exchange.worker, &ask, stream).map(|call| (call, ask.list)));
    let (mut call, list) = match call {
        Ok(started) => started,
        Err(refusal) => return refusal.answer(replies, Family::Native, stream),
    };
    if stream {
        return replies.events(false, Stream { call, list, over: false });
    }
    if !call.ended().await {
        return problem::internal_error(replies);
    }
    if call.refused() {
        return problem::queue_full(replies);
    }
    whole(&call, list, replies)
}

fn whole(call: &Call, list: bool, replies: Replies) -> Response<SimBody> {
    let sent_ns = call.worker().clock.mono_ns();
    let items: Vec<String> =
        (0..call.sequences.len()).map(|at| object(call, at, Some(sent_ns), None)).collect();
    let body = if list { format!("[{}]", items.join(",")) } else { items.concat() };
    replies.json(http::StatusCode::OK, body)
}

/// `{"text":..,"meta_info":..}` in the order of the dialect; `index` in the events of a list.
fn object(call: &Call, at: usize, sent_ns: Option<u64>, index: Option<usize>) -> String {
    let sequence = &call.sequences[at];
    let (text, ids, meta_info) = (&sequence.text, &sequence.token_ids, call.meta_info(at, sent_ns));
    let index = index.map(|i| format!(",\"index\":{i}")).unwrap_or_default();
    // Words of an answer need no escapes.
    let dialect = call.worker().config.dialect;
    if dialect.is_049() {
        format!("{{\"text\":\"{text}\",\"meta_info\":{meta_info}{index}}}")
    } else if dialect.is_rust() {
        format!("{{\"text\":\"{text}\",\"meta_info\":{meta_info},\"output_ids\":[{ids}]{index}}}")
    } else {
        format!("{{\"text\":\"{text}\",\"output_ids\":[{ids}],\"meta_info\":{meta_info}{index}}}")
    }
}

struct Stream {
    call: Call,
    list: bool,
    over: bool,
}

impl Source for Stream {
    async fn more(&mut self) -> Vec<Piece> {
        if self.over {
            return Vec::new();
        }
        let moved = self.call.moved().await;
        let mut pieces: Vec<Piece> = moved.into_iter().map(|at| self.event(at)).collect();
        self.over = self.call.all_ended();
        if self.over {
            pieces.push(Ok(DONE));
        }
        // Nothing moved and not over: the worker has stopped.
        if pieces.is_empty() { vec![Err(Cut)] } else { pieces }
    }
}

impl Stream {
    fn event(&mut self, at: usize) -> Piece {
        if self.call.refused() && self.call.worker().config.dialect.is_049() {
            return Err(Cut);
        }
        let now_ns = self.call.worker().clock.mono_ns();
        let sequence = &mut self.call.sequences[at];
        let (first, last) = (sequence.first_sent_ns.is_none(), sequence.progress.end.is_some());
        let sent_ns = *sequence.first_sent_ns.get_or_insert(now_ns);
        let index = self.list.then_some(at);
        Ok(event(&object(&self.call, at, (first || last).then_some(sent_ns), index)))
    }
}
