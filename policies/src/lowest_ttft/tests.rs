//! What moves the choice of `lowest_ttft`, and what becomes of a fleet that it chooses for.
//!
//! Rule: views are written by hand, or come from a [`Chooser`] before engines that compute one prompt after the other. Deliberately
//! not here: figures, which the virtual-time bench has.

use super::cost::{Cost, Pricing};
use super::*;
use crate::chooser::{Chooser, Eligible, Joining, PolicyId};
use crate::decision::Decision;
use crate::policy::Event;
use crate::prefix::{PrefixIndex, PromptHashes};
use crate::testing::{Fleet, ask_for};
use crate::view::{WorkerId, WorkerView};

/// 20,000 tokens a second, 10 ms for a token of an answer, nothing to do.
fn fleet_of(size: u32) -> Fleet {
    let mut fleet = Fleet::of(size);
    for worker in &mut fleet.workers {
        worker.prefix_match_tokens = Some(0);
        worker.prefilling_requests = Some(0);
        worker.decoding_requests = Some(0);
        worker.outstanding_prefill_tokens = Some(0);
        worker.outstanding_decode_tokens = Some(0);
        worker.prefill_wait_us = Some(10_000.0);
        worker.prefill_rate_tokens_per_s = Some(20_000.0);
        worker.decode_rate_tokens_per_s = Some(100.0);
    }
    fleet
}

fn of_tokens(tokens: u64) -> RequestView<'static> {
    RequestView { seq: 1, prompt_tokens: Some(tokens), ..RequestView::default() }
}

fn choose(tokens: u64, workers: &[WorkerView]) -> (usize, &'static str) {
    let decision = ask_for(&mut LowestTtft, &of_tokens(tokens), workers);
    (decision.chosen().expect("chose"), decision.reason())
}

fn costs(tokens: u64, workers: &[WorkerView]) -> Vec<Cost> {
    let shown = Workers::new(workers).expect("some");
    let pricing = Pricing::of(&of_tokens(tokens), &shown);
    workers.iter().map(|worker| pricing.cost(worker)).collect()
}

#[test]
fn each_part_of_the_cost_moves_the_choice() {
    type Worsen = fn(&mut WorkerView);
    let everywhere: [(&str, Worsen); 7] = [
        ("its line is longer", |w| w.prefill_wait_us = Some(200_000.0)),
        ("it holds less of the prompt", |w| w.prefix_match_tokens = Some(100)),
        ("it computes slowly", |w| w.prefill_rate_tokens_per_s = Some(5_000.0)),
        ("more answers would stall", |w| w.decoding_requests = Some(40)),
        ("more tokens are to come there", |w| w.outstanding_decode_tokens = Some(9_000)),
        ("its batch is full", |w| {
            (w.max_running_requests, w.running, w.outstanding_decode_tokens) = (Some(8), Some(8), Some(400));
        }),
        ("its KV cache is full", |w| (w.kv_usage, w.outstanding_decode_tokens) = (Some(0.97), Some(400))),
    ];
    for (why, worsen) in everywhere {
        let mut fleet = fleet_of(3);
        fleet.workers.iter_mut().for_each(|worker| worker.prefix_match_tokens = Some(1_500));
        let turn = choose(2_000, &fleet.workers).0;
        worsen(&mut fleet.workers[turn]);
        assert_ne!(choose(2_000, &fleet.workers).0, turn, "{why}");
    }
}

#[test]
fn a_worker_that_is_full_of_others_requests_is_waited_for_too() {
    let mut fleet = fleet_of(2);
    (fleet.workers[0].max_running_requests, fleet.workers[0].running) = (Some(8), Some(8));
    // Usual answers of 100 tokens end within 2 s of each other: one every 250 ms.
    assert!((costs(2_000, &fleet.workers)[0].queue_us - 260_000.0).abs() < 1.0);
    assert_eq!(choose(2_000, &fleet.workers).0, 1);
}

