//! The numbers that have labels: fixed tables, one place for each set of label values.
//!
//! Rule: a request finds its place by numbers (`labels`), adds with relaxed atomics, and never locks, hashes or allocates,
//! save for the first use of a place. Deliberately not here: names and text (`page`), workers' numbers (`fleet::meters`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use milepost_policies::script::Cause;

use super::labels::{ENDPOINTS, METHODS, Names, OTHER, PATHS};
use crate::fleet::meters::Histogram;

/// Distinct models with series of their own, `default` (no model in the body) included.
const MODELS: usize = 33;
/// Distinct policies.
const POLICIES: usize = 24;
/// Reasons why a policy may not be able to decide.
const CAUSES: usize = Cause::ALL.len();
/// Distinct pairs of status and error code.
const PROBLEMS: usize = 64;
/// Attempts whose back-off is shown apart.
pub(super) const BACKOFFS: usize = 16;
/// What a body without a model counts as; sglang-router's word.
const NO_MODEL: &str = "default";
/// Statuses that HTTP can say.
const STATUSES: std::ops::RangeInclusive<u16> = 100..=999;

/// Why a routed request got no good answer; sglang-router's words.
pub(super) const ROUTER_ERRORS: [&str; 5] =
    ["validation_error", "backend_error", "no_workers", "timeout", "internal_error"];
/// How a worker failed an attempt.
pub(super) const WORKER_ERRORS: [&str; 2] = ["backend_error", "timeout"];

/// Places that are made at their first use.
#[derive(Debug)]
pub(super) struct Table<T>(Box<[OnceLock<Box<T>>]>);

impl<T> Table<T> {
    fn new(places: usize) -> Self {
        Self((0..places).map(|_| OnceLock::new()).collect())
    }

    /// The places in use, with their numbers.
    pub(super) fn used(&self) -> impl Iterator<Item = (usize, &T)> {
        self.0.iter().enumerate().filter_map(|(i, place)| Some((i, &**place.get()?)))
    }

    fn at(&self, place: usize, make: impl FnOnce() -> T) -> &T {
        self.0[place].get_or_init(|| Box::new(make()))
    }
}

/// One method and path.
#[derive(Debug)]
pub(super) struct HttpSeries {
    pub(super) requests: AtomicU64,
    pub(super) duration: Histogram,
}

/// One model and endpoint.
#[derive(Debug)]
pub(super) struct RouterSeries {
    /// Not streamed, streamed.
    pub(super) requests: [AtomicU64; 2],
    pub(super) errors: [AtomicU64; ROUTER_ERRORS.len()],
    pub(super) duration: Histogram,
}

/// Answers by status.
#[derive(Debug)]
pub(super) struct Statuses(Box<[AtomicU64]>);

