//! One request's decision as text: a row for each candidate, and what the shadow policies would have chosen.
//!
//! Rule: a column that no candidate has a value for is left out, and a value that is not known is a dash, never 0. Deliberately
//! not here: reading the trace.

use std::fmt::Write;

use crate::trace::decision::{CandidateRecord, DecisionRecord, EstimatesRecord, ServerLoadRecord};
use crate::trace::record::{AttemptRecord, RequestRecord};

/// What stands for a value that is not known.
const UNKNOWN: &str = "-";

/// The text of one request, ending with a line end.
pub fn decision_text(record: &RequestRecord) -> String {
    let mut out = String::new();
    head(&mut out, record);
    match &record.decision {
        Some(decision) => body(&mut out, record, decision),
        None if record.decided_ns.is_some() => out.push_str(
            "  its decision was not recorded (made while the capture was stopped, or with --trace-decisions off)\n",
        ),
        None => out.push_str("  no decision was made\n"),
    }
    out
}

// Writing to a String cannot fail, here and below.
fn head(out: &mut String, record: &RequestRecord) {
    let outcome = record.outcome.name();
    let ms = record.end_ns as f64 / 1e6;
    let _ = writeln!(
        out,
        "request {} ({}) {}: {outcome} after {ms:.1} ms",
        record.seq, record.request_id, record.path
    );
    for AttemptRecord { worker, error, .. } in &record.failed_attempts {
        let _ = writeln!(out, "  failed at {worker}: {error}");
    }
}

fn body(out: &mut String, record: &RequestRecord, decision: &DecisionRecord) {
    let policy = record.policy.as_deref().unwrap_or(UNKNOWN);
    let _ = write!(out, "  {policy}: {}", decision.reason);
    if let Some(cause) = &decision.fallback {
        let _ = write!(out, ", a fallback for {cause}");
    }
    let by = match (record.policy_by.as_deref(), record.split_arm.as_deref()) {
        (Some(by), _) => format!(", named by {by}"),
        (None, Some(arm)) => format!(", arm {arm} by {}", record.split_by.as_deref().unwrap_or(UNKNOWN)),
        (None, None) => String::new(),
    };
    let _ = writeln!(out, "{by}, in {:.1} us", decision.took_ns as f64 / 1e3);
    out.push_str("  ");
    if let Some(margin) = decision.margin {
        let _ = write!(out, "margin {margin}, ");
    }
    if let Some(ties) = decision.ties {
        let _ = write!(out, "{ties} with the best score, ");
    }
    if let Some(predicted) = record.predicted_cached_tokens {
        let cached = record.tokens.cached_tokens.map_or(UNKNOWN.to_owned(), |n| n.to_string());
        let _ = write!(out, "cached tokens predicted {predicted}, told {cached}, ");
    }
    if decision.candidates.is_empty() {
        out.push_str("no candidate was recorded\n");
    } else {
        let _ = writeln!(out, "eligible {}, here {}", decision.eligible, decision.candidates.len());
    }
    table(out, &columns(decision));
    for shadow in record.shadow.get().into_iter().flatten() {
        let worker = shadow.worker.as_deref().unwrap_or("nobody");
        let word = if shadow.agrees { "the same" } else { worker };
        let score = shadow.score.map(|score| format!(", score {score}")).unwrap_or_default();
        let _ = writeln!(out, "  shadow {}: {word} ({}{score})", shadow.policy, shadow.reason);
    }
}

/// A heading and a cell for each candidate.
type Column = (String, Vec<Option<String>>);

