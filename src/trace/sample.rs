//! Which requests are kept where not all are: a share of all, every one that failed, and the slowest.
//!
//! Rule: the share is by a hash of the request id, so that it is the same in every router and every run; who is in it stands for
//! 1/share requests. Besides, what did not end as `done` is kept, and of each minute at least the so many slowest by whole time and by first
//! token: a request is kept if fewer of its minute were slower so far, so that each of the slowest is among them, with some that
//! were when they ended. Those say so (`kept_for`) and stand for themselves alone. Memory is so many numbers. Deliberately not
//! here: counting what is left out (`scribe`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use milepost_policies::name_hash;

use super::record::{Outcome, RequestRecord};

const MINUTE_NS: u64 = 60_000_000_000;

/// What of the requests is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Share of all, from 0 to 1 (`--trace-sample`).
    pub share: f64,
    /// The slowest of each minute that are kept besides (`--trace-slowest`).
    pub slowest_per_minute: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { share: 1.0, slowest_per_minute: 10 }
    }
}

impl Sampling {
    /// Not all are kept.
    pub fn is_on(&self) -> bool {
        self.share < 1.0
    }

    /// The request of this id is in the share.
    pub fn has(&self, request_id: &str) -> bool {
        !self.is_on() || name_hash(request_id.as_bytes()) < (self.share * u64::MAX as f64) as u64
    }
}

/// Judges requests as they end.
#[derive(Debug)]
pub(super) struct Sampler {
    sampling: Sampling,
    total: Slowest,
    first_token: Slowest,
}

/// Whether a request is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As one of its share.
    InShare,
    /// For what it is, in the word of `kept_for`.
    For(&'static str),
    /// Not at all.
    LeftOut,
}

impl Sampler {
    /// `None` where all are kept.
    pub(super) fn new(sampling: Sampling) -> Option<Self> {
        sampling.is_on().then(|| Self {
            sampling,
            total: Slowest::of(sampling.slowest_per_minute),
            first_token: Slowest::of(sampling.slowest_per_minute),
        })
    }

    pub(super) fn judge(&mut self, request: &RequestRecord) -> Verdict {
        let minute = (request.arrival_mono_ns + request.end_ns) / MINUTE_NS;
        // Both, so that each has seen all.
        let is_slow = self.total.takes(minute, request.end_ns);
        let begins_slowly = request.first_token_ns.is_some_and(|ns| self.first_token.takes(minute, ns));
        if self.sampling.has(&request.request_id) {
            Verdict::InShare
        } else if request.outcome != Outcome::Done {
            Verdict::For("error")
        } else if is_slow || begins_slowly {
            Verdict::For("slow")
        } else {
            Verdict::LeftOut
        }
    }
}

/// The slowest of a minute so far.
#[derive(Debug)]
struct Slowest {
    minute: u64,
    most: usize,
    /// The least of them on top.
    times_ns: BinaryHeap<Reverse<u64>>,
}

impl Slowest {
    fn of(most: usize) -> Self {
        Self { minute: 0, most, times_ns: BinaryHeap::with_capacity(most) }
    }

    fn takes(&mut self, minute: u64, time_ns: u64) -> bool {
        if minute > self.minute {
            self.minute = minute;
            self.times_ns.clear();
        }
        if self.times_ns.len() < self.most {
            self.times_ns.push(Reverse(time_ns));
            return true;
        }
        match self.times_ns.peek_mut() {
            Some(mut least) if least.0 < time_ns => {
                *least = Reverse(time_ns);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(n: u64, end_ns: u64) -> RequestRecord {
        RequestRecord {
            request_id: format!("id-{n}"),
            outcome: Outcome::Done,
            end_ns,
            ..RequestRecord::default()
        }
    }

    fn sampler(share: f64, slowest_per_minute: usize) -> Sampler {
        Sampler::new(Sampling { share, slowest_per_minute }).unwrap()
    }

    #[test]
    fn the_share_is_the_share_and_the_same_each_time() {
        let kept = || -> Vec<u64> {
            let mut sampler = sampler(0.1, 0);
            (0..20_000).filter(|n| sampler.judge(&request(*n, 1)) == Verdict::InShare).collect()
        };
        assert_eq!(kept(), kept());
        assert!((1_800..2_200).contains(&kept().len()), "{}", kept().len());
        assert!(Sampler::new(Sampling::default()).is_none());
    }

    #[test]
    fn what_failed_and_the_slowest_of_each_minute_are_kept() {
        let mut sampler = sampler(0.0, 3);
        let failed = RequestRecord { outcome: Outcome::WorkerError, ..request(0, 1) };
        // Three stand for nothing yet.
        (1..=3).for_each(|n| assert_eq!(sampler.judge(&request(n, 5)), Verdict::For("slow")));
        assert_eq!(sampler.judge(&failed), Verdict::For("error"));
        // Times in an order that jumps about.
        let times: Vec<u64> = (1..=1_000).map(|i| 10 + i * 7_919 % 1_000).collect();
        let kept: Vec<u64> = times
            .iter()
            .copied()
            .filter(|ns| sampler.judge(&request(*ns, *ns)) != Verdict::LeftOut)
            .collect();
        for slowest in [1_007, 1_008, 1_009] {
            assert!(kept.contains(&slowest), "{slowest}");
        }
        assert!(kept.len() < 60, "{}", kept.len());
        let late = RequestRecord { first_token_ns: Some(9), ..request(1, 9) };
        assert_eq!(sampler.judge(&late), Verdict::For("slow"), "nobody had a first token before");
        let next = RequestRecord { arrival_mono_ns: MINUTE_NS, ..request(1, 2) };
        assert_eq!(sampler.judge(&next), Verdict::For("slow"), "a minute begins anew");
    }
}
