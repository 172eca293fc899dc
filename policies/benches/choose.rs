//! What a decision costs: nanoseconds per choice of each policy at 8, 64 and 512 workers.
//!
//! `choose` is the policy alone. `decision` is all that the router does under its lock, for a prompt of 10,000 characters that
//! the chosen worker was sent before: look-up in the prefix index, the views, the choice, the index and the counts afterwards,
//! and that the request has ended, where the policy listens. `first` and `join` are the worst choices, where a policy first sees
//! a fleet or a worker was replaced. Prints the quickest of some rounds; asserts nothing, because a time is no test.
//! `cargo bench -p milepost-policies --bench choose`. Deliberately not here: hashing the prompt, which needs no lock (`index`),
//! and the lock itself.

mod measure;
mod sglang_router_032;

use std::hint::black_box;
use std::sync::Arc;

use measure::{ROUNDS, quickest, quickest_ns, time, words};
use milepost_policies::chooser::{Chooser, Eligible, Joining, PolicyId};
use milepost_policies::{
    AssignmentMode, Decision, Event, POLICIES, Policy, PolicyConfig, PrefixIndex, PromptHashes, RequestView,
    Time, WorkerId, WorkerView, Workers, build, name_hash,
};
use sglang_router_032::{Port032, Ported, Thresholds, Told};

const FLEETS: [u32; 3] = [8, 64, 512];
const PROMPT_BYTES: usize = 10_000;
const PROMPTS: usize = 64;

/// A policy with its settings.
type Arm<'a> = (&'static str, Box<dyn Fn() -> Box<dyn Policy> + 'a>);

/// What requests bring along, and where a decision is written.
struct Requests {
    texts: Vec<Arc<str>>,
    prompts: Vec<PromptHashes>,
    keys: Vec<String>,
    decision: Decision,
    told: Told,
}

fn main() {
    println!(
        "ns, quickest of {ROUNDS} rounds; first: of a new policy; join: after one of the workers was replaced"
    );
    println!(
        "{:<30} {:>8} {:>8} {:>10} {:>10} {:>10}",
        "policy", "workers", "choose", "decision", "first", "join"
    );
    let texts: Vec<Arc<str>> =
        (0..PROMPTS).map(|n| String::from_utf8(words(PROMPT_BYTES, n)).expect("digits").into()).collect();
    let mut requests = Requests {
        prompts: texts.iter().map(|text| PromptHashes::of(text.as_bytes())).collect(),
        texts,
        keys: (0..PROMPTS).map(|n| format!("conversation {n}")).collect(),
        decision: Decision::default(),
        told: Told::default(),
    };
    for size in FLEETS {
        for (name, new) in arms(&requests.told.clone()) {
            requests.measure(name, &*new, size);
        }
        requests.assign_new_keys(&fleet_of(size));
    }
}

/// Each policy that can be named, those whose settings make another decision, and the router that is replaced.
fn arms(told: &Told) -> Vec<Arm<'_>> {
    let mut arms: Vec<Arm<'_>> = Vec::new();
    for spec in POLICIES {
        arms.push((spec.name, Box::new(|| (spec.build)(&PolicyConfig::default()))));
    }
    let with = |policy: &'static str, config: PolicyConfig| -> Box<dyn Fn() -> Box<dyn Policy>> {
        Box::new(move || build(policy, &config).expect("built in"))
    };
    let bounded = PolicyConfig { consistent_load_factor: 1.25, ..PolicyConfig::default() };
    arms.push(("consistent_hashing, bounded", with("consistent_hashing", bounded)));
    for (name, policy) in [
        ("sglang_router_032 cache_aware", "cache_aware"),
        ("sglang_router_032 round_robin", "round_robin"),
        ("sglang_router_032 power_of_two", "power_of_two"),
    ] {
        arms.push((
            name,
            Box::new(move || {
                let port = Port032::named(policy, 0, Thresholds::default()).expect("ported");
                Box::new(Ported::new(name, port, told.clone()))
            }),
        ));
    }
    arms
}

fn fleet_of(size: u32) -> Vec<WorkerView> {
    let worker = |id: u32| WorkerView {
        id: WorkerId(id),
        in_flight_requests: in_flight(id),
        last_chosen_seq: u64::from(id * 31 % 97),
        prefix_match_bytes: Some(u64::from(id * 17 % 29) * 64),
        position: id,
        url_hash: name_hash(&id.to_le_bytes()),
        ..WorkerView::default()
    };
    (0..size).map(worker).collect()
}

