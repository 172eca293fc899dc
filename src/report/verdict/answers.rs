//! Whether the answers are those that were asked for, and whether each has its one record in the router's trace.
//!
//! Rule: shares of requests, so that one odd answer among thousands is told in its row and nowhere else. Deliberately not here:
//! why a request failed (its row), and which columns are empty (`warnings`).

use super::Finding;
use super::faults::{Theirs, asked_for};
use crate::load::body::Backend;
use crate::load::failure::Class;
use crate::load::row::Row;
use crate::load::run::RunReport;
use crate::report::metrics::Metrics;

/// Failed requests: with one in a hundred the p99 of the others is of another population; with one in ten every figure is.
const FAILED: (f64, f64) = (0.01, 0.1);
/// Requests whose tokens are not as many as asked for or as another count has them: the throughput is off by about as much.
const MISCOUNTED: (f64, f64) = (0.01, 0.25);
/// Requests without a record: their router and server columns are empty, and who they are is no chance.
const UNRECORDED: (f64, f64) = (0.001, 0.1);
/// Requests of others at the same router, over ours: the load was not this run's alone. Never INVALID: several clients may make
/// one load together.
const FOREIGN: (f64, f64) = (0.01, f64::INFINITY);

/// `bad` of `all`.
fn share_of(bad: usize, all: usize, limits: (f64, f64), text: String) -> Finding {
    if all == 0 {
        return Finding::Unjudged("there is none to judge".to_owned());
    }
    Finding::above(bad as f64 / all as f64, limits.0, limits.1, text)
}

/// What was looked at, and how much of it is bad.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    bad: usize,
    all: usize,
}

impl Tally {
    fn add(&mut self, bad: bool) {
        self.bad += usize::from(bad);
        self.all += 1;
    }

    /// Two counts of one thing, where both are told.
    fn compare(&mut self, first: Option<u64>, second: Option<u64>) {
        if let (Some(first), Some(second)) = (first, second) {
            self.add(first != second);
        }
    }
}

/// The answers of a run, as rows come.
#[derive(Debug)]
pub(super) struct Answers {
    theirs: Theirs,
    /// Of a phase with a fault; bad is failed.
    asked_for: Tally,
    /// Of one, or taken by Ctrl-C: in no rate of errors.
    left_out: Tally,
    output_tokens: Tally,
    prompt_tokens: Tally,
    trace_tokens: Tally,
    /// Sent; bad is in no trace.
    sent: Tally,
}

impl Answers {
    pub fn of(run: &RunReport) -> Self {
        let nothing = Tally::default();
        Self {
            theirs: Theirs::of(run.faults.as_ref()),
            asked_for: nothing,
            left_out: nothing,
            output_tokens: nothing,
            prompt_tokens: nothing,
            trace_tokens: nothing,
            sent: nothing,
        }
    }

    pub fn add(&mut self, row: &Row) {
        let good = row.success();
        // Errors of a fault that was asked for are told apart, and what Ctrl-C cut or what was never sent is no failure of the server.
        let theirs = self.theirs.has(row);
        if theirs {
            self.asked_for.add(!good);
        }
        if theirs || cut(row) {
            self.left_out.add(!good);
        }
        if good {
            // Several answers have as many times the tokens, and their prompt counts once or as often.
            if row.members() == 1 {
                self.output_tokens.compare(row.max_new_tokens, row.completion_tokens);
                // Only token ids have a length that is known before; of a text the words are planned.
                let planned = row.input_words.is_none().then_some(row.planned_tokens);
                self.prompt_tokens.compare(planned, row.prompt_tokens);
            }
            self.trace_tokens.compare(row.completion_tokens, row.trace_completion_tokens);
        }
        if row.sent_ns.is_some() {
            self.sent.add(!row.in_trace);
        }
    }

    pub fn asked_for(&self) -> Finding {
        asked_for(self.asked_for.bad, self.asked_for.all)
    }

    pub fn errors_of(&self, metrics: &Metrics) -> Finding {
        let failed = (metrics.requests - metrics.completed) as usize;
        errors(failed - self.left_out.bad, metrics.requests as usize - self.left_out.all)
    }

    pub fn output_tokens_of(&self, run: &RunReport) -> Option<Finding> {
        // What lies over the body may end answers early.
        let request = &run.config.request;
        let changed = request.extra.contains_key("sampling_params");
        (request.ignore_eos && !changed).then(|| output_tokens(self.output_tokens))
    }

