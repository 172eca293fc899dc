//! Lanes: where spans are drawn that overlap each other.
//!
//! Rule: no two spans in one lane overlap, and a span goes to the lane that was left last, so that a few lanes are full and the
//! others empty. Spans come in the order of their ends, as records do, or nearly so; kept is one number a lane. Deliberately not
//! here: names and colours.

use std::collections::BTreeSet;

/// Lanes of one worker, or of the router.
#[derive(Debug, Default)]
pub struct Lanes {
    /// When each lane was left, and its number.
    left: BTreeSet<(i64, u64)>,
}

impl Lanes {
    /// The lane of a span, from 1, and whether it is a new one.
    pub fn take(&mut self, start_ns: i64, end_ns: i64) -> (u64, bool) {
        let free = self.left.range(..=(start_ns, u64::MAX)).next_back().copied();
        let lane = match free {
            Some((left_ns, lane)) => {
                self.left.remove(&(left_ns, lane));
                lane
            }
            None => self.left.len() as u64 + 1,
        };
        self.left.insert((end_ns.max(start_ns), lane));
        (lane, free.is_none())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_two_spans_of_a_lane_overlap_and_there_are_no_more_lanes_than_needed(
            drawn in prop::collection::vec((0i64..500, 1i64..80), 1..120),
        ) {
            let mut spans: Vec<_> = drawn.into_iter().map(|(start, long)| (start, start + long)).collect();
            spans.sort_by_key(|(start, end)| (*end, *start));
            let mut lanes = Lanes::default();
            let drawn: Vec<_> = spans.iter().map(|(start, end)| (lanes.take(*start, *end).0, *start, *end)).collect();
            for (i, (lane, start, end)) in drawn.iter().enumerate() {
                for (other, from, to) in &drawn[..i] {
                    prop_assert!(lane != other || end <= from || to <= start);
                }
            }
            let at_once = |moment: i64| spans.iter().filter(|(start, end)| *start <= moment && moment < *end).count();
            let needed = spans.iter().map(|(start, _)| at_once(*start)).max().unwrap_or(0);
            let used = drawn.iter().map(|(lane, ..)| *lane).max().unwrap_or(0);
            prop_assert_eq!(used, needed as u64);
        }
    }
}