fn in_flight(id: u32) -> u32 {
    id * 7 % 13
}

impl Requests {
    fn measure(&mut self, name: &str, new: &dyn Fn() -> Box<dyn Policy>, size: u32) {
        let mut fleet = fleet_of(size);
        let first_ns = quickest(|| {
            let mut policy = new();
            time(|| self.choose(&mut *policy, &fleet, 1)).as_nanos() as f64
        });
        let mut policy = new();
        let steady_ns = quickest_ns(2_000, |seq| self.choose(&mut *policy, &fleet, seq));
        let join_ns = quickest(|| {
            let worker = &mut fleet[3];
            worker.url_hash = worker.url_hash.wrapping_mul(31);
            let worker = worker.id;
            time(|| {
                policy.observe(Time::default(), &Event::Left { worker });
                policy.observe(Time::default(), &Event::Joined { worker });
                self.choose(&mut *policy, &fleet, 1);
            })
            .as_nanos() as f64
        });
        let decision_ns = self.decide(new(), size);
        println!(
            "{name:<30} {size:>8} {steady_ns:>8.0} {decision_ns:>10.0} {first_ns:>10.0} {join_ns:>10.0}"
        );
    }

    /// The whole decision, as the router makes it.
    fn decide(&mut self, policy: Box<dyn Policy>, size: u32) -> f64 {
        let mut chooser = Chooser::new(policy, PrefixIndex::new(64 << 20));
        for id in 0..size {
            let url_hash = name_hash(&id.to_le_bytes());
            chooser.join(Time::default(), Joining { id: WorkerId(id), url_hash, priority: 50 });
        }
        let eligible: Vec<Eligible> = (0..size)
            .map(|position| Eligible { position, in_flight_requests: in_flight(position) })
            .collect();
        let mut seq = 0;
        quickest_ns(2_000, |_| {
            seq += 1;
            let (at, now) = (seq as usize % PROMPTS, Time { us: seq });
            let request = self.request(seq, at);
            let chosen = chooser.choose(now, PolicyId::default(), black_box(&request), black_box(&eligible));
            let worker = chooser.views()[black_box(chosen).expect("somebody is there")].id;
            if chooser.needs().request_events || chooser.needs().estimates {
                chooser.observe(now, &ended(seq, worker));
            }
        })
    }

    /// `manual` where it does most: a key that nobody has, for the worker with the fewest keys.
    fn assign_new_keys(&mut self, fleet: &[WorkerView]) {
        let config = PolicyConfig { assignment_mode: AssignmentMode::MinGroup, ..PolicyConfig::default() };
        let mut policy = build("manual", &config).expect("built in");
        let mut next = 0;
        let ns = quickest_ns(2_000, |seq| {
            next += 1;
            self.keys[seq % PROMPTS] = next.to_string();
            self.choose(&mut *policy, fleet, seq);
        });
        println!("{:<30} {:>8} {ns:>8.0}", "manual, new key", fleet.len());
    }

    /// Request number `seq` with prompt and key number `at`; the port is told its text.
    fn request(&self, seq: u64, at: usize) -> RequestView<'_> {
        self.told.text(Arc::clone(&self.texts[at]));
        RequestView {
            seq,
            prompt: Some(&self.prompts[at]),
            prompt_bytes: PROMPT_BYTES as u64,
            routing_key: Some(&self.keys[at]),
            ..RequestView::default()
        }
    }

    fn choose(&mut self, policy: &mut dyn Policy, fleet: &[WorkerView], seq: usize) {
        let workers = Workers::new(fleet).expect("not empty");
        let mut decision = std::mem::take(&mut self.decision);
        decision.clear(workers.len());
        let request = self.request(seq as u64, seq % PROMPTS);
        policy.choose(Time { us: seq as u64 }, black_box(&request), black_box(&workers), &mut decision);
        black_box(decision.chosen());
        self.decision = decision;
    }
}

fn ended(seq: u64, worker: WorkerId) -> Event {
    Event::Ended {
        seq,
        worker,
        latency_us: 100_000 + seq % 1_000,
        ok: true,
        prompt_tokens: None,
        completion_tokens: None,
        cached_tokens: None,
    }
}
