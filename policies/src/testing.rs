//! A fleet for the unit tests of policies: counts kept as the router keeps them. Deliberately not here: time, the index.

use crate::decision::Decision;
use crate::hash::name_hash;
use crate::policy::Policy;
use crate::view::{RequestView, Time, WorkerId, WorkerView, Workers};

/// Workers and the number of the last request.
pub(crate) struct Fleet {
    pub(crate) workers: Vec<WorkerView>,
    seq: u64,
}

impl Fleet {
    /// `size` idle workers that were never chosen.
    pub(crate) fn of(size: u32) -> Self {
        let worker = |id: u32| WorkerView {
            id: WorkerId(id),
            position: id,
            url_hash: name_hash(format!("http://10.0.0.{id}:8000").as_bytes()),
            ..WorkerView::default()
        };
        let workers = (0..size).map(worker).collect();
        Self { workers, seq: 0 }
    }

    pub(crate) fn in_flight<const N: usize>(&mut self, counts: [u32; N]) {
        for (worker, count) in self.workers.iter_mut().zip(counts) {
            worker.in_flight_requests = count;
        }
    }

    pub(crate) fn last_chosen<const N: usize>(&mut self, seqs: [u64; N]) {
        for (worker, seq) in self.workers.iter_mut().zip(seqs) {
            worker.last_chosen_seq = seq;
        }
    }

    pub(crate) fn prefix_matches<const N: usize>(&mut self, bytes: [u64; N]) {
        for (worker, bytes) in self.workers.iter_mut().zip(bytes) {
            worker.prefix_match_bytes = Some(bytes);
        }
    }

    /// Asks for the next request without text and counts it in; which worker took it.
    pub(crate) fn route(&mut self, policy: &mut dyn Policy) -> usize {
        self.route_text(policy, 0)
    }

    /// The same for a request with `prompt_bytes` of text.
    pub(crate) fn route_text(&mut self, policy: &mut dyn Policy, prompt_bytes: u64) -> usize {
        self.seq += 1;
        let request = RequestView { seq: self.seq, prompt_bytes, ..RequestView::default() };
        let index = ask_for(policy, &request, &self.workers).chosen().expect("chose a worker");
        self.workers[index].in_flight_requests += 1;
        self.workers[index].last_chosen_seq = self.seq;
        index
    }
}

/// One decision for a request without text.
pub(crate) fn ask(policy: &mut dyn Policy, seq: u64, workers: &[WorkerView]) -> Decision {
    ask_for(policy, &RequestView { seq, ..RequestView::default() }, workers)
}

/// One decision.
pub(crate) fn ask_for(
    policy: &mut dyn Policy,
    request: &RequestView<'_>,
    workers: &[WorkerView],
) -> Decision {
    let workers = Workers::new(workers).expect("at least one worker");
    let mut decision = Decision::default();
    decision.clear(workers.len());
    policy.choose(Time { us: request.seq }, request, &workers, &mut decision);
    decision
}
