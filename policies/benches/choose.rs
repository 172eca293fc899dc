//! What a decision costs: nanoseconds per choice of each policy at 8, 64 and 512 workers, and the worst one, which is where a
//! policy first sees a fleet or a worker joins. Prints the quickest of some rounds; asserts nothing, because a time is no test.
//! `cargo bench -p milepost-policies --bench choose`. Deliberately not here: the prefix index (`index`), the router's lock.

mod measure;

use std::hint::black_box;

use measure::{ROUNDS, quickest, quickest_ns, time, words};
use milepost_policies::{
    AssignmentMode, Decision, Event, POLICIES, Policy, PolicyConfig, PromptHashes, RequestView, Time,
    WorkerId, WorkerView, Workers, build, name_hash,
};

const FLEETS: [u32; 3] = [8, 64, 512];

/// What requests bring along, and where a decision is written.
struct Requests {
    prompts: Vec<PromptHashes>,
    keys: Vec<String>,
    decision: Decision,
}

fn main() {
    println!(
        "ns, quickest of {ROUNDS} rounds; first: of a new policy; join: after one of the workers was replaced"
    );
    println!("{:<20} {:>8} {:>8} {:>10} {:>10}", "policy", "workers", "choose", "first", "join");
    let mut requests = Requests {
        prompts: (0..64).map(|n| PromptHashes::of(&words(4_000, n))).collect(),
        keys: (0..64).map(|n| format!("conversation {n}")).collect(),
        decision: Decision::default(),
    };
    for size in FLEETS {
        let mut fleet = fleet_of(size);
        for spec in POLICIES {
            let new = || (spec.build)(&PolicyConfig::default());
            let first_ns = quickest(|| {
                let mut policy = new();
                time(|| requests.choose(&mut *policy, &fleet, 1)).as_nanos() as f64
            });
            let mut policy = new();
            let steady_ns = quickest_ns(2_000, |seq| requests.choose(&mut *policy, &fleet, seq));
            let join_ns = quickest(|| {
                let worker = &mut fleet[3];
                worker.url_hash = worker.url_hash.wrapping_mul(31);
                let worker = worker.id;
                time(|| {
                    policy.observe(Time::default(), &Event::Left { worker });
                    policy.observe(Time::default(), &Event::Joined { worker });
                    requests.choose(&mut *policy, &fleet, 1);
                })
                .as_nanos() as f64
            });
            println!("{:<20} {size:>8} {steady_ns:>8.0} {first_ns:>10.0} {join_ns:>10.0}", spec.name);
        }
        requests.assign_new_keys(&fleet);
    }
}

fn fleet_of(size: u32) -> Vec<WorkerView> {
    let worker = |id: u32| WorkerView {
        id: WorkerId(id),
        in_flight_requests: id * 7 % 13,
        last_chosen_seq: u64::from(id * 31 % 97),
        prefix_match_bytes: Some(u64::from(id * 17 % 29) * 64),
        position: id,
        url_hash: name_hash(&id.to_le_bytes()),
        ..WorkerView::default()
    };
    (0..size).map(worker).collect()
}

impl Requests {
    /// `manual` where it does most: a key that nobody has, for the worker with the fewest keys.
    fn assign_new_keys(&mut self, fleet: &[WorkerView]) {
        let config = PolicyConfig { assignment_mode: AssignmentMode::MinGroup, ..PolicyConfig::default() };
        let mut policy = build("manual", &config).expect("built in");
        let mut next = 0;
        let ns = quickest_ns(2_000, |seq| {
            next += 1;
            self.keys[seq % 64] = next.to_string();
            self.choose(&mut *policy, fleet, seq);
        });
        println!("{:<20} {:>8} {ns:>8.0}", "manual, new key", fleet.len());
    }

    fn choose(&mut self, policy: &mut dyn Policy, fleet: &[WorkerView], seq: usize) {
        let workers = Workers::new(fleet).expect("not empty");
        let request = RequestView {
            seq: seq as u64,
            prompt: Some(&self.prompts[seq % 64]),
            prompt_bytes: 4_000,
            routing_key: Some(&self.keys[seq % 64]),
            ..RequestView::default()
        };
        self.decision.clear(workers.len());
        policy.choose(Time { us: seq as u64 }, black_box(&request), black_box(&workers), &mut self.decision);
        black_box(self.decision.chosen());
    }
}
