//! Whether the figures of a run mean anything: VALID, SUSPECT or INVALID, with reasons.
//!
//! Rule: each rule is one small function from numbers to what it found, and says what it measured when all is well too; the
//! worst finding is the verdict. What cannot be judged (too short, nothing to compare with) is said and counts for nothing.
//! Deliberately not here: which columns stayed empty and why (`warnings`), and whether the server is good.

mod answers;
mod client;
mod faults;
mod moments;
mod pace;
mod steady;

use std::fmt;

use serde_json::{Value, json};

use self::answers::Answers;
use self::client::Ended;
use self::moments::Moments;
use super::metrics::Metrics;
use crate::load::row::Row;
use crate::load::run::RunReport;

/// How far a run can be believed, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rating {
    /// No rule found anything.
    Valid,
    /// Something is off; the reasons say for which figures that matters.
    Suspect,
    /// The figures are not those of the load that was asked for, or depend on how long it lasted.
    Invalid,
}

impl fmt::Display for Rating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "VALID",
            Self::Suspect => "SUSPECT",
            Self::Invalid => "INVALID",
        })
    }
}

/// Whose doing a finding is: a search for the highest rate goes on where the server is at its limit, and not where the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client did not make the load asked for, or did not measure it.
    Client,
    /// The load was made, and this is what became of it.
    Server,
}

impl Side {
    /// Its name in the JSON.
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// What one rule found.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Judged, and this bad, in words.
    Judged(Rating, String),
    /// Not judged, for this reason.
    Unjudged(String),
}

impl Finding {
    /// `value` against its two limits; at a limit it is still good.
    fn above(value: f64, suspect: f64, invalid: f64, text: String) -> Self {
        let rating = if value > invalid {
            Rating::Invalid
        } else if value > suspect {
            Rating::Suspect
        } else {
            Rating::Valid
        };
        Self::Judged(rating, text)
    }

    /// How bad; none where it was not judged.
    pub fn rating(&self) -> Option<Rating> {
        match self {
            Self::Judged(rating, _) => Some(*rating),
            Self::Unjudged(_) => None,
        }
    }
}

/// One rule and what it found.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Its name in the JSON.
    pub rule: &'static str,
    /// Whose doing it is.
    pub side: Side,
    /// What it found.
    pub finding: Finding,
}

impl Check {
    /// Its rating; none where it was not judged.
    pub fn rating(&self) -> Option<Rating> {
        self.finding.rating()
    }

    /// What it found, in words.
    pub fn text(&self) -> &str {
        match &self.finding {
            Finding::Judged(_, text) | Finding::Unjudged(text) => text,
        }
    }
}

/// All rules and what they found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// In the order in which they are told.
    pub checks: Vec<Check>,
}

/// What the rules ask of the rows, as these come.
#[derive(Debug)]
pub(super) struct Judging {
    answers: Answers,
    ended: Ended,
    moments: Option<Moments>,
}

impl Judging {
    /// Before the first row of a run.
    pub(super) fn begin(run: &RunReport) -> Self {
        Self { answers: Answers::of(run), ended: Ended::default(), moments: Moments::of(run) }
    }

    /// One row more.
    pub(super) fn add(&mut self, row: &Row) {
        self.answers.add(row);
        self.ended.add(row);
        if let Some(moments) = &mut self.moments {
            moments.add(row);
        }
    }

    /// The verdict on the run whose rows these were.
    pub(super) fn verdict(self, run: &RunReport, metrics: &Metrics) -> Verdict {
        let mut checks = Vec::new();
        let mut add = |side, rule, finding: Option<Finding>| {
            checks.extend(finding.map(|finding| Check { rule, side, finding }));
        };
        add(Side::Client, "interrupted", run.partial.then(interrupted));
        for (rule, finding) in pace::findings(run, self.moments.as_ref()) {
            add(Side::Client, rule, Some(finding));
        }
        add(Side::Client, "client_cpu", client::cpu_of(run));
        add(Side::Client, "littles_law", self.ended.littles_law_of(run));
        for (rule, finding) in steady::trends_of(run, self.moments.as_ref()) {
            add(Side::Server, rule, Some(finding));
        }
        if let Some(conducted) = &run.faults {
            add(Side::Client, "faults", Some(faults::made(conducted)));
            add(Side::Server, "errors_asked_for", Some(self.answers.asked_for()));
        }
        add(Side::Server, "errors", Some(self.answers.errors_of(metrics)));
        add(Side::Server, "output_tokens", self.answers.output_tokens_of(run));
        add(Side::Server, "prompt_tokens", self.answers.prompt_tokens_of(run));
        add(Side::Server, "trace_tokens", self.answers.trace_tokens_of(run));
        add(Side::Client, "trace_missing", self.answers.trace_missing_of(run));
        add(Side::Client, "trace_extra", answers::trace_extra_of(run));
        Verdict { checks }
    }
}

