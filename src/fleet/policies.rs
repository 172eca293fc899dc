//! The policies that choose: the configured one, and those that requests name.
//!
//! Rule: each policy that is named is built once, with the settings of the configured one, and from then on all of them are
//! told everything. What any of them needs is found out for every request, as they share the prefix index; it only grows.
//! Deliberately not here: whether a request may name one (`proxy::routing`), the critical section (`dispatch`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use milepost_policies::{Event, Needs, POLICIES, Policy, PolicyConfig, Time, UnknownPolicy};

use super::worker::Worker;
use crate::config::worker_url::WorkerUrl;

/// Which of a fleet's policies; the default is the configured one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyId(usize);

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

/// The policies of a fleet, the configured one first.
pub(super) struct Policies(Vec<Box<dyn Policy>>);

impl Policies {
    pub(super) fn new(configured: Box<dyn Policy>) -> Self {
        Self(vec![configured])
    }

    /// The policy called `name`, built with `config` and told of `joined` if it is not there yet.
    pub(super) fn named(
        &mut self,
        name: &str,
        config: &PolicyConfig,
        now: Time,
        joined: impl Iterator<Item = Event>,
    ) -> Result<PolicyId, UnknownPolicy> {
        if let Some(place) = self.0.iter().position(|policy| policy.name() == name) {
            return Ok(PolicyId(place));
        }
        let mut policy = milepost_policies::build(name, config)?;
        joined.for_each(|event| policy.observe(now, &event));
        self.0.push(policy);
        Ok(PolicyId(self.0.len() - 1))
    }

    /// Tells all of them.
    pub(super) fn observe(&mut self, now: Time, event: &Event) {
        for policy in &mut self.0 {
            policy.observe(now, event);
        }
    }

    /// The one that is meant; ids are given by [`Policies::named`], so the configured one is no silent stand-in.
    pub(super) fn get(&mut self, id: PolicyId) -> &mut dyn Policy {
        let place = if id.0 < self.0.len() { id.0 } else { 0 };
        &mut *self.0[place]
    }

    /// What any of them needs.
    pub(super) fn needs(&self) -> Needs {
        self.0.iter().fold(Needs::default(), |needs, policy| needs.union(policy.needs()))
    }
}

/// What the policies need, read for every request without a lock.
#[derive(Debug)]
pub(super) struct SharedNeeds {
    /// Each needs more than the one before, so there are no more than policies.
    versions: Vec<OnceLock<Needs>>,
    latest: AtomicUsize,
}

impl SharedNeeds {
    pub(super) fn new(needs: Needs) -> Self {
        let mut versions = vec![OnceLock::from(needs)];
        versions.resize_with(POLICIES.len() + 1, OnceLock::new);
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
    fn a_policy_is_built_once_and_needs_only_grow() {
        let config = PolicyConfig::default();
        let mut policies = Policies::new(milepost_policies::build("round_robin", &config).unwrap());
        let mut named = |name| policies.named(name, &config, Time::default(), std::iter::empty());
        assert_eq!(named("round_robin"), Ok(PolicyId::default()));
        assert_eq!((named("cache_aware"), named("cache_aware")), (Ok(PolicyId(1)), Ok(PolicyId(1))));
        assert!(named("cache-aware").is_err());
        let needs = SharedNeeds::new(Needs::default());
        needs.set(policies.needs());
        assert!(needs.get().prefix_match);
        // More names than there are policies cannot be; too many versions change nothing.
        for bytes in 1..100 {
            needs.set(Needs { prompt_hash_bytes: bytes, ..Needs::default() });
        }
        assert_eq!(needs.get().prompt_hash_bytes, POLICIES.len() as u64 - 1);
    }
}
