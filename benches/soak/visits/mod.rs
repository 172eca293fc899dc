//! Clients: one visit is one connection, of one of many kinds.
//!
//! Rule: a visit enters each of its requests and brings each to an end in the books, whatever happens; none lasts longer than
//! the limits of `line`. Deliberately not here: who may send next (`stage`), what the answers have to be (`agree`).

mod leavers;
pub mod odd;
mod patient;

use std::sync::Arc;

use crate::dice::Dice;
use crate::line::{Line, Until};
use crate::seen::End;
use crate::stage::{Asked, Stage};

/// What kind of client.
#[derive(Clone, Copy, Debug)]
enum Visit {
    KeepAlive,
    OneShot,
    Pipeline,
    SlowSender,
    SlowReader,
    Expects,
    Http10,
    BigBody,
    TooBig,
    Own,
    LeavesBeforeHead,
    LeavesMidStream,
    LeavesMidBody,
    NeverReads,
    HalfCloses,
    Refused,
    Unreadable,
    Silent,
}

/// How often each comes.
const MIX: &[(u64, Visit)] = &[
    (30, Visit::KeepAlive),
    (24, Visit::OneShot),
    (10, Visit::Pipeline),
    (8, Visit::SlowSender),
    (4, Visit::SlowReader),
    (6, Visit::Expects),
    (6, Visit::Http10),
    (4, Visit::BigBody),
    (3, Visit::TooBig),
    (8, Visit::Own),
    (16, Visit::LeavesBeforeHead),
    (16, Visit::LeavesMidStream),
    (10, Visit::LeavesMidBody),
    (1, Visit::NeverReads),
    (10, Visit::HalfCloses),
    (8, Visit::Refused),
    (12, Visit::Unreadable),
    (4, Visit::Silent),
];

/// One visit after the other until the stage closes.
pub async fn come_and_go(stage: Arc<Stage>, mut dice: Dice) {
    while !stage.is_closing() {
        let visit = dice.pick(MIX);
        if matches!(visit, Visit::Unreadable | Visit::Silent) {
            stage.turn().await;
        }
        let (stage, dice) = (&*stage, &mut dice);
        let has_small_window = matches!(visit, Visit::SlowReader | Visit::NeverReads);
        let Some(line) = connect(stage, has_small_window).await else {
            continue;
        };
        match visit {
            Visit::KeepAlive => patient::keeps_alive(stage, dice, line).await,
            Visit::OneShot => patient::asks_once(stage, dice, line).await,
            Visit::Pipeline => patient::pipelines(stage, dice, line).await,
            Visit::SlowSender => patient::sends_slowly(stage, dice, line).await,
            Visit::SlowReader => patient::reads_slowly(stage, dice, line).await,
            Visit::Expects => patient::expects(stage, dice, line).await,
            Visit::Http10 => patient::speaks_http_10(stage, dice, line).await,
            Visit::BigBody => patient::sends_much(stage, dice, line).await,
            Visit::TooBig => odd::sends_too_much(stage, dice, line).await,
            Visit::Own => odd::asks_the_router(stage, dice, line).await,
            Visit::LeavesBeforeHead => leavers::before_head(stage, dice, line).await,
            Visit::LeavesMidStream => leavers::mid_stream(stage, dice, line).await,
            Visit::LeavesMidBody => leavers::mid_body(stage, dice, line).await,
            Visit::NeverReads => leavers::never_reads(stage, dice, line).await,
            Visit::HalfCloses => leavers::half_closes(stage, dice, line).await,
            Visit::Refused => odd::refused(stage, dice, line).await,
            Visit::Unreadable => odd::unreadable(stage, dice, line).await,
            Visit::Silent => drop(line),
        }
    }
}

/// A stream that lasts: what a stop has to wait for.
pub async fn linger(stage: Arc<Stage>, mut dice: Dice) {
    if let Some(line) = connect(&stage, false).await {
        patient::lingers(&stage, &mut dice, line).await;
    }
}

async fn connect(stage: &Stage, has_small_window: bool) -> Option<Line> {
    match Line::connect(stage.router, has_small_window).await {
        Ok(line) => Some(line),
        Err(error) => {
            stage.ledger.complain(format!("a client could not connect: {error}"));
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            None
        }
    }
}

/// Sends all of it and reads the answer; true if another request may follow.
pub async fn exchange(stage: &Stage, line: &mut Line, asked: &Asked) -> bool {
    // Whether it was taken shows in the answer.
    line.send(&asked.bytes()).await;
    read(stage, line, asked.number).await
}

/// Reads the answer to the request sent; true if another may follow.
async fn read(stage: &Stage, line: &mut Line, number: usize) -> bool {
    let got = line.answer(number, Until::End).await;
    stage.ledger.end(number, got.end, |seen| got.note(number, seen));
    got.keeps_alive && got.end == End::Whole
}