#[test]
fn the_trace_shows_the_cost_by_its_parts() {
    let mut fleet = fleet_of(2);
    fleet.workers[0].prefix_match_tokens = Some(1_000);
    fleet.workers[1].decoding_requests = Some(10);
    fleet.workers[1].outstanding_decode_tokens = Some(1_000);
    (fleet.workers[1].kv_usage, fleet.workers[1].in_flight_requests) = (Some(0.99), 10);
    let decision: Decision = ask_for(&mut LowestTtft, &of_tokens(2_000), &fleet.workers);
    assert_eq!((decision.chosen(), decision.reason()), (Some(0), "most_cached"));
    assert_eq!(decision.part_names(), ["queue_us", "prefill_us", "decode_us", "spread_us"]);
    // 2,050 units of work at 50 µs; a twentieth of that for each of ten answers, 0.006 of 10 s; the copy of 1,000 tokens.
    let parts: Vec<f64> = decision.score_parts(1).iter().flatten().map(|us| us.round()).collect();
    // 10 answers of 100 tokens on average end within 2 s of each other: one every 200 ms.
    assert_eq!(parts, [210_000.0, 102_500.0, 51_250.0 + 60_000.0, 0.25 * 1_012.5 * 50.0_f64].map(f64::round));
    let score = decision.scores()[1].expect("scored");
    assert!((score + decision.score_parts(1).iter().flatten().sum::<f64>()).abs() < 1e-6);
    assert_eq!((decision.score_reason(0), decision.score_reason(1)), ("", "kv_full"));
}

#[test]
fn a_hot_prefix_gets_a_second_holder_when_its_queue_costs_more_than_the_computing() {
    let mut fleet = fleet_of(3);
    fleet.workers[1].prefix_match_tokens = Some(6_000);
    assert_eq!(choose(6_200, &fleet.workers), (1, "most_cached"));
    let alone = costs(6_200, &fleet.workers);
    let computing = alone[0].prefill_us - alone[1].prefill_us;
    let copy = alone[0].spread_us;
    assert!((copy / computing - 0.25).abs() < 0.02, "the copy costs a quarter of the computing once more");
    for (queue_us, expected) in
        [(computing + copy - 1_000.0, (1, "most_cached")), (computing + copy + 1_000.0, (0, "recompute"))]
    {
        fleet.workers[1].prefill_wait_us = Some(10_000.0 + queue_us);
        assert_eq!(choose(6_200, &fleet.workers), expected, "{queue_us}");
    }
    // Then both hold it, and it goes where less lies ahead.
    fleet.workers[0].prefix_match_tokens = Some(6_000);
    assert_eq!(choose(6_200, &fleet.workers), (0, "most_cached"));
    (fleet.workers[0].prefill_wait_us, fleet.workers[1].prefill_wait_us) = (Some(30_000.0), Some(10_000.0));
    assert_eq!(choose(6_200, &fleet.workers), (1, "most_cached"));
}

#[test]
fn a_prefix_that_is_asked_for_now_and_then_stays_where_it_is() {
    let mut fleet = fleet_of(8);
    fleet.workers[5].prefix_match_tokens = Some(3_000);
    // Four answers run there, and a short prompt is in its line.
    fleet.workers[5].decoding_requests = Some(4);
    fleet.workers[5].outstanding_decode_tokens = Some(800);
    fleet.workers[5].prefill_wait_us = Some(20_000.0);
    for seq in 1..=50 {
        fleet.workers[5].last_chosen_seq = seq;
        assert_eq!(choose(3_200, &fleet.workers), (5, "most_cached"));
    }
}

