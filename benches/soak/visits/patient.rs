//! Clients that stay until they have their answers: quick ones and slow ones.

use std::time::Duration;

use super::{exchange, read};
use crate::answers::Length;
use crate::dice::Dice;
use crate::line::Line;
use crate::seen::End;
use crate::stage::{Shape, Stage};

/// Most pieces of a slow body, so that it has been sent in half a second.
const PIECES: usize = 60;

/// Some requests, one after the other.
pub async fn keeps_alive(stage: &Stage, dice: &mut Dice, mut line: Line) {
    for _ in 0..dice.between(1, 20) {
        let asked = stage.ask("keep-alive", dice, Shape::default()).await;
        if !exchange(stage, &mut line, &asked).await {
            return;
        }
    }
}

/// One request, and the answer is the last.
pub async fn asks_once(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let shape = Shape { fields: "connection: close\r\n", is_chunked: dice.one_in(4), ..Shape::default() };
    let asked = stage.ask("one-shot", dice, shape).await;
    exchange(stage, &mut line, &asked).await;
}

/// Several at once; after an answer that ends the connection nobody takes up the others.
pub async fn pipelines(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let mut numbers = Vec::new();
    let mut bytes = Vec::new();
    for _ in 0..dice.between(2, 5) {
        let shape = Shape { is_chunked: dice.one_in(4), ..Shape::default() };
        let asked = stage.ask("pipeline", dice, shape).await;
        bytes.extend_from_slice(&asked.bytes());
        numbers.push(asked.number);
    }
    line.send(&bytes).await;
    let mut goes_on = true;
    for number in numbers {
        if goes_on {
            goes_on = read(stage, &mut line, number).await;
        } else {
            stage.ledger.end(number, End::Behind, |_| {});
        }
    }
}

/// A request in small pieces.
pub async fn sends_slowly(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let shape = Shape { is_chunked: dice.one_in(2), ..Shape::default() };
    let asked = stage.ask("slow sender", dice, shape).await;
    let bytes = asked.bytes();
    for piece in bytes.chunks(bytes.len().div_ceil(PIECES)) {
        if !line.send(piece).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(dice.between(0, 10))).await;
    }
    read(stage, &mut line, asked.number).await;
}

/// A long answer, read more slowly than it comes.
pub async fn reads_slowly(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let shape = Shape { length: Length::Long, ..Shape::default() };
    let asked = stage.ask("slow reader", dice, shape).await;
    line.dawdle(dice.between(8_000, 64_000) as usize, Duration::from_millis(dice.between(1, 10)));
    exchange(stage, &mut line, &asked).await;
}

/// A stream that takes a second or two.
pub async fn lingers(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let shape = Shape { stream: Some(true), length: Length::Lasting, ..Shape::default() };
    let asked = stage.ask("through the stop", dice, shape).await;
    exchange(stage, &mut line, &asked).await;
}

/// The body only when it is wanted.
pub async fn expects(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let shape = Shape { fields: "expect: 100-continue\r\n", is_chunked: dice.one_in(3), ..Shape::default() };
    let asked = stage.ask("expects continue", dice, shape).await;
    line.send(&asked.head).await;
    if line.may_go_on().await {
        line.send(&asked.body).await;
    }
    read(stage, &mut line, asked.number).await;
}

/// An old client.
pub async fn speaks_http_10(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let asked = stage.ask("HTTP/1.0", dice, Shape { is_http_10: true, ..Shape::default() }).await;
    exchange(stage, &mut line, &asked).await;
}

/// A body of up to nearly all that is allowed.
pub async fn sends_much(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let least_bytes = dice.pick(&[(4, 100_000), (2, 300_000), (1, 900_000)]);
    let shape = Shape { least_bytes, is_chunked: dice.one_in(3), ..Shape::default() };
    let asked = stage.ask("big body", dice, shape).await;
    exchange(stage, &mut line, &asked).await;
}