fn columns(decision: &DecisionRecord) -> Vec<Column> {
    let seen = &decision.candidates;
    let of = |name: &str, cell: fn(&CandidateRecord) -> Option<String>| {
        (name.to_owned(), seen.iter().map(cell).collect())
    };
    let mut columns: Vec<Column> = vec![
        of("", |c| c.chosen.then(|| "*".to_owned())),
        of("worker", |c| Some(c.worker.to_string())),
        of("score", |c| c.score.map(|n| n.to_string())),
        of("reason", |c| c.reason.as_ref().map(ToString::to_string)),
        of("in_flight", |c| Some(c.in_flight.to_string())),
        of("prefix_match_bytes", |c| c.prefix_match_bytes.map(|n| n.to_string())),
    ];
    for (place, name) in decision.part_names.iter().enumerate() {
        let part = |i: usize| decision.parts.get(i)?.values().get(place).copied().flatten();
        columns.push((name.to_string(), (0..seen.len()).map(|i| part(i).map(|n| n.to_string())).collect()));
    }
    columns.extend(estimates(&decision.estimates));
    columns.extend(server_loads(&decision.server_loads));
    columns.retain(|(_, cells)| cells.iter().any(Option::is_some));
    columns
}

fn estimates(all: &[EstimatesRecord]) -> impl Iterator<Item = Column> {
    type Cell = fn(&EstimatesRecord) -> Option<String>;
    let columns: [(&str, Cell); 11] = [
        ("prefix_match_tokens", |e| e.prefix_match_tokens.map(|n| n.to_string())),
        ("prefilling_requests", |e| e.prefilling_requests.map(|n| n.to_string())),
        ("decoding_requests", |e| e.decoding_requests.map(|n| n.to_string())),
        ("outstanding_prefill_tokens", |e| e.outstanding_prefill_tokens.map(|n| n.to_string())),
        ("outstanding_decode_tokens", |e| e.outstanding_decode_tokens.map(|n| n.to_string())),
        ("prefill_rate_tokens_per_s", |e| e.prefill_rate_tokens_per_s.map(|n| n.to_string())),
        ("decode_rate_tokens_per_s", |e| e.decode_rate_tokens_per_s.map(|n| n.to_string())),
        ("answered_tokens_per_s", |e| e.answered_tokens_per_s.map(|n| n.to_string())),
        ("latency_ewma_us", |e| e.latency_ewma_us.map(|n| n.to_string())),
        ("ttft_ewma_us", |e| e.ttft_ewma_us.map(|n| n.to_string())),
        ("cache_hit_rate", |e| e.cache_hit_rate.map(|n| n.to_string())),
    ];
    columns.into_iter().map(|(name, cell)| (name.to_owned(), all.iter().map(cell).collect()))
}

fn server_loads(all: &[ServerLoadRecord]) -> impl Iterator<Item = Column> {
    type Cell = fn(&ServerLoadRecord) -> Option<String>;
    let columns: [(&str, Cell); 6] = [
        ("queue_depth", |l| l.queue_depth.map(|n| n.to_string())),
        ("running", |l| l.running.map(|n| n.to_string())),
        ("kv_usage", |l| l.kv_usage.map(|n| n.to_string())),
        ("throughput_tokens_per_s", |l| l.throughput_tokens_per_s.map(|n| n.to_string())),
        ("server_load_age_us", |l| l.server_load_age_us.map(|n| n.to_string())),
        ("max_running_requests", |l| l.max_running_requests.map(|n| n.to_string())),
    ];
    columns.into_iter().map(|(name, cell)| (name.to_owned(), all.iter().map(cell).collect()))
}

