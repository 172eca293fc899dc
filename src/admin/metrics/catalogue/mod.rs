//! Every series of `/metrics`: its name, type, labels, unit, meaning, and when it moves.
//!
//! Rule: a family that is not listed here cannot be shown, and `docs/metrics-prometheus.md` is made of this list (a test
//! holds them equal). `peer` has the names that sglang-router's dashboards use, `own` has ours. Deliberately not here: the
//! numbers.

pub mod own;
pub mod peer;

use std::fmt::Write;

/// What the text format calls a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process or the worker ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

impl Kind {
    /// The word after `# TYPE name`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One family of series.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Names of its labels, in the order of the page.
    pub labels: &'static [&'static str],
    /// What one of it is.
    pub unit: &'static str,
    /// What it says; the page's `# HELP`.
    pub meaning: &'static str,
    /// When it changes.
    pub moves: &'static str,
}

/// All families: sglang-router's names, then ours.
pub fn all() -> impl Iterator<Item = &'static Family> {
    peer::ALL.iter().chain(own::ALL).copied()
}

/// The rows of the table in `docs/metrics-prometheus.md`.
pub fn table(families: &[&Family]) -> String {
    let mut out =
        "| series | type | labels | unit | meaning | moves |\n|---|---|---|---|---|---|\n".to_owned();
    for f in families {
        let labels = f.labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", ");
        let kind = f.kind.word();
        // Writing to a String cannot fail.
        let _ =
            writeln!(out, "| `{}` | {kind} | {labels} | {} | {} | {} |", f.name, f.unit, f.meaning, f.moves);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_this_list() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics-prometheus.md");
        let page = std::fs::read_to_string(path).unwrap();
        for rows in [table(peer::ALL), table(own::ALL)] {
            assert!(page.contains(&rows), "docs/metrics-prometheus.md should hold:\n{rows}");
        }
        let rows = page.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 5);
        assert_eq!(rows.count(), all().count(), "and no other series");
    }

    #[test]
    fn a_name_tells_its_type() {
        for f in all() {
            let total = f.name.ends_with("_total");
            assert_eq!(total, f.kind == Kind::Counter, "{}", f.name);
            let moment = f.name.contains("start_time") || f.name.ends_with("_age_seconds");
            assert_eq!(f.kind == Kind::Histogram, f.name.ends_with("_seconds") && !moment);
            assert!(!f.meaning.contains('|') && !f.moves.contains('|'), "{}: breaks the table", f.name);
            assert_eq!(all().filter(|other| other.name == f.name).count(), 1, "{}", f.name);
        }
    }
}
