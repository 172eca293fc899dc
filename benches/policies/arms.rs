//! Who chooses: each policy of ours through the router's own `Chooser`, and the port of sglang-router 0.3.2.
//!
//! Rule: an arm is found by its name in the registry, so a policy that is registered appears by itself; those that cannot be
//! compared here are named with the reason. Deliberately not here: time, engines.

use milepost::sim::engine::Load;
use milepost::sim::virtual_fleet::POLL_EVERY_NS;
use milepost_policies::{
    Chooser, Eligible, Event, Joining, POLICIES, Policy, PolicyConfig, PolicyId, PrefixIndex, RequestView,
    Time, WorkerId, build, name_hash,
};

use crate::peer::Peer;
use crate::sglang_router_032::Port032;
use crate::workload::Request;

/// The router whose policies are ported, as tables name it.
pub const PEER: &str = "sglang_router_032";
/// A worker gets no more than this many times its share where loads are bounded.
const LOAD_FACTOR: f64 = 1.25;
/// Memory of the prefix index: enough that nothing is ever dropped for want of it.
const INDEX_BYTES: usize = 256 << 20;

/// Left out, and why.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("manual", "keeps what a key was given; the workloads are about prompts and load"),
    (
        "consistent_hashing",
        "without bounded loads it places by key alone, and one hot tenant sets its capacity",
    ),
    ("bucket", "made for prefill servers of disaggregated fleets: places by the prompt's length alone"),
];

/// A request, for whoever chooses.
pub struct Ask<'a> {
    /// Its number, from 1.
    pub seq: u64,
    /// What is asked.
    pub request: &'a Request,
    /// Its prompt.
    pub tokens: &'a [u32],
    /// Requests in flight at each worker.
    pub in_flight: &'a [u32],
}

/// An answer that is complete.
pub struct End {
    /// See [`Ask::seq`].
    pub seq: u64,
    /// Who gave it.
    pub worker: usize,
    /// From arrival to end.
    pub latency_ns: u64,
    /// By the server's count.
    pub prompt_tokens: u32,
    /// By the server's count.
    pub completion_tokens: u32,
    /// By the server's count.
    pub cached_tokens: u32,
}

