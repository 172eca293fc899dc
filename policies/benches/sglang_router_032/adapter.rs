//! The port as one of our policies, for a bench that runs all policies alike.
//!
//! Rule: a [`Policy`] sees hashes and no text, so whoever runs it tells the text of a request first, through [`Told`], and what a
//! poll of the servers gave. Only eligible workers are shown to a policy, as sglang-router filters them before it asks its own.
//! Deliberately not here: decisions.

use std::sync::{Arc, Mutex, PoisonError};

use milepost_policies::{Decision, Event, Policy, RequestView, Time, Workers};

use super::{Port032, Worker};

/// What the port has to know and no policy is told. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    text: Arc<str>,
    polls: Vec<(u64, Option<i64>)>,
}

impl Told {
    /// The routing text of the request that is asked about next.
    pub fn text(&self, text: Arc<str>) {
        self.with(|inner| inner.text = text);
    }

    /// A poll of `/get_load` at the worker with this URL hash gave so many tokens; `None`: it failed. Due for all workers every
    /// 30 s ([`super::power_of_two::POLL_INTERVAL_US`]).
    pub fn polled(&self, url_hash: u64, tokens: Option<i64>) {
        self.with(|inner| inner.polls.push((url_hash, tokens)));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Ported {
    name: &'static str,
    port: Port032,
    told: Told,
    // By slot, for the worker that leaves.
    urls: Vec<u64>,
    // Reused.
    shown: Vec<Worker>,
}

impl Ported {
    /// The policy under a name of the bench's choice, such as `sglang_router_032 cache_aware`.
    pub fn new(name: &'static str, port: Port032, told: Told) -> Self {
        Self { name, port, told, urls: Vec::new(), shown: Vec::new() }
    }
}

impl Policy for Ported {
    fn name(&self) -> &'static str {
        self.name
    }

    /// Does not score.
    fn choose(&mut self, now: Time, _request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        let (text, polls) =
            self.told.with(|inner| (Arc::clone(&inner.text), std::mem::take(&mut inner.polls)));
        if let Port032::PowerOfTwo(policy) = &mut self.port {
            for (url, tokens) in polls {
                policy.polled(url, tokens);
            }
        }
        self.shown.clear();
        for worker in workers {
            let slot = worker.id.0 as usize;
            if self.urls.len() <= slot {
                self.urls.resize(slot + 1, 0);
            }
            self.urls[slot] = worker.url_hash;
            let load = u64::from(worker.in_flight_requests);
            self.shown.push(Worker { url: worker.url_hash, load, available: true });
        }
        if let Some(choice) = self.port.choose(now, &text, &self.shown) {
            out.choose(choice.index, choice.branch);
        }
    }

    fn observe(&mut self, _now: Time, event: &Event) {
        if let Event::Left { worker } = event
            && let Some(&url) = self.urls.get(worker.0 as usize)
        {
            self.port.left(url);
        }
    }
}
