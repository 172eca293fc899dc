//! What else a worker did while it answered a request.
//!
//! Rule: of what was recorded alone; a request computes its prompt until its first token and holds its context from then to its
//! end. Deliberately not here: what follows from it.

use super::{TOGETHER_US, uncached};
use crate::replay::rows::Row;

/// Requests before and after one among which those that overlap it are looked for.
const NEIGHBOURS: usize = 256;

/// A worker's load over the run.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    /// By place among the worker's requests: tokens of others that it waited for before its first token.
    pub(super) waited_for_tokens: Vec<f64>,
    /// Most requests between first and last token at one time.
    pub(super) most_at_once: usize,
    /// Moments, the context held from then on, and the same summed over time until then.
    context: Vec<(f64, f64, f64)>,
    /// First tokens, and the tokens computed up to each.
    computed: Vec<(f64, f64)>,
}

/// When the first token came; of a plain answer that is not known, and taken to be the end.
fn first_us(row: &Row) -> f64 {
    row.at_us as f64 + row.recorded.ttft_us.unwrap_or(row.recorded.e2e_us)
}

impl Load {
    /// Of one worker's requests, in the order in which they were sent.
    pub(super) fn of(rows: &[&Row]) -> Self {
        let mut changes: Vec<(f64, f64, i64)> = Vec::with_capacity(2 * rows.len());
        for row in rows.iter().filter(|row| row.recorded.ttft_us.is_some()) {
            let context = row.prompt_tokens as f64 + f64::from(row.output_tokens) / 2.0;
            changes.push((first_us(row), context, 1));
            changes.push((row.at_us as f64 + row.recorded.e2e_us, -context, -1));
        }
        changes.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut load, mut held, mut sum, mut at, mut running) = (Self::default(), 0.0, 0.0, 0.0, 0);
        for (moment, context, requests) in changes {
            sum += held * (moment - at);
            (held, at, running) = (held + context, moment, running + requests);
            load.most_at_once = load.most_at_once.max(running.max(0) as usize);
            load.context.push((moment, held, sum));
        }
        let mut firsts: Vec<(f64, f64)> = rows.iter().map(|row| (first_us(row), uncached(row))).collect();
        firsts.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut all = 0.0;
        load.computed.extend(firsts.into_iter().map(|(moment, tokens)| {
            all += tokens;
            (moment, all)
        }));
        load.waited_for_tokens = (0..rows.len()).map(|at| others(rows, at)).collect();
        load
    }

    /// Mean of the tokens held between two moments.
    pub(super) fn mean_context(&self, from: f64, to: f64) -> f64 {
        if to <= from { 0.0 } else { (self.sum_to(to) - self.sum_to(from)) / (to - from) }
    }

    fn sum_to(&self, moment: f64) -> f64 {
        let after = self.context.partition_point(|change| change.0 <= moment);
        match after.checked_sub(1).map(|at| self.context[at]) {
            Some((at, held, sum)) => sum + held * (moment - at),
            None => 0.0,
        }
    }

    /// Tokens computed between two moments, the first one's own left out.
    pub(super) fn prefilled(&self, from: f64, to: f64) -> f64 {
        let up_to = |moment: f64| {
            let after = self.computed.partition_point(|(first, _)| *first <= moment);
            after.checked_sub(1).map_or(0.0, |at| self.computed[at].1)
        };
        (up_to(to) - up_to(from)).max(0.0)
    }
}

/// Tokens of others that were computed before or with this one's: what was left of those before it, first come, first served, and
/// all of those behind it that came out of the same step.
fn others(rows: &[&Row], at: usize) -> f64 {
    let (began, first) = (rows[at].at_us as f64, first_us(rows[at]));
    let before = rows[at.saturating_sub(NEIGHBOURS)..at].iter().filter_map(|other| {
        let (their_beginning, their_first) = (other.at_us as f64, first_us(other));
        (their_first > began)
            .then(|| uncached(other) * (their_first - began) / (their_first - their_beginning).max(1.0))
    });
    let behind = rows[at + 1..].iter().take(NEIGHBOURS).take_while(|other| (other.at_us as f64) < first);
    let together = behind.filter(|other| (first_us(other) - first).abs() < TOGETHER_US);
    before.sum::<f64>() + together.map(|other| uncached(other)).sum::<f64>()
}
