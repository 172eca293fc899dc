//! `tokens.jsonl`: when the tokens of each answer came.
//!
//! Rule: one line a request, in the order of the CSV, of those with a token whose times were kept; times are nanoseconds after
//! the start of the run, at the client. `at_ns` has a moment for each event that brought tokens, `tokens` how many there were by
//! then, of several members together; `members` whose event each is. Deliberately not here: files.

use std::borrow::Borrow;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::load::row::{Gap, Row};

/// The times of one answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenTimes {
    /// The `x-request-id` sent.
    pub req_id: String,
    /// Each event with tokens, nanoseconds after the start of the run.
    pub at_ns: Vec<i64>,
    /// Tokens by then.
    pub tokens: Vec<u64>,
    /// Of several members whose event it is, numbered from 0 as they begin; nothing of one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<u32>,
}

impl TokenTimes {
    /// Of a row; `None` where no token came, or its time was dropped.
    pub fn of(row: &Row) -> Option<Self> {
        if row.token_times_dropped {
            return None;
        }
        let mut now_ns = row.gaps_from_ns.or(row.client_first_token_ns)?;
        let later: u64 = row.gaps.iter().map(|gap| u64::from(gap.tokens)).sum();
        // A client that lost count of the first event had at least one in it.
        let mut tokens = row.counted_tokens.map_or(1, |all| all.saturating_sub(later).max(1));
        let mut times = Self {
            req_id: row.req_id.clone(),
            at_ns: vec![now_ns],
            tokens: vec![tokens],
            members: Vec::new(),
        };
        if row.gaps.iter().any(|gap| gap.member > 0) {
            times.members = std::iter::once(0).chain(row.gaps.iter().map(|gap| gap.member)).collect();
        }
        for gap in &row.gaps {
            now_ns = now_ns.saturating_add_unsigned(gap.ns);
            tokens += u64::from(gap.tokens);
            times.at_ns.push(now_ns);
            times.tokens.push(tokens);
        }
        Some(times)
    }

    /// The gaps between the events; `None` where the lists do not fit each other.
    pub fn gaps(&self) -> Option<Vec<Gap>> {
        let count = self.at_ns.len();
        if self.tokens.len() != count || !(self.members.is_empty() || self.members.len() == count) {
            return None;
        }
        let mut begun = 1;
        let pairs = self.at_ns.windows(2).zip(self.tokens.windows(2)).enumerate();
        pairs
            .map(|(before, (at_ns, tokens))| {
                let ns = u64::try_from(at_ns[1].checked_sub(at_ns[0])?).ok()?;
                let member = self.members.get(before + 1).copied().unwrap_or(0);
                begun += u32::from(member == begun);
                let tokens = u32::try_from(tokens[1].checked_sub(tokens[0])?).ok()?.max(1);
                (member < begun).then_some(Gap { ns, tokens, member })
            })
            .collect()
    }
}

/// Writes a line for each row with a token.
pub fn write(out: &mut impl Write, rows: impl IntoIterator<Item: Borrow<Row>>) -> io::Result<()> {
    for times in rows.into_iter().filter_map(|row| TokenTimes::of(row.borrow())) {
        serde_json::to_writer(&mut *out, &times)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::row::example;

    #[test]
    fn gaps_come_back_as_they_were() {
        let row = Row { counted_tokens: Some(5), ..example() };
        let mut text = Vec::new();
        let dropped = Row { token_times_dropped: true, gaps: Vec::new(), ..row.clone() };
        write(&mut text, &[row.clone(), Row::default(), dropped]).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "{\"req_id\":\"a-1\",\"at_ns\":[1022500000,1032500000,1062500000],\"tokens\":[1,2,5]}\n"
        );
        let back: TokenTimes = serde_json::from_str(&text).unwrap();
        assert_eq!(back.gaps(), Some(row.gaps));
        let torn = TokenTimes { tokens: vec![1], ..back.clone() };
        let backwards = TokenTimes { at_ns: vec![3, 2, 4], ..back.clone() };
        assert_eq!((torn.gaps(), backwards.gaps()), (None, None));
        let numbered = |members: &[u32]| TokenTimes { members: members.to_vec(), ..back.clone() }.gaps();
        assert_eq!([numbered(&[0, 2, 1]), numbered(&[0, 1])], [None, None], "numbers go up as members begin");
    }

    #[test]
    fn events_of_several_members_stay_apart() {
        let gap = |ns, member| Gap { ns, tokens: 1, member };
        let gaps = vec![gap(5, 1), gap(20, 0), gap(0, 2), gap(7, 1)];
        let row = Row { counted_tokens: Some(5), gaps, ..example() };
        let times = TokenTimes::of(&row).unwrap();
        assert_eq!((&times.members[..], &times.tokens[..]), (&[0, 1, 0, 2, 1][..], &[1, 2, 3, 4, 5][..]));
        assert_eq!(times.gaps(), Some(row.gaps));
    }
}