#[test]
fn equal_workers_take_turns_though_one_seems_a_little_quicker() {
    let mut fleet = fleet_of(4);
    fleet.workers[2].prefill_rate_tokens_per_s = Some(20_900.0);
    let mut counts = [0; 4];
    for seq in 1..=400 {
        let (chosen, reason) = choose(1_000, &fleet.workers);
        assert_eq!(reason, "nothing_cached");
        fleet.workers[chosen].last_chosen_seq = seq;
        counts[chosen] += 1;
    }
    assert!(counts.iter().all(|count| (60..=180).contains(count)), "{counts:?}");
}

#[test]
fn a_worker_that_is_twice_as_quick_gets_the_first_request_and_not_all() {
    let mut fleet = fleet_of(2);
    fleet.workers[0].prefill_rate_tokens_per_s = Some(40_000.0);
    let mut counts = [0; 2];
    for _ in 0..30 {
        let chosen = choose(4_000, &fleet.workers).0;
        counts[chosen] += 1;
        let worker = &mut fleet.workers[chosen];
        let us = 4_200e6 / worker.prefill_rate_tokens_per_s.expect("known");
        worker.prefill_wait_us = worker.prefill_wait_us.map(|wait| wait + us);
    }
    assert!((18..=22).contains(&counts[0]), "{counts:?}");
}

#[test]
fn of_a_new_worker_nothing_is_known_and_it_is_taken_to_be_like_the_others() {
    let mut fleet = fleet_of(3);
    let known = WorkerView { last_chosen_seq: 9, ..fleet.workers[0] };
    fleet.workers[0] = known;
    fleet.workers[1] = WorkerView { id: WorkerId(1), last_chosen_seq: 9, ..known };
    fleet.workers[2] = WorkerView {
        id: WorkerId(2),
        prefill_rate_tokens_per_s: None,
        decode_rate_tokens_per_s: None,
        ..fleet.workers[2]
    };
    let [a, _, new] = costs(2_000, &fleet.workers)[..] else { panic!("three workers") };
    assert!((a.prefill_us - new.prefill_us).abs() < 1e-6);
    assert_eq!(choose(2_000, &fleet.workers).0, 2, "its turn");
    fleet.workers[2].prefill_wait_us = Some(110_000.0);
    assert_ne!(choose(2_000, &fleet.workers).0, 2, "one is on its way, that is enough for now");
}

#[test]
fn without_any_estimate_the_fewest_requests_win() {
    let mut fleet = Fleet::of(3);
    fleet.in_flight([4, 2, 3]);
    assert_eq!(ask_for(&mut LowestTtft, &RequestView::default(), &fleet.workers).chosen(), Some(1));
}

/// A router before engines that compute one prompt after the other and give each answer 50 tokens, 10 ms each.
struct World {
    chooser: Chooser,
    now_us: u64,
    seq: u64,
    token_us: Vec<u64>,
    free_at_us: Vec<u64>,
    in_flight: Vec<u32>,
    due: Vec<(u64, Event)>,
}

impl World {
    fn of(token_us: &[u64]) -> Self {
        let mut chooser = Chooser::new(Box::new(LowestTtft), PrefixIndex::new(1 << 20));
        for id in 0..token_us.len() as u32 {
            let joining = Joining { id: WorkerId(id), url_hash: u64::from(id), priority: 50 };
            chooser.join(Time::default(), joining);
        }
        let workers = token_us.len();
        Self {
            chooser,
            now_us: 0,
            seq: 0,
            token_us: token_us.to_vec(),
            free_at_us: vec![0; workers],
            in_flight: vec![0; workers],
            due: Vec::new(),
        }
    }

    fn run_until(&mut self, at_us: u64) {
        self.due.sort_by_key(|(at_us, _)| *at_us);
        while self.due.first().is_some_and(|(due_us, _)| *due_us <= at_us) {
            let (due_us, event) = self.due.remove(0);
            if let Event::Ended { worker, .. } = event {
                self.in_flight[worker.0 as usize] -= 1;
            }
            self.chooser.observe(Time { us: due_us }, &event);
        }
        self.now_us = at_us;
    }

