//! `--slo "p99 ttft<500ms, p99 tpot<50ms"`: what is promised, and whether a run kept it.
//!
//! Rule: a promise about a figure that a run does not have is not kept. Deliberately not here: the figures.

use std::fmt;

use serde_json::Value;

use crate::report::quantity;

/// Figures of a distribution: as they are written, and as the JSON calls them; of one in how many requests each tells.
const FIGURES: [(&str, &str, u32); 8] = [
    ("mean", "mean", 1),
    ("p50", "median", 2),
    ("median", "median", 2),
    ("p90", "p90", 10),
    ("p95", "p95", 20),
    ("p99", "p99", 100),
    ("p99.9", "p999", 1000),
    ("max", "max", 1),
];
/// Other names of quantities.
const ALIASES: [(&str, &str); 2] = [("e2e", "total_latency"), ("e2el", "total_latency")];
/// Units, in milliseconds; without one a number is milliseconds.
const UNITS: [(&str, f64); 3] = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)];

/// One promise.
#[derive(Clone, Debug, PartialEq)]
struct Goal {
    figure: &'static str,
    quantity: &'static str,
    below_ms: f64,
    one_in: u32,
}

/// All that is promised; at least one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo(Vec<Goal>);

impl Slo {
    /// Reads `p99 ttft<500ms, p50 tpot<40`.
    ///
    /// # Errors
    /// A part is no promise; the message says which and shows one.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(|part| goal(part.trim())).collect::<Result<_, _>>().map(Self)
    }

    /// What a run did not keep, in words; empty where it kept all. `run`: its line of JSON.
    pub fn missed(&self, run: &Value) -> Vec<String> {
        let missed = |goal: &Goal| {
            let is = run["metrics"][format!("{}_{}_ms", goal.figure, goal.quantity)].as_f64();
            match is {
                Some(is) if is < goal.below_ms => None,
                Some(is) => Some(format!("{goal} is {is:.1}ms")),
                None => Some(format!("{goal} is not known")),
            }
        };
        self.0.iter().filter_map(missed).collect()
    }

    /// Requests without which a percentile is only the largest of them.
    pub fn fewest_requests(&self) -> u32 {
        self.0.iter().map(|goal| goal.one_in).max().unwrap_or(1)
    }
}

fn goal(text: &str) -> Result<Goal, String> {
    let names = || quantity::all().map(|q| q.name).collect::<Vec<_>>().join(", ");
    let wrong = || format!("expected a promise such as p99 ttft<500ms, got {text:?}");
    let (left, right) = text.split_once('<').ok_or_else(wrong)?;
    let mut words = left.split_whitespace();
    let (Some(figure), Some(quantity), None) = (words.next(), words.next(), words.next()) else {
        return Err(wrong());
    };
    let (_, figure, one_in) = FIGURES
        .iter()
        .find(|f| f.0 == figure)
        .ok_or_else(|| format!("{text:?}: {figure} is none of mean, p50, p90, p95, p99, p99.9, max"))?;
    let quantity = ALIASES.iter().find(|a| a.0 == quantity).map_or(quantity, |a| a.1);
    let quantity = quantity::named(quantity)
        .ok_or_else(|| format!("{text:?}: {quantity} is none of e2e, {}", names()))?
        .name;
    let right = right.trim();
    let unit = UNITS.iter().find_map(|(unit, ms)| Some((right.strip_suffix(unit)?, *ms)));
    let (number, unit_ms) = unit.unwrap_or((right, 1.0));
    match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => {
            Ok(Goal { figure, quantity, below_ms: number * unit_ms, one_in: *one_in })
        }
        _ => Err(wrong()),
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = if self.figure == "median" { "p50" } else { self.figure };
        write!(f, "{figure} {}<{}ms", self.quantity, self.below_ms)
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let goals: Vec<String> = self.0.iter().map(Goal::to_string).collect();
        f.write_str(&goals.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn promises_are_read_and_kept_or_not() {
        let slo = Slo::parse("p99 ttft<0.5s, p50 tpot < 50 , max e2e<9000us").unwrap();
        assert_eq!(slo.to_string(), "p99 ttft<500ms, p50 tpot<50ms, max total_latency<9ms");
        assert_eq!(slo.fewest_requests(), 100);
        let run =
            json!({"metrics": {"p99_ttft_ms": 499.9, "median_tpot_ms": 50.0, "max_total_latency_ms": null}});
        assert_eq!(slo.missed(&run), ["p50 tpot<50ms is 50.0ms", "max total_latency<9ms is not known"]);
    }

    #[test]
    fn what_is_no_promise_is_told() {
        for (bad, word) in [
            ("", "such as"),
            ("ttft<5ms", "such as"),
            ("p99 ttft<-1", "such as"),
            ("p99 ttft<fast", "such as"),
            ("p98 ttft<5", "p98 is none of"),
            ("p99 joy<5", "joy is none of e2e, server_latency"),
        ] {
            let told = Slo::parse(bad).unwrap_err();
            assert!(told.contains(word), "{bad}: {told}");
        }
    }
}
