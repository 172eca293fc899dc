//! When every member of a batch had so many tokens, from its interleaved stream.
//!
//! Rule: a step is over when its slowest member has its token; who ends before its length holds up nobody after that. Steps that came
//! in one read are one: nobody knows how far apart they were.
//! Deliberately not here: whether the answer is a good one (`wire::answer`).

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::load::row::Gap;
use crate::wire::answer::{ANSWER_CAP_BYTES, TokenTime};
use crate::wire::sse::Scanner;

/// The steps of one batch.
pub(super) struct Steps {
    scanner: Scanner,
    members: Vec<Member>,
    /// Tokens asked of each.
    asked: u64,
    /// Each time all had more tokens than before.
    reached: Vec<TokenTime>,
}

#[derive(Clone, Copy, Default)]
struct Member {
    tokens: u64,
    ended: bool,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    index: usize,
    meta_info: Meta,
}

#[derive(Deserialize)]
struct Meta {
    completion_tokens: u64,
    finish_reason: Option<IgnoredAny>,
}

impl Steps {
    pub(super) fn new(members: u32, asked: u64) -> Self {
        Self {
            scanner: Scanner::new(ANSWER_CAP_BYTES),
            members: vec![Member::default(); members as usize],
            asked,
            reached: Vec::new(),
        }
    }

    /// Takes a piece of the body that was read at `at_ns`.
    pub(super) fn push(&mut self, piece: &[u8], at_ns: u64) {
        let Self { scanner, members, asked, reached } = self;
        scanner.push(piece, &mut |event| {
            // `[DONE]` and errors are no such objects.
            let Ok(Event { index, meta_info }) = serde_json::from_slice(event.data) else { return };
            let Some(member) = members.get_mut(index) else { return };
            *member =
                Member { tokens: meta_info.completion_tokens, ended: meta_info.finish_reason.is_some() };
            let least = u32::try_from(least(members, *asked)).unwrap_or(u32::MAX);
            match reached.last_mut() {
                Some(step) if least <= step.tokens => {}
                Some(step) if step.at_ns == at_ns => step.tokens = least,
                _ if least == 0 => {}
                _ => reached.push(TokenTime { at_ns, tokens: least, member: 0 }),
            }
        });
    }

    /// The last member had its first token.
    pub(super) fn first_ns(&self) -> Option<u64> {
        self.reached.first().map(|first| first.at_ns)
    }

    /// Times between steps after the first.
    pub(super) fn gaps(&self) -> Vec<Gap> {
        self.reached.windows(2).map(Gap::between).collect()
    }

    /// Members that ended before their length.
    pub(super) fn early(&self) -> usize {
        self.members.iter().filter(|member| member.tokens < self.asked).count()
    }
}

/// Tokens that every member has that is not through.
fn least(members: &[Member], asked: u64) -> u64 {
    let under_way = members.iter().filter(|member| !member.ended || member.tokens >= asked);
    let least = under_way.map(|member| member.tokens).min();
    least.or_else(|| members.iter().map(|member| member.tokens).max()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(index: usize, tokens: u64, finish: &str) -> String {
        format!(
            "data: {{\"text\":\"\\\"index\\\":9\",\"index\":{index},\"meta_info\":{{\"id\":\"x\",\"finish_reason\":{finish},\"completion_tokens\":{tokens}}}}}\n\n"
        )
    }

    const LENGTH: &str = r#"{"type":"length","length":3}"#;

    #[test]
    fn a_step_ends_with_its_slowest_member() {
        let mut steps = Steps::new(2, 3);
        for (at_ns, index, tokens, finish) in [
            (10, 0, 1, "null"),
            (14, 1, 1, "null"),
            (20, 1, 2, "null"),
            (25, 0, 3, LENGTH),
            (31, 1, 3, LENGTH),
        ] {
            steps.push(event(index, tokens, finish).as_bytes(), at_ns);
        }
        assert_eq!(steps.first_ns(), Some(14));
        assert_eq!(steps.gaps(), [Gap { ns: 11, tokens: 1, member: 0 }, Gap { ns: 6, tokens: 1, member: 0 }]);
        assert_eq!(steps.early(), 0);
    }

    #[test]
    fn steps_that_came_in_one_read_are_one() {
        let mut steps = Steps::new(1, 6);
        for (at_ns, tokens) in [(10, 1), (10, 2), (40, 3), (40, 4), (40, 5), (50, 6)] {
            steps.push(event(0, tokens, "null").as_bytes(), at_ns);
        }
        assert_eq!(
            steps.gaps(),
            [Gap { ns: 30, tokens: 3, member: 0 }, Gap { ns: 10, tokens: 1, member: 0 }]
        );
    }

    #[test]
    fn who_ends_early_holds_up_nobody() {
        let mut steps = Steps::new(2, 5);
        let stop = r#"{"type":"stop","matched":2}"#;
        for (at_ns, index, tokens, finish) in
            [(1, 0, 1, "null"), (2, 1, 1, "null"), (3, 0, 2, stop), (4, 1, 3, "null"), (5, 1, 5, LENGTH)]
        {
            steps.push(event(index, tokens, finish).as_bytes(), at_ns);
        }
        let gaps = steps.gaps();
        assert_eq!(gaps.iter().map(|gap| gap.tokens).sum::<u32>(), 4, "{gaps:?}");
        assert_eq!(steps.early(), 1);
    }

    #[test]
    fn what_is_no_event_of_a_member_is_passed_over() {
        let mut steps = Steps::new(1, 2);
        steps.push(b"data: {\"error\":{\"message\":\"x\"}}\n\ndata: [DONE]\n\n: c\n\n", 1);
        steps.push(event(7, 1, "null").as_bytes(), 2);
        assert_eq!((steps.first_ns(), steps.gaps().len()), (None, 0));
    }
}