    /// A request with a prompt of its own comes; who got it.
    fn ask(&mut self, tokens: u64) -> usize {
        self.seq += 1;
        let seq = self.seq;
        let text = format!("{seq:06} ").repeat(tokens as usize * 4 / 7);
        let prompt = PromptHashes::of(text.as_bytes());
        let request = RequestView {
            seq,
            prompt: Some(&prompt),
            prompt_bytes: prompt.len_bytes(),
            prompt_tokens: Some(tokens),
            stream: true,
            ..RequestView::default()
        };
        let eligible: Vec<Eligible> = (0..)
            .zip(&self.in_flight)
            .map(|(position, &in_flight_requests)| Eligible { position, in_flight_requests })
            .collect();
        let now = Time { us: self.now_us };
        let chosen = self.chooser.choose(now, PolicyId::default(), &request, &eligible).expect("somebody");
        let worker = WorkerId(chosen as u32);
        let token_at = self.free_at_us[chosen].max(self.now_us + 5_000) + tokens * self.token_us[chosen];
        self.free_at_us[chosen] = token_at;
        self.in_flight[chosen] += 1;
        let ttft_us = token_at - self.now_us;
        self.due.push((token_at, Event::FirstToken { seq, worker, ttft_us }));
        let ended = Event::Ended {
            seq,
            worker,
            latency_us: ttft_us + 500_000,
            ok: true,
            prompt_tokens: Some(tokens),
            completion_tokens: Some(51),
            cached_tokens: Some(0),
        };
        self.due.push((token_at + 500_000, ended));
        chosen
    }

    /// Requests that come every 40 ms for so long; how many each worker got.
    fn load(&mut self, ms: u64) -> Vec<u32> {
        let mut counts = vec![0; self.token_us.len()];
        for n in 0..ms / 40 {
            self.run_until(self.now_us + 40_000);
            counts[self.ask(300 + n * 37 % 1_400)] += 1;
        }
        counts
    }
}

#[test]
fn work_is_spread_evenly_over_equal_workers() {
    let counts = World::of(&[50; 4]).load(20_000);
    assert!(counts.iter().all(|count| (110..=140).contains(count)), "{counts:?}");
}

#[test]
fn a_slow_worker_gets_less_and_its_share_again_when_it_is_quick() {
    let mut world = World::of(&[50; 4]);
    world.load(10_000);
    world.token_us[1] = 1_000;
    world.load(10_000);
    let slow = world.load(20_000);
    assert!(slow[1] < slow[0] / 3, "{slow:?}");
    world.token_us[1] = 50;
    world.load(60_000);
    let quick = world.load(20_000);
    assert!(quick[1] > quick[0] * 3 / 4, "{quick:?}");
}

#[test]
fn a_worker_that_hangs_is_left_alone_until_it_answers() {
    let mut world = World::of(&[50; 4]);
    world.load(10_000);
    // It takes what it is sent and says nothing for 30 s.
    world.free_at_us[2] = world.now_us + 30_000_000;
    let hanging = world.load(25_000);
    assert!(hanging[2] <= 12, "{hanging:?}");
    world.load(20_000);
    let back = world.load(20_000);
    assert!(back[2] > back[0] * 3 / 4, "{back:?}");
}

#[test]
fn a_worker_that_joins_is_neither_flooded_nor_left_out() {
    let mut world = World::of(&[50; 4]);
    let late = WorkerId(3);
    world.chooser.leave(Time::default(), late);
    world.in_flight.pop();
    world.load(10_000);
    world.in_flight.push(0);
    let joining = Joining { id: late, url_hash: 9, priority: 50 };
    world.chooser.join(Time { us: world.now_us }, joining);
    let first_second = world.load(1_000);
    assert!((4..=10).contains(&first_second[3]), "{first_second:?}");
    let later = world.load(20_000);
    assert!(later[3] > later[0] * 3 / 4 && later[3] < later[0] * 4 / 3, "{later:?}");
}
