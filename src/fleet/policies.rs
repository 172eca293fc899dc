//! What a request asks of the choice, and what the policies need to know of every request.
//!
//! Rule: what any of them needs is found out for every request, as they share the prefix index; it only grows. Deliberately not
//! here: whether a request may name a policy (`proxy::routing`), the critical section (`dispatch`), the policies themselves.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use milepost_policies::{Needs, POLICIES, PolicyId};

use super::worker::Worker;
use crate::config::worker_url::WorkerUrl;

/// What a request asks of the choice beside what a policy sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Who chooses.
    pub policy: PolicyId,
    /// The worker asked for.
    pub target: Option<Target>,
}

/// `X-SMG-Target-Worker`: which worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Its place among all workers, in the order in which they joined.
    Place(u32),
    /// Hash of its URL.
    UrlHash(u64),
}

impl Target {
    /// A number is a place, anything else a URL; what is neither names no worker.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        match text.parse() {
            Ok(place) => Self::Place(place),
            Err(_) => {
                let url = WorkerUrl::parse(text);
                Self::UrlHash(milepost_policies::name_hash(
                    url.as_ref().map_or(text, WorkerUrl::as_str).as_bytes(),
                ))
            }
        }
    }

    /// The place of the worker meant, one that none has if there is no such worker.
    pub(super) fn place<'a>(self, mut workers: impl Iterator<Item = &'a Worker>) -> u32 {
        match self {
            Self::Place(place) => place,
            Self::UrlHash(hash) => {
                workers.position(|w| w.url_hash == hash).map_or(u32::MAX, |place| place as u32)
            }
        }
    }
}

/// Versions of needs: one a policy, and one a kind of need that a reloaded script may add.
const MAX_VERSIONS: usize = POLICIES.len() + 1 + 8;

/// What the policies need, read for every request without a lock.
#[derive(Debug)]
pub(super) struct SharedNeeds {
    /// Each needs more than the one before.
    versions: Vec<OnceLock<Needs>>,
    latest: AtomicUsize,
}

impl SharedNeeds {
    pub(super) fn new(needs: Needs) -> Self {
        let mut versions = vec![OnceLock::from(needs)];
        versions.resize_with(MAX_VERSIONS, OnceLock::new);
        Self { versions, latest: AtomicUsize::new(0) }
    }

    pub(super) fn get(&self) -> Needs {
        self.versions[self.latest.load(Ordering::Acquire)].get().copied().unwrap_or_default()
    }

    /// Sets what is needed now. Called under the fleet's lock.
    pub(super) fn set(&self, needs: Needs) {
        let next = self.latest.load(Ordering::Relaxed) + 1;
        if needs != self.get()
            && let Some(version) = self.versions.get(next)
            && version.set(needs).is_ok()
        {
            self.latest.store(next, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_number_or_a_url_however_it_is_spelled() {
        assert_eq!(Target::parse(" 3 "), Target::Place(3));
        assert_eq!(Target::parse("http://GPU0:8000/"), Target::parse("http://gpu0:8000"));
        assert_ne!(Target::parse("http://gpu0:8000"), Target::parse("http://gpu1:8000"));
        assert!(matches!(Target::parse("-1"), Target::UrlHash(_)));
        assert_eq!(Target::parse("-1").place(std::iter::empty()), u32::MAX);
    }

    #[test]
    fn needs_only_grow_and_have_an_end() {
        let needs = SharedNeeds::new(Needs::default());
        needs.set(Needs { prefix_match: true, ..Needs::default() });
        assert!(needs.get().prefix_match);
        // More than there can be change nothing.
        for bytes in 1..100 {
            needs.set(Needs { prompt_hash_bytes: bytes, ..Needs::default() });
        }
        assert_eq!(needs.get().prompt_hash_bytes, MAX_VERSIONS as u64 - 2);
    }
}