/// Somebody who chooses.
pub trait Router {
    /// A worker for a request.
    fn choose(&mut self, now_ns: u64, ask: &Ask<'_>) -> usize;
    /// A first token came.
    fn first_token(&mut self, now_ns: u64, seq: u64, worker: usize, ttft_ns: u64);
    /// An answer ended.
    fn ended(&mut self, now_ns: u64, end: &End);
    /// How often it asks the servers for their loads.
    fn poll_every_ns(&self) -> Option<u64>;
    /// What a server says of itself.
    fn loaded(&mut self, now_ns: u64, worker: usize, load: &Load);
}

/// Something that can be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Its name in tables.
    pub name: String,
    make: Make,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Make {
    Ours(&'static str, PolicyConfig),
    Peer(&'static str),
}

impl Arm {
    /// All of them, in the order of the tables.
    pub fn all() -> Vec<Self> {
        let usual = PolicyConfig::default();
        let mut arms = Vec::new();
        for spec in POLICIES {
            let named = |name: String, config| Self { name, make: Make::Ours(spec.name, config) };
            if LEFT_OUT.iter().all(|(left_out, _)| *left_out != spec.name) {
                arms.push(named(spec.name.to_owned(), usual));
            }
            if spec.name == "consistent_hashing" {
                let bounded = PolicyConfig { consistent_load_factor: LOAD_FACTOR, ..usual };
                arms.push(named(format!("consistent_hashing, bounded {LOAD_FACTOR}"), bounded));
            }
        }
        let peer = |name: &'static str| Self { name: format!("{PEER} {name}"), make: Make::Peer(name) };
        arms.extend(Port032::NAMES.map(peer));
        arms
    }

    /// Whether it is not ours.
    pub fn is_peer(&self) -> bool {
        matches!(self.make, Make::Peer(_))
    }

    /// Its policy alone; `None` if it is not ours.
    pub fn policy(&self, seed: u64) -> Result<Option<Box<dyn Policy>>, String> {
        match self.make {
            Make::Ours(policy, config) => {
                build(policy, &PolicyConfig { seed, ..config }).map(Some).map_err(|e| e.to_string())
            }
            Make::Peer(_) => Ok(None),
        }
    }

    /// One of it, as at a router's start, before so many workers.
    pub fn start(&self, seed: u64, workers: usize) -> Result<Box<dyn Router>, String> {
        if let Make::Peer(name) = self.make {
            return Ok(Box::new(Peer::start(name, seed)?));
        }
        let policy = self.policy(seed)?.ok_or("an arm of nobody")?;
        Ok(Box::new(Ours { chooser: chooser(policy, workers), eligible: Vec::with_capacity(workers) }))
    }
}

/// A policy before a fleet that has just come up.
pub fn chooser(policy: Box<dyn Policy>, workers: usize) -> Chooser {
    let mut chooser = Chooser::new(policy, PrefixIndex::new(INDEX_BYTES));
    for worker in 0..workers {
        let url = format!("http://10.0.0.{worker}:30000");
        let id = WorkerId(worker as u32);
        let joining = Joining { id, url_hash: name_hash(url.as_bytes()), priority: 50 };
        chooser.join(Time::default(), joining);
    }
    chooser
}

struct Ours {
    chooser: Chooser,
    eligible: Vec<Eligible>,
}

pub(crate) fn time(now_ns: u64) -> Time {
    Time { us: now_ns / 1_000 }
}

impl Router for Ours {
    fn choose(&mut self, now_ns: u64, ask: &Ask<'_>) -> usize {
        self.eligible.clear();
        let eligible = |(position, &in_flight_requests): (usize, &u32)| Eligible {
            position: position as u32,
            in_flight_requests,
        };
        self.eligible.extend(ask.in_flight.iter().enumerate().map(eligible));
        let needs = self.chooser.needs();
        let wants_prompt = needs.prefix_match || needs.prompt_hash_bytes > 0;
        let view = RequestView {
            seq: ask.seq,
            prompt: Some(&ask.request.hashes).filter(|_| wants_prompt),
            prompt_bytes: ask.request.hashes.len_bytes(),
            max_new_tokens: Some(u64::from(ask.request.max_new_tokens)),
            routing_key: Some(&ask.request.key),
            stream: true,
            ..RequestView::default()
        };
        let chosen = self.chooser.choose(time(now_ns), PolicyId::default(), &view, &self.eligible);
        // All workers are eligible, and a policy always chooses one of those: the tests of policies hold that.
        chosen.unwrap_or(0)
    }

    fn first_token(&mut self, now_ns: u64, seq: u64, worker: usize, ttft_ns: u64) {
        let worker = WorkerId(worker as u32);
        let event = Event::FirstToken { seq, worker, ttft_us: ttft_ns / 1_000 };
        self.chooser.observe(time(now_ns), &event);
    }

    fn ended(&mut self, now_ns: u64, end: &End) {
        let event = Event::Ended {
            seq: end.seq,
            worker: WorkerId(end.worker as u32),
            latency_us: end.latency_ns / 1_000,
            ok: true,
            prompt_tokens: Some(u64::from(end.prompt_tokens)),
            completion_tokens: Some(u64::from(end.completion_tokens)),
            cached_tokens: Some(u64::from(end.cached_tokens)),
        };
        self.chooser.observe(time(now_ns), &event);
    }

    fn poll_every_ns(&self) -> Option<u64> {
        self.chooser.needs().server_loads.then_some(POLL_EVERY_NS)
    }

    fn loaded(&mut self, now_ns: u64, worker: usize, load: &Load) {
        let event = Event::Loaded { worker: WorkerId(worker as u32), load: load.into() };
        self.chooser.observe(time(now_ns), &event);
    }
}
