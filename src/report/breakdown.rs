//! The same figures for parts of the requests: each worker, prefix group, phase, session, turn.
//!
//! Rule: a way to divide is one line of [`KEYS`]; a row that does not know its part is in none. Deliberately not here: the
//! figures of the whole run.

use serde_json::{Map, Value, json};

use super::lines::{Lines, figure, percent};
use super::stats::Summary;
use crate::load::row::Row;

/// Parts that the summary shows of one key.
const SHOWN: usize = 10;
/// Parts that `run.json` holds of one key.
const KEPT: usize = 1000;

/// A way to divide requests.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// In `run.json`: `by_` and this.
    pub name: &'static str,
    /// In the summary.
    pub title: &'static str,
    /// Which part a row is of.
    pub of: fn(&Row) -> Option<String>,
}

/// All of them.
pub const KEYS: [Key; 5] = [
    Key { name: "worker", title: "worker", of: |r| r.host.clone() },
    Key { name: "prefix_group", title: "prefix group", of: |r| r.group.map(|g| g.to_string()) },
    Key { name: "phase", title: "phase", of: |r| r.phase.clone() },
    Key { name: "session", title: "session", of: |r| r.turn.map(|(session, _)| session.to_string()) },
    Key { name: "turn", title: "turn of a session", of: |r| r.turn.map(|(_, turn)| turn.to_string()) },
];

/// One part of the requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Requests, well or not.
    pub requests: u64,
    /// Of these, successful.
    pub succeeded: u64,
    /// Generated tokens of those.
    pub output_tokens: u64,
    /// Share of prompt tokens from the cache, where it is told.
    pub cache_hit_rate: Option<f64>,
    /// TTFT in milliseconds.
    pub ttft: Option<Summary>,
    /// TPOT in milliseconds.
    pub tpot: Option<Summary>,
    /// E2E latency in milliseconds.
    pub e2e: Option<Summary>,
    /// One of its workers says that it is simulated.
    pub simulated: bool,
    /// When the first of its requests was due, nanoseconds after the start of the run.
    pub first_ns: i64,
}

/// Phases in order of time; of other keys those with the most requests first, and numbers as names in the order of numbers.
pub fn ordered(key: &Key, mut parts: Vec<Part>) -> Vec<Part> {
    let by_time = key.name == "phase";
    parts.sort_by(|a, b| {
        let time = if by_time { a.first_ns.cmp(&b.first_ns) } else { std::cmp::Ordering::Equal };
        time.then(b.requests.cmp(&a.requests)).then(a.name.len().cmp(&b.name.len())).then(a.name.cmp(&b.name))
    });
    parts
}

/// For `run.json`: the first thousand by name, and how many are left out, with those that are not among `parts` at all.
pub fn to_json(parts: &[Part], left_out: u64) -> Value {
    let one = |p: &Part| {
        let figures = |s: Option<Summary>| {
            s.map(|s| {
                json!({"mean_ms": s.mean, "median_ms": s.median, "p90_ms": s.p90, "p99_ms": s.p99, "count": s.count})
            })
        };
        json!({
            "requests": p.requests,
            "succeeded": p.succeeded,
            "output_tokens": p.output_tokens,
            "cache_hit_rate": p.cache_hit_rate,
            "ttft": figures(p.ttft),
            "tpot": figures(p.tpot),
            "total_latency": figures(p.e2e),
        })
    };
    let kept = parts.iter().take(KEPT).map(|p| (p.name.clone(), one(p))).collect::<Map<_, _>>();
    json!({ "parts": kept, "left_out": parts.len().saturating_sub(KEPT) as u64 + left_out })
}

/// As a table of the ten with the most requests. `left_out`: parts that are not among them at all; `all`: the requests that shares are of.
pub fn print(out: &mut Lines, key: &Key, parts: &[Part], left_out: u64, all: u64) {
    if parts.is_empty() {
        return;
    }
    out.rule('-', &format!(" By {} (ms) ", key.title));
    out.line(&format!(
        "{:<27}{:>9}{:>8}{:>9}{:>8}{:>9}{:>9}{:>9}{:>9}",
        "", "n", "share", "ok", "cached", "TTFT p50", "p99", "E2E p50", "p99"
    ));
    let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
    for p in parts.iter().take(SHOWN) {
        let mark = if p.simulated && key.name == "worker" { " SIMULATED" } else { "" };
        out.line(&format!(
            "{:<27}{:>9}{:>8}{:>9}{:>8}{:>9}{:>9}{:>9}{:>9}",
            format!("{}{mark}", p.name),
            p.requests,
            percent(p.requests as f64 / all.max(1) as f64),
            p.succeeded,
            p.cache_hit_rate.map_or_else(|| "-".to_owned(), percent),
            cell(p.ttft.map(|s| s.median)),
            cell(p.ttft.map(|s| s.p99)),
            cell(p.e2e.map(|s| s.median)),
            cell(p.e2e.map(|s| s.p99)),
        ));
    }
    if parts.len() > SHOWN {
        let more = (parts.len() - SHOWN) as u64 + left_out;
        out.line(&format!("and {more} more, in run.json"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::failure::{Class, Failure};
    use crate::load::row::example;
    use crate::report::Metrics;

    #[test]
    fn parts_of_four_rows_by_hand() {
        let other = || Row { group: Some(7), host: None, cached_tokens: None, ..example() };
        let failed = Row { failure: Some(Failure::new(Class::Reset, "x")), ..other() };
        let rows = [example(), other(), failed, Row { group: None, ..example() }];
        let mut metrics = Metrics::of(&rows);
        let groups = metrics.breakdown.swap_remove(1);
        let told: Vec<_> = groups.iter().map(|p| (p.name.as_str(), p.requests, p.succeeded)).collect();
        assert_eq!(told, [("7", 2, 1), ("2", 1, 1)]);
        assert_eq!((groups[0].cache_hit_rate, groups[1].cache_hit_rate), (None, Some(1.0 / 3.0)));
        assert_eq!((groups[0].ttft.unwrap().count, groups[0].ttft.unwrap().median), (1, 21.0));
        let json = to_json(&groups, 0);
        assert_eq!((&json["parts"]["7"]["cache_hit_rate"], &json["left_out"]), (&Value::Null, &json!(0)));
        assert!(Metrics::of(&rows).breakdown[2].is_empty());
    }

    #[test]
    fn the_table_shows_ten_and_says_how_many_more() {
        let rows: Vec<Row> = (0..12).map(|g| Row { group: Some(g), ..example() }).collect();
        let mut out = Lines::default();
        print(&mut out, &KEYS[1], &Metrics::of(&rows).breakdown[1], 0, 12);
        assert_eq!(out.0.lines().count(), 13);
        assert!(out.0.ends_with("and 2 more, in run.json\n"));
        assert!(out.0.lines().all(|l| l.chars().count() <= super::super::lines::WIDTH), "{}", out.0);
    }

    #[test]
    fn sessions_and_turns_are_parts_where_there_are_any() {
        let rows = [(1, 1), (1, 2), (2, 1)].map(|turn| Row { turn: Some(turn), ..example() });
        let metrics = Metrics::of(&rows);
        let told: Vec<Vec<_>> = metrics.breakdown[3..]
            .iter()
            .map(|parts| parts.iter().map(|p| (p.name.as_str(), p.requests)).collect())
            .collect();
        assert_eq!(told, vec![vec![("1", 2), ("2", 1)]; 2]);
        assert!(Metrics::of(&[example()]).breakdown[3..].iter().all(Vec::is_empty));
    }
}
