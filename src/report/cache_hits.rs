//! How much of the prompts came from caches, beside how much could have.
//!
//! Rule: what was reached is the servers' own count, over the requests whose server told one; what an infinite cache over all
//! workers would hold is a property of the prompts in their order. Deliberately not here: finding that bound (`dataset::reuse`).

use serde_json::{Value, json};

use super::gather::Gathered;
use crate::load::run::RunReport;

/// Two shares that differ by less look alike in the summary.
const VISIBLE_SHARE: f64 = 0.0005;

/// Both shares, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CacheHits {
    /// Of the prompt tokens of requests whose server told; `None` if none did.
    pub reached: Option<f64>,
    /// With an infinite cache.
    pub possible: Option<f64>,
}

impl CacheHits {
    /// Of a run and the figures of its rows.
    pub fn of(run: &RunReport, gathered: &Gathered) -> Self {
        Self { reached: gathered.cache_hit_share, possible: run.reuse.and_then(|reuse| reuse.share()) }
    }

    /// The part of the possible that was reached, where anything was possible.
    pub fn of_possible(self) -> Option<f64> {
        Some(self.reached? / self.possible.filter(|share| *share > 0.0)?)
    }

    /// For the summary.
    pub fn line(self) -> Option<String> {
        let reached = self.reached?;
        let bound = self
            .possible
            .map(|share| format!(", {:.1} % with an infinite cache", 100.0 * share))
            .unwrap_or_default();
        Some(format!("{:.1} %{bound}", 100.0 * reached))
    }

    /// What to say where more was reached than the bound: then something else was in the caches. `flushed`: they were to be
    /// emptied before the run.
    pub fn above_bound(self, flushed: bool) -> Option<String> {
        let (reached, possible) = (self.reached?, self.possible?);
        let why = if flushed {
            "--flush-cache did not empty all of them, the servers have other clients, or a chat template is common to all prompts"
        } else {
            "what was in them before the run is not known; --flush-cache empties them"
        };
        (reached > possible + VISIBLE_SHARE).then(|| {
            format!(
                "{:.1} % of the prompt tokens came from caches and {:.1} % is all that an infinite one gets from this run: {why} (of texts the bound counts common words; tokens can have a little more in common)",
                100.0 * reached,
                100.0 * possible
            )
        })
    }

    /// For `run.json`.
    pub fn to_json(self) -> Value {
        json!({
            "reached_share": self.reached,
            "infinite_cache_share": self.possible,
            "reached_of_infinite_cache": self.of_possible(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_stands_beside_what_was_reached() {
        let hits = CacheHits { reached: Some(0.25), possible: Some(0.5) };
        assert_eq!(hits.line().as_deref(), Some("25.0 %, 50.0 % with an infinite cache"));
        assert_eq!(hits.of_possible(), Some(0.5));
        assert_eq!(CacheHits { possible: Some(0.0), ..hits }.of_possible(), None);
        assert_eq!(CacheHits { reached: None, ..hits }.line(), None);
    }
    #[test]
    fn a_share_above_its_bound_is_explained() {
        let hits = CacheHits { reached: Some(0.895), possible: Some(0.877) };
        let told = hits.above_bound(false).unwrap();
        assert!(told.starts_with("89.5 %") && told.contains("--flush-cache empties them"), "{told}");
        assert!(hits.above_bound(true).unwrap().contains("other clients"));
        assert_eq!(CacheHits { reached: Some(0.8771), ..hits }.above_bound(false), None);
        assert_eq!(CacheHits { possible: None, ..hits }.above_bound(false), None);
    }
}