impl Verdict {
    /// The worst of all that was judged.
    pub fn rating(&self) -> Rating {
        self.worst(|_| true)
    }

    /// The worst of what is this side's doing.
    pub fn rating_of(&self, side: Side) -> Rating {
        self.worst(|check| check.side == side)
    }

    fn worst(&self, counts: impl Fn(&Check) -> bool) -> Rating {
        self.checks.iter().filter(|c| counts(c)).filter_map(Check::rating).max().unwrap_or(Rating::Valid)
    }

    /// What is not as it should be, worst first.
    pub fn reasons(&self) -> Vec<&Check> {
        let mut bad: Vec<&Check> =
            self.checks.iter().filter(|c| c.rating().is_some_and(|r| r > Rating::Valid)).collect();
        bad.sort_by_key(|c| std::cmp::Reverse(c.rating()));
        bad
    }

    /// The load was even and neither latency nor concurrency rose: what was measured does not depend on how long it lasted.
    /// False where that could not be judged.
    pub fn steady(&self) -> bool {
        let mut trends = self.checks.iter().filter(|c| c.rule.starts_with(steady::PREFIX)).peekable();
        trends.peek().is_some() && trends.all(|c| c.rating() == Some(Rating::Valid))
    }

    /// For the report.
    pub fn to_json(&self) -> Value {
        let word = |c: &Check| c.rating().map_or_else(|| "not judged".to_owned(), |r| r.to_string());
        json!({
            "rating": self.rating().to_string(),
            "client": self.rating_of(Side::Client).to_string(),
            "server": self.rating_of(Side::Server).to_string(),
            "steady": self.steady(),
            "reasons": self.reasons().iter().map(|c| format!("{}: {}", c.rule, c.text())).collect::<Vec<_>>(),
            "checks": self.checks.iter()
                .map(|c| json!({"rule": c.rule, "side": c.side.name(), "rating": word(c), "text": c.text()}))
                .collect::<Vec<_>>(),
        })
    }
}

fn interrupted() -> Finding {
    Finding::Judged(
        Rating::Suspect,
        "ended early: the figures are of the part that was sent and answered until then".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &'static str, side: Side, rating: Option<Rating>) -> Check {
        let finding = match rating {
            Some(rating) => Finding::Judged(rating, "x".to_owned()),
            None => Finding::Unjudged("too short".to_owned()),
        };
        Check { rule, side, finding }
    }

    #[test]
    fn the_worst_finding_is_the_verdict_and_comes_first() {
        let verdict = Verdict {
            checks: vec![
                check("a", Side::Client, Some(Rating::Valid)),
                check("b", Side::Client, Some(Rating::Suspect)),
                check("c", Side::Server, Some(Rating::Invalid)),
                check("d", Side::Server, None),
            ],
        };
        assert_eq!(verdict.rating(), Rating::Invalid);
        assert_eq!(verdict.rating_of(Side::Client), Rating::Suspect);
        assert_eq!(verdict.reasons().iter().map(|c| c.rule).collect::<Vec<_>>(), ["c", "b"]);
        assert_eq!(Verdict::default().rating(), Rating::Valid);
        let json = verdict.to_json();
        assert_eq!(
            (&json["checks"][3]["rating"], &json["checks"][3]["side"]),
            (&json!("not judged"), &json!("server"))
        );
    }

    #[test]
    fn steady_is_only_what_was_judged_so() {
        let of = |ratings: &[Option<Rating>]| Verdict {
            checks: ratings.iter().map(|r| check("trend_ttft", Side::Server, *r)).collect(),
        };
        assert!(of(&[Some(Rating::Valid); 2]).steady());
        assert!(!of(&[]).steady());
        assert!(!of(&[Some(Rating::Valid), None]).steady());
        assert!(!of(&[Some(Rating::Suspect)]).steady());
    }
}