impl Statuses {
    fn new() -> Self {
        Self(STATUSES.map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn add(&self, status: u16) {
        if let Some(n) = status.checked_sub(*STATUSES.start()).and_then(|i| self.0.get(usize::from(i))) {
            n.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The statuses that were seen, and how often.
    pub(super) fn seen(&self) -> impl Iterator<Item = (u16, u64)> {
        STATUSES.zip(&self.0).map(|(status, n)| (status, n.load(Ordering::Relaxed))).filter(|(_, n)| *n > 0)
    }
}

/// The router's own errors by status and code.
#[derive(Debug)]
pub(super) struct Problems {
    pairs: [OnceLock<(u16, &'static str)>; PROBLEMS],
    // One more than pairs: those that found no place.
    counts: [AtomicU64; PROBLEMS + 1],
}

impl Problems {
    fn new() -> Self {
        Self {
            pairs: [const { OnceLock::new() }; PROBLEMS],
            counts: [const { AtomicU64::new(0) }; PROBLEMS + 1],
        }
    }

    pub(super) fn add(&self, status: u16, code: &'static str) {
        let place = self.pairs.iter().position(|pair| *pair.get_or_init(|| (status, code)) == (status, code));
        self.counts[place.unwrap_or(PROBLEMS)].fetch_add(1, Ordering::Relaxed);
    }

    /// Status and code, `None` for what found no place, and how often.
    pub(super) fn seen(&self) -> impl Iterator<Item = (Option<(u16, &'static str)>, u64)> {
        let pairs = self.pairs.iter().map(|pair| pair.get().copied()).chain([None]);
        pairs.zip(&self.counts).map(|(pair, n)| (pair, n.load(Ordering::Relaxed))).filter(|(_, n)| *n > 0)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Counts {
    bounds_ns: Box<[u64]>,
    /// Method by path.
    pub(super) http: Table<HttpSeries>,
    pub(super) responses: Statuses,
    pub(super) problems: Problems,
    pub(super) upstream: Statuses,
    pub(super) models: Names<MODELS>,
    pub(super) policies: Names<POLICIES>,
    /// Model by endpoint.
    pub(super) router: Table<RouterSeries>,
    /// Model by policy.
    selections: Box<[AtomicU64]>,
    /// Policy by cause, the last cause being any other.
    fallbacks: [[AtomicU64; CAUSES + 1]; POLICIES + 1],
    pub(super) worker_errors: [AtomicU64; WORKER_ERRORS.len()],
    pub(super) retries: [AtomicU64; ENDPOINTS.len()],
    pub(super) retries_exhausted: [AtomicU64; ENDPOINTS.len()],
    /// By attempt, from 1.
    pub(super) backoffs: Table<Histogram>,
}

impl Counts {
    pub(super) fn new(bounds_ns: &[u64]) -> Self {
        let models = Names::new();
        // The first place is its own whatever clients send.
        models.index(NO_MODEL);
        Self {
            bounds_ns: bounds_ns.into(),
            http: Table::new(METHODS.len() * PATHS),
            responses: Statuses::new(),
            problems: Problems::new(),
            upstream: Statuses::new(),
            models,
            policies: Names::new(),
            router: Table::new((MODELS + 1) * ENDPOINTS.len()),
            selections: (0..(MODELS + 1) * (POLICIES + 1)).map(|_| AtomicU64::new(0)).collect(),
            fallbacks: Default::default(),
            worker_errors: Default::default(),
            retries: Default::default(),
            retries_exhausted: Default::default(),
            backoffs: Table::new(BACKOFFS),
        }
    }

    pub(super) fn http(&self, method: usize, path: usize) -> &HttpSeries {
        let make = || HttpSeries { requests: AtomicU64::new(0), duration: Histogram::new(&self.bounds_ns) };
        self.http.at(method * PATHS + path, make)
    }

    /// The number of a body's model.
    pub(super) fn model(&self, model: Option<&str>) -> usize {
        model.map_or(0, |model| self.models.index(model))
    }

    pub(super) fn router(&self, model: usize, endpoint: usize) -> &RouterSeries {
        let make = || RouterSeries {
            requests: Default::default(),
            errors: Default::default(),
            duration: Histogram::new(&self.bounds_ns),
        };
        self.router.at(model * ENDPOINTS.len() + endpoint, make)
    }

    pub(super) fn select(&self, model: usize, policy: &str, attempts: u64) {
        let place = model * (POLICIES + 1) + self.policies.index(policy);
        self.selections[place].fetch_add(attempts, Ordering::Relaxed);
    }

    /// Model, policy, and how often the policy chose for it.
    pub(super) fn selections(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.selections.iter().enumerate().filter_map(|(i, n)| {
            let n = n.load(Ordering::Relaxed);
            let (model, policy) = (i / (POLICIES + 1), i % (POLICIES + 1));
            (n > 0).then_some((self.models.word(model)?, self.policies.word(policy)?, n))
        })
    }

    pub(super) fn fall_back(&self, policy: &str, reason: &str) {
        let cause = Cause::ALL.iter().position(|cause| cause.reason() == reason).unwrap_or(CAUSES);
        self.fallbacks[self.policies.index(policy)][cause].fetch_add(1, Ordering::Relaxed);
    }

    /// Policy, why it could not decide, and how often.
    pub(super) fn fallbacks(&self) -> impl Iterator<Item = (&str, &'static str, u64)> {
        let causes = Cause::ALL.map(Cause::word).into_iter().chain([OTHER]);
        self.fallbacks.iter().enumerate().flat_map(move |(policy, by_cause)| {
            causes.clone().zip(by_cause).filter_map(move |(cause, n)| {
                let n = n.load(Ordering::Relaxed);
                (n > 0).then_some((self.policies.word(policy)?, cause, n))
            })
        })
    }

    /// The pause after an attempt, counted from 1.
    pub(super) fn back_off(&self, attempt: usize, ns: u64) {
        let place = attempt.clamp(1, BACKOFFS) - 1;
        self.backoffs.at(place, || Histogram::new(&self.bounds_ns)).observe_ns(ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_whatever_its_status_and_an_error_whatever_its_code() {
        let counts = Counts::new(&[1]);
        for status in [200, 999, 200, 99, 1000] {
            counts.upstream.add(status);
        }
        assert_eq!(counts.upstream.seen().collect::<Vec<_>>(), [(200, 2), (999, 1)]);
        for status in 500..570 {
            counts.problems.add(status, "x");
        }
        assert_eq!(
            counts.problems.seen().map(|(_, n)| n).sum::<u64>(),
            70,
            "six found no place, and are counted"
        );
        assert_eq!(counts.problems.seen().last(), Some((None, 6)));
    }
}
