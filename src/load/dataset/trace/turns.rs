//! Which requests of a trace are turns of one chat.
//!
//! Rule: a turn waits for the answer of the one it goes on from, then as long as its user thought, and for its own time.
//! Deliberately not here: waiting.

use std::collections::HashMap;

use super::TraceRow;
use crate::load::dataset::{After, Turn};

/// The turn of each row; `None` where the trace knows no chats.
pub(super) fn of(rows: &[TraceRow], at_ns: &[u64]) -> Vec<Option<Turn>> {
    let mut known: HashMap<i64, (usize, u32, u32)> = HashMap::new();
    let mut sessions = 0;
    let each = rows.iter().zip(at_ns).enumerate().map(|(index, (row, at_ns))| {
        let (chat, parent) = row.chat?;
        let turn = match known.get(&parent).filter(|_| parent >= 0) {
            Some(&(prompt, session, turn)) => Turn {
                session,
                turn: turn + 1,
                after: Some(After {
                    prompt,
                    think_ns: row.think_ns,
                    not_before_ns: *at_ns,
                    carries_reply: false,
                }),
            },
            None => {
                sessions += 1;
                Turn { session: sessions, turn: 1, after: None }
            }
        };
        known.insert(chat, (index, turn.session, turn.turn));
        Some(turn)
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_waits_for_the_one_before_it() {
        let row = |chat, parent| TraceRow { chat: Some((chat, parent)), ..TraceRow::default() };
        let turns = of(&[row(1, -1), row(2, -1), row(3, 1), row(4, 3), row(5, 99)], &[0, 1, 2, 3, 4]);
        let seen: Vec<_> = turns
            .iter()
            .flatten()
            .map(|t| (t.session, t.turn, t.after.as_ref().map(|a| (a.prompt, a.not_before_ns))))
            .collect();
        // The last one goes on from a chat that was before the trace.
        assert_eq!(
            seen,
            [(1, 1, None), (2, 1, None), (1, 2, Some((0, 2))), (1, 3, Some((2, 3))), (3, 1, None)]
        );
        assert_eq!(of(&[TraceRow::default()], &[0]), [None]);
    }
}