/// Rows under their headings: words to the left, numbers to the right.
fn table(out: &mut String, columns: &[Column]) {
    let rows = columns.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
    let cell = |cells: &[Option<String>], row: usize| cells.get(row).cloned().flatten();
    let width = |(name, cells): &Column| {
        let widest = cells.iter().flatten().map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(name.chars().count()).max(1)
    };
    let heading = columns.iter().map(|column| format!("{:>1$}", column.0, width(column)));
    // The mark and the URL are words.
    let is_word = |name: &str| matches!(name, "" | "worker" | "reason");
    let heading = heading.zip(columns).map(|(right, column)| {
        if is_word(&column.0) { format!("{:<1$}", column.0, width(column)) } else { right }
    });
    let _ = writeln!(out, "  {}", heading.collect::<Vec<_>>().join("  ").trim_end());
    for row in 0..rows {
        let cells = columns.iter().map(|column| {
            let empty = if column.0.is_empty() { "" } else { UNKNOWN };
            let text = cell(&column.1, row).unwrap_or_else(|| empty.to_owned());
            if is_word(&column.0) {
                format!("{text:<0$}", width(column))
            } else {
                format!("{text:>0$}", width(column))
            }
        });
        let _ = writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::decision::{Late, Parts, ShadowRecord};
    use crate::trace::record::Outcome;

    #[test]
    fn a_decision_reads_as_a_table_without_the_columns_that_nobody_knows() {
        let candidate = |worker: &str, score: f64, in_flight: u32| CandidateRecord {
            worker: worker.into(),
            score: Some(score),
            in_flight,
            ..CandidateRecord::default()
        };
        let decision = DecisionRecord {
            reason: "lowest".into(),
            took_ns: 1_250,
            eligible: 2,
            margin: Some(1_500.0),
            ties: Some(1),
            candidates: vec![
                CandidateRecord { chosen: true, ..candidate("http://a:1", -500.0, 0) },
                candidate("http://bb:22", -2_000.0, 3),
            ],
            part_names: vec!["queue_us".into()],
            parts: vec![Parts::of(&[Some(0.0)]), Parts::of(&[None])],
            estimates: vec![
                EstimatesRecord { decoding_requests: Some(2), ..EstimatesRecord::default() },
                EstimatesRecord::default(),
            ],
            ..DecisionRecord::default()
        };
        let shadow = Late::awaited();
        let other = ShadowRecord {
            policy: "random".into(),
            worker: Some("http://bb:22".into()),
            reason: "any".into(),
            ..ShadowRecord::default()
        };
        shadow.set(vec![
            other,
            ShadowRecord {
                policy: "bucket".into(),
                agrees: true,
                reason: "bucket".into(),
                ..ShadowRecord::default()
            },
        ]);
        let record = RequestRecord {
            seq: 7,
            request_id: "r".to_owned(),
            path: "/generate".into(),
            policy: Some("lowest_ttft".into()),
            predicted_cached_tokens: Some(64),
            split_arm: Some("lowest_ttft".into()),
            split_by: Some("request_id".into()),
            decision: Some(decision),
            shadow,
            outcome: Outcome::Done,
            end_ns: 23_400_000,
            ..RequestRecord::default()
        };
        let expected = "\
request 7 (r) /generate: done after 23.4 ms
  lowest_ttft: lowest, arm lowest_ttft by request_id, in 1.2 us
  margin 1500, 1 with the best score, cached tokens predicted 64, told -, eligible 2, here 2
     worker        score  in_flight  queue_us  decoding_requests
  *  http://a:1     -500          0         0                  2
     http://bb:22  -2000          3         -                  -
  shadow random: http://bb:22 (any)
  shadow bucket: the same (bucket)
";
        assert_eq!(decision_text(&record), expected);
    }

    #[test]
    fn a_request_without_a_decision_says_so() {
        let text =
            decision_text(&RequestRecord { seq: 1, outcome: Outcome::Refused, ..RequestRecord::default() });
        assert!(text.ends_with("refused after 0.0 ms\n  no decision was made\n"), "{text}");
        let unrecorded = RequestRecord { decided_ns: Some(5), ..RequestRecord::default() };
        assert!(decision_text(&unrecorded).contains("its decision was not recorded"));
        let decision = Some(DecisionRecord { reason: "lowest".into(), ..DecisionRecord::default() });
        let text = decision_text(&RequestRecord { decision, ..unrecorded });
        assert!(text.contains("no candidate was recorded") && !text.contains("eligible"), "{text}");
    }
}