    pub fn prompt_tokens_of(&self, run: &RunReport) -> Option<Finding> {
        let judged = run.config.backend == Backend::Native && self.prompt_tokens.all > 0;
        judged.then(|| prompt_tokens(self.prompt_tokens))
    }

    pub fn trace_tokens_of(&self, run: &RunReport) -> Option<Finding> {
        (run.has_trace && self.trace_tokens.all > 0).then(|| trace_tokens(self.trace_tokens))
    }

    pub fn trace_missing_of(&self, run: &RunReport) -> Option<Finding> {
        run.has_trace.then(|| trace_missing(self.sent))
    }
}

/// Ctrl-C took it, or it was never sent: a turn after one that failed.
fn cut(row: &Row) -> bool {
    row.failure.as_ref().is_some_and(|f| matches!(f.class, Class::Interrupted | Class::NotSent))
}

fn errors(failed: usize, all: usize) -> Finding {
    share_of(failed, all, FAILED, format!("{failed} of {all} requests failed; latencies are of the others"))
}

fn output_tokens(Tally { bad, all }: Tally) -> Finding {
    let text = format!(
        "{bad} of {all} answers have not the number of tokens asked for{}",
        if bad > 0 { "; the server does not keep ignore_eos, or they were cut" } else { "" }
    );
    share_of(bad, all, MISCOUNTED, text)
}

fn prompt_tokens(Tally { bad, all }: Tally) -> Finding {
    let text =
        format!("{bad} of {all} prompts of token ids are not as long for the server as they were sent");
    share_of(bad, all, MISCOUNTED, text)
}

fn trace_tokens(Tally { bad, all }: Tally) -> Finding {
    let text = format!("client and router's trace disagree on the tokens of {bad} of {all} answers");
    share_of(bad, all, MISCOUNTED, text)
}

fn trace_missing(Tally { bad: missing, all: sent }: Tally) -> Finding {
    let mut text = format!("{missing} of {sent} requests sent are not in the router's trace");
    if missing > 0 {
        text.push_str(
            ": their router and server columns are empty; check that --router-trace is the trace of the router at this address, \
             and its lost records",
        );
    }
    share_of(missing, sent, UNRECORDED, text)
}

pub(super) fn trace_extra_of(run: &RunReport) -> Option<Finding> {
    run.strangers.map(|foreign| trace_extra(foreign as usize, run.rows.len()))
}

fn trace_extra(foreign: usize, ours: usize) -> Finding {
    let text = format!(
        "{foreign} requests of others went through the router during the run, beside {ours} of this one"
    );
    share_of(foreign, ours, FOREIGN, text)
}

#[cfg(test)]
mod tests {
    use super::super::Rating;
    use super::*;

    #[test]
    fn errors_are_judged_by_their_share() {
        assert_eq!(errors(1, 100).rating(), Some(Rating::Valid));
        assert_eq!(errors(2, 100).rating(), Some(Rating::Suspect));
        assert_eq!(errors(11, 100).rating(), Some(Rating::Invalid));
        assert_eq!(errors(0, 0).rating(), None);
    }

    #[test]
    fn counts_that_differ_are_counted() {
        let mut tally = Tally::default();
        for other in [Some(8), Some(7), Some(9), None] {
            tally.compare(Some(8), other);
        }
        assert_eq!((tally.bad, tally.all), (2, 3));
        for rule in [output_tokens, prompt_tokens, trace_tokens] {
            assert_eq!(rule(Tally { bad: 1, all: 100 }).rating(), Some(Rating::Valid));
            assert_eq!(rule(Tally { bad: 2, all: 100 }).rating(), Some(Rating::Suspect));
            assert_eq!(rule(Tally { bad: 26, all: 100 }).rating(), Some(Rating::Invalid));
        }
    }

    #[test]
    fn records_that_are_missing_or_of_others_are_told() {
        assert_eq!(trace_missing(Tally { bad: 0, all: 3 }).rating(), Some(Rating::Valid));
        assert_eq!(trace_missing(Tally { bad: 1, all: 100 }).rating(), Some(Rating::Suspect));
        assert_eq!(trace_missing(Tally { bad: 1, all: 3 }).rating(), Some(Rating::Invalid));
        assert_eq!(trace_extra(1, 1000).rating(), Some(Rating::Valid));
        assert_eq!(trace_extra(20, 1000).rating(), Some(Rating::Suspect));
        assert_eq!(trace_extra(6000, 1000).rating(), Some(Rating::Suspect));
    }
}
