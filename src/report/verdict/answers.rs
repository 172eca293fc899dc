//! Whether the answers are those that were asked for, and whether each has its one record in the router's trace.
//!
//! Rule: shares of requests, so that one odd answer among thousands is told in its row and nowhere else. Deliberately not here:
//! why a request failed (its row), and which columns are empty (`warnings`).

use super::Finding;
use super::faults::Theirs;
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

pub(super) fn errors_of(metrics: &Metrics, run: &RunReport) -> Finding {
    // Errors of a fault that was asked for are told apart, and what Ctrl-C cut or kept from being sent is no failure of the server.
    let theirs = Theirs::of(run.faults.as_ref());
    let cut = |row: &Row| {
        row.failure.as_ref().is_some_and(|f| matches!(f.class, Class::Interrupted | Class::NotSent))
    };
    let left_out = run.rows.iter().filter(|row| cut(row) || theirs.has(row));
    let (failed, all) =
        left_out.fold((0, 0), |(failed, all), row| (failed + usize::from(!row.success()), all + 1));
    errors((metrics.requests - metrics.completed) as usize - failed, metrics.requests as usize - all)
}

fn errors(failed: usize, all: usize) -> Finding {
    share_of(failed, all, FAILED, format!("{failed} of {all} requests failed; latencies are of the others"))
}

/// Counts the rows of `pairs` whose two counts differ.
fn differ(pairs: impl Iterator<Item = (u64, u64)>) -> (usize, usize) {
    pairs.fold((0, 0), |(bad, all), (a, b)| (bad + usize::from(a != b), all + 1))
}

pub(super) fn output_tokens_of(run: &RunReport) -> Option<Finding> {
    // Several answers in one have as many times the tokens.
    let asked_once =
        run.config.request.ignore_eos && !run.config.request.extra.contains_key("sampling_params");
    let good = run.rows.iter().filter(|r| r.success());
    let pairs = good.filter_map(|r| Some((r.max_new_tokens?, r.completion_tokens?)));
    (asked_once && !run.config.request.extra.contains_key("n")).then(|| output_tokens(differ(pairs)))
}

fn output_tokens((bad, all): (usize, usize)) -> Finding {
    let text = format!(
        "{bad} of {all} answers have not the number of tokens asked for{}",
        if bad > 0 { "; the server does not keep ignore_eos, or they were cut" } else { "" }
    );
    share_of(bad, all, MISCOUNTED, text)
}

pub(super) fn prompt_tokens_of(run: &RunReport) -> Option<Finding> {
    // Only token ids have a length that is known before; of a text the words are planned.
    let exact = run.rows.iter().filter(|r| r.success() && r.input_words.is_none());
    let pairs = exact.filter_map(|r| Some((r.planned_tokens, r.prompt_tokens?)));
    (run.config.backend == Backend::Native).then(|| differ(pairs)).filter(|d| d.1 > 0).map(prompt_tokens)
}

fn prompt_tokens((bad, all): (usize, usize)) -> Finding {
    let text =
        format!("{bad} of {all} prompts of token ids are not as long for the server as they were sent");
    share_of(bad, all, MISCOUNTED, text)
}

pub(super) fn trace_tokens_of(run: &RunReport) -> Option<Finding> {
    let both = run.rows.iter().filter(|r| r.success());
    let counts = differ(both.filter_map(|r| Some((r.completion_tokens?, r.trace_completion_tokens?))));
    (run.has_trace && counts.1 > 0).then(|| trace_tokens(counts))
}

fn trace_tokens((bad, all): (usize, usize)) -> Finding {
    let text = format!("client and router's trace disagree on the tokens of {bad} of {all} answers");
    share_of(bad, all, MISCOUNTED, text)
}

pub(super) fn trace_missing_of(run: &RunReport) -> Option<Finding> {
    let sent = run.rows.iter().filter(|r| r.sent_ns.is_some());
    let (missing, all) = sent.fold((0, 0), |(missing, all), r| (missing + usize::from(!r.in_trace), all + 1));
    run.has_trace.then(|| trace_missing(missing, all))
}

fn trace_missing(missing: usize, sent: usize) -> Finding {
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
        assert_eq!(differ([(8, 8), (8, 7), (8, 9)].into_iter()), (2, 3));
        for rule in [output_tokens, prompt_tokens, trace_tokens] {
            assert_eq!(rule((1, 100)).rating(), Some(Rating::Valid));
            assert_eq!(rule((2, 100)).rating(), Some(Rating::Suspect));
            assert_eq!(rule((26, 100)).rating(), Some(Rating::Invalid));
        }
    }

    #[test]
    fn records_that_are_missing_or_of_others_are_told() {
        assert_eq!(trace_missing(0, 3).rating(), Some(Rating::Valid));
        assert_eq!(trace_missing(1, 100).rating(), Some(Rating::Suspect));
        assert_eq!(trace_missing(1, 3).rating(), Some(Rating::Invalid));
        assert_eq!(trace_extra(1, 1000).rating(), Some(Rating::Valid));
        assert_eq!(trace_extra(20, 1000).rating(), Some(Rating::Suspect));
        assert_eq!(trace_extra(6000, 1000).rating(), Some(Rating::Suspect));
    }
}
