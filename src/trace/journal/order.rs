//! The calls of a journal in the order in which they were made.
//!
//! Rule: what is held to be put in order is bounded; a number that has not come when the bound is reached, or at the end, is a
//! call that was lost, and is told as such before the calls after it. Deliberately not here: reading lines (`trace::reader`).

use std::collections::BTreeMap;

use super::JournalRecord;

/// Calls held back for one that has not come. Lines are out of order by what the writer finds at one round, of sixteen threads.
pub const WINDOW_CALLS: usize = 65_536;
/// Memory that they may take: a long prompt is some kilobytes of hashes.
const WINDOW_BYTES: usize = 256 << 20;

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The next call.
    Call(Box<JournalRecord>),
    /// Calls that are nowhere.
    Lost {
        /// Number of the first.
        first: u64,
        /// How many.
        calls: u64,
    },
}

/// Puts calls in order.
#[derive(Debug)]
pub struct Order {
    held: BTreeMap<u64, Box<JournalRecord>>,
    held_bytes: usize,
    next: u64,
    window: usize,
}

impl Default for Order {
    fn default() -> Self {
        Self::with_window(WINDOW_CALLS)
    }
}

impl Order {
    /// Holds back at most so many calls.
    pub fn with_window(window: usize) -> Self {
        Self { held: BTreeMap::new(), held_bytes: 0, next: 0, window }
    }

    /// Takes the next line. One that came before with the same number, or that was given up, is left out.
    pub fn push(&mut self, record: Box<JournalRecord>) {
        if record.n >= self.next && !self.held.contains_key(&record.n) {
            self.held_bytes += record.held_bytes();
            self.held.insert(record.n, record);
        }
    }

    /// The next call if it has come, or if it is waited for no longer.
    pub fn pop(&mut self) -> Option<Next> {
        self.take(self.held.len() > self.window || self.held_bytes > WINDOW_BYTES)
    }

    /// The same when no more lines come.
    pub fn pop_last(&mut self) -> Option<Next> {
        self.take(true)
    }

    fn take(&mut self, give_up: bool) -> Option<Next> {
        let first = *self.held.first_key_value()?.0;
        if first == self.next {
            self.next += 1;
            let (_, record) = self.held.pop_first()?;
            self.held_bytes -= record.held_bytes();
            return Some(Next::Call(record));
        }
        give_up.then(|| {
            let lost = Next::Lost { first: self.next, calls: first - self.next };
            self.next = first;
            lost
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{JournalCall, LeaveCall};
    use super::*;
    use proptest::prelude::*;

    fn call(n: u64) -> JournalRecord {
        JournalRecord { n, now_us: n, call: JournalCall::Leave(LeaveCall { slot: 0 }) }
    }

    fn all(order: &mut Order, numbers: &[u64]) -> Vec<String> {
        let told = |next| match next {
            Next::Call(record) => record.n.to_string(),
            Next::Lost { first, calls } => format!("lost {calls} from {first}"),
        };
        let mut out = Vec::new();
        for n in numbers {
            order.push(call(*n).into());
            out.extend(std::iter::from_fn(|| order.pop()).map(told));
        }
        out.extend(std::iter::from_fn(|| order.pop_last()).map(told));
        out
    }

    #[test]
    fn what_is_missing_is_told_where_it_is_missing() {
        assert_eq!(all(&mut Order::default(), &[1, 0, 2]), ["0", "1", "2"]);
        assert_eq!(all(&mut Order::default(), &[0, 4, 3, 4]), ["0", "lost 2 from 1", "3", "4"]);
        assert_eq!(all(&mut Order::with_window(1), &[2, 3, 0, 4]), ["lost 2 from 0", "2", "3", "4"]);
    }

    proptest! {
        #[test]
        fn any_order_of_lines_is_put_right(numbers in Just((0..40_u64).collect::<Vec<_>>()).prop_shuffle()) {
            let sorted: Vec<String> = (0..40).map(|n: u64| n.to_string()).collect();
            prop_assert_eq!(all(&mut Order::default(), &numbers), sorted);
        }
    }
}
