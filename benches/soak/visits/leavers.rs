//! Clients that leave: at every stage of a request, in good order or not.

use std::time::Duration;

use crate::answers::Length;
use crate::dice::Dice;
use crate::line::{Line, Until};
use crate::seen::End;
use crate::stage::{Shape, Stage};

/// After the request was sent, whether it is answered or not.
pub async fn before_head(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let asked = stage.ask("leaves before head", dice, Shape::default()).await;
    line.send(&asked.bytes()).await;
    tokio::time::sleep(Duration::from_millis(dice.pick(&[(3, 0), (3, 2), (2, 10), (1, 200)]))).await;
    let end = leave(line, dice.one_in(2));
    stage.ledger.end(asked.number, end, |_| {});
}

/// After the first event.
pub async fn mid_stream(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let shape = Shape {
        stream: Some(true),
        length: dice.pick(&[(3, Length::Short), (1, Length::Long)]),
        ..Shape::default()
    };
    let asked = stage.ask("leaves mid stream", dice, shape).await;
    line.send(&asked.bytes()).await;
    let got = line.answer(asked.number, Until::FirstEvent).await;
    // The router has answered, so it has the request, in whatever way it is left now.
    leave(line, dice.one_in(2));
    stage.ledger.end(asked.number, got.end, |seen| got.note(asked.number, seen));
}

/// With half of the body sent.
pub async fn mid_body(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let least_bytes = dice.pick(&[(4, 0), (1, 200_000)]);
    let shape = Shape { least_bytes, is_chunked: dice.one_in(3), ..Shape::default() };
    let asked = stage.ask("leaves mid body", dice, shape).await;
    let bytes = asked.bytes();
    line.send(&bytes[..asked.head.len() + asked.body.len() / 2]).await;
    tokio::time::sleep(Duration::from_millis(dice.pick(&[(2, 0), (1, 5)]))).await;
    let end = leave(line, dice.one_in(3));
    stage.ledger.end(asked.number, end, |seen| seen.is_body_cut = true);
}

/// After a long time in which it took nothing; sometimes longer than a request may last.
pub async fn never_reads(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let asked = stage.ask("never reads", dice, Shape { length: Length::Long, ..Shape::default() }).await;
    line.send(&asked.bytes()).await;
    tokio::time::sleep(Duration::from_millis(dice.between(1_000, 8_000))).await;
    drop(line);
    stage.ledger.end(asked.number, End::Left, |_| {});
}

/// By closing its sending side, which the router takes for leaving; it reads on and so knows what the router did.
pub async fn half_closes(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let is_body_cut = dice.one_in(4);
    let asked = stage.ask("half-closes", dice, Shape::default()).await;
    let kept = if is_body_cut { asked.body.len() / 2 } else { asked.body.len() };
    line.send(&asked.bytes()[..asked.head.len() + kept]).await;
    if dice.one_in(2) {
        tokio::time::sleep(Duration::from_millis(dice.between(0, 10))).await;
    }
    line.half_close().await;
    let got = line.answer(asked.number, Until::End).await;
    stage.ledger.end(asked.number, got.end, |seen| {
        got.note(asked.number, seen);
        seen.is_half_closed = true;
        seen.is_body_cut = is_body_cut;
    });
}

fn leave(line: Line, by_reset: bool) -> End {
    if by_reset {
        line.reset();
        return End::LeftByReset;
    }
    drop(line);
    End::Left
}
