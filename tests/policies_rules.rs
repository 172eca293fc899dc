//! The rules by which policies are compared (`benches/policies`): what a run is, what a bound is, and what counts as steady.
//!
//! Figures that nobody can check are opinions, so the parts they are made of are checked here on small runs. Deliberately not
//! here: the figures.

#![allow(dead_code, unused_imports, reason = "of each part of the bench only some is used here")]
#![expect(clippy::unwrap_used, reason = "a workload that cannot be drawn fails here, with the place")]

#[path = "../benches/policies/arms.rs"]
mod arms;
#[path = "../benches/policies/bound.rs"]
mod bound;
#[path = "../benches/policies/capacity.rs"]
mod capacity;
#[path = "../benches/policies/figures.rs"]
mod figures;
#[path = "../benches/policies/peer.rs"]
mod peer;
#[path = "../benches/policies/play.rs"]
mod play;
#[path = "../benches/policies/prompt.rs"]
mod prompt;
#[path = "../policies/benches/sglang_router_032/mod.rs"]
mod sglang_router_032;
#[path = "../benches/policies/stats.rs"]
mod stats;
#[path = "../benches/policies/workload/mod.rs"]
mod workload;

use arms::Arm;
use figures::{figures, pooled_share};
use milepost::sim::Profile;
use play::{Fleet, Played, Row, play};
use stats::Mean;
use workload::{Kind, Workload};

fn fleet(workers: usize) -> Fleet {
    Fleet { profile: Profile::default(), workers }
}

fn arm(name: &str) -> Arm {
    Arm::all().into_iter().find(|arm| arm.name == name).unwrap()
}

fn run(name: &str, workload: &Workload, rate: f64, workers: usize) -> Played {
    play(workload, rate, &fleet(workers), &mut *arm(name).start(1, workers).unwrap())
}

#[test]
fn the_same_seed_is_the_same_run_and_another_seed_another() {
    for kind in Kind::ALL {
        let rows = |seed| run("cache_aware", &kind.draw(seed, 30).unwrap(), 20.0, 3).rows;
        assert_eq!(rows(1), rows(1), "{}", kind.name());
        assert_ne!(rows(1), rows(2), "{}", kind.name());
    }
}

#[test]
fn every_request_ends_and_no_cache_has_more_than_one_that_never_forgets() {
    for kind in Kind::ALL {
        let workload = kind.draw(3, 40).unwrap();
        for arm in Arm::all() {
            let played = run(&arm.name, &workload, 20.0, 3);
            for (row, request) in played.rows.iter().zip(&workload.requests) {
                assert!(
                    row.arrived_ns < row.first_token_ns && row.first_token_ns <= row.ended_ns,
                    "{arm:?} {row:?}"
                );
                assert!(row.cached_tokens < request.prompt_tokens, "{arm:?} {row:?}");
            }
            // In sum: a short prompt that comes later may be tokenised, and cached, before a long one.
            let cached: u64 = played.rows.iter().map(|row| u64::from(row.cached_tokens)).sum();
            let possible: u64 = workload.requests.iter().map(|r| u64::from(r.possible_tokens)).sum();
            assert!(cached <= possible, "{arm:?} {}: {cached} of {possible}", kind.name());
        }
    }
}

#[test]
fn a_next_turn_comes_after_its_answer_and_has_all_that_was_said_cached() {
    let workload = Kind::Chat.draw(1, 40).unwrap();
    let played = run("cache_aware", &workload, 5.0, 1);
    let mut turns = 0;
    for (row, request) in played.rows.iter().zip(&workload.requests) {
        let Some(next) = request.next else { continue };
        let (after, asked) = (&played.rows[next.request], &workload.requests[next.request]);
        assert_eq!(after.arrived_ns, row.ended_ns + next.think_ns);
        // The last token of an answer was sampled, not computed.
        assert_eq!(after.cached_tokens, request.prompt_tokens + request.output_tokens - 1);
        assert_eq!(after.cached_tokens, asked.possible_tokens);
        turns += 1;
    }
    assert!(turns > 20, "{turns}");
}

#[test]
fn alone_on_an_idle_worker_a_request_takes_what_the_bound_says() {
    for kind in [Kind::Plain, Kind::Mooncake] {
        let workload = kind.draw(1, 1).unwrap();
        let row = run("round_robin", &workload, 1.0, 1).rows[0];
        let bound_ns = bound::least_ttft_ns(&workload.requests[0], &Profile::default());
        let ttft_ns = (row.first_token_ns - row.arrived_ns) as f64;
        assert!((ttft_ns - bound_ns).abs() < 10.0, "{ttft_ns} {bound_ns}");
    }
}

#[test]
fn the_recorded_conversations_share_what_their_blocks_say() {
    let workload = Kind::Mooncake.draw(1, 800).unwrap();
    let sum = |value: fn(&workload::Request) -> u32| {
        workload.requests.iter().map(|request| f64::from(value(request))).sum::<f64>()
    };
    let share = sum(|r| r.possible_tokens) / sum(|r| r.prompt_tokens);
    // 19.5 % by the blocks of the first 800 lines in the order of the file.
    assert!((share - 0.195).abs() < 0.005, "{share}");
}

#[test]
fn one_cache_of_the_fleets_size_has_no_more_than_one_that_never_forgets() {
    let workload = Kind::Balanced.draw(1, 200).unwrap();
    let played = run("round_robin", &workload, 20.0, 2);
    let found = figures(&workload, &played, &fleet(2));
    let pooled = pooled_share(&workload, &played, &fleet(2));
    assert!(pooled <= found.possible_share && found.hit_share < pooled, "{pooled} {found:?}");
    let tiny = Fleet { profile: Profile { kv_tokens: 20_000, ..Profile::default() }, workers: 2 };
    assert!(pooled_share(&workload, &played, &tiny) < pooled / 2.0, "there is room for five prefixes");
}

#[test]
fn taking_turns_is_the_same_in_the_port() {
    let workload = Kind::Zipf.draw(1, 100).unwrap();
    let rows = |name| run(name, &workload, 20.0, 4).rows;
    assert_eq!(rows("round_robin"), rows("sglang_router_032 round_robin"));
}

/// As many requests a second as `rate`, each in the system for `stay_s` of its arrival.
fn made(workload: &Workload, rate: f64, stay_s: impl Fn(f64) -> f64) -> Played {
    let row = |place: usize| {
        let at_s = place as f64 / rate;
        let arrived_ns = (at_s * 1e9) as u64;
        let ended_ns = arrived_ns + (stay_s(at_s) * 1e9) as u64;
        Row { arrived_ns, first_token_ns: ended_ns, ended_ns, worker: place % 2, ..Row::default() }
    };
    let rows: Vec<Row> = (0..workload.requests.len()).map(row).collect();
    let span_ns = rows.last().unwrap().arrived_ns;
    Played { rows, span_ns }
}

#[test]
fn a_queue_that_grows_is_no_steady_state_and_one_that_stays_is() {
    let workload = Kind::Plain.draw(1, 1_000).unwrap();
    let steady = |stay_s: fn(f64) -> f64| {
        let played = made(&workload, 10.0, stay_s);
        figures(&workload, &played, &fleet(2))
    };
    let even = steady(|_| 2.0);
    assert!(even.is_steady && (even.in_flight - 20.0).abs() < 0.5, "{even:?}");
    assert!(!steady(|at_s| at_s * 0.1).is_steady, "served nine of ten that come");
    assert!(!steady(|at_s| if at_s > 60.0 { 60.0 } else { 2.0 }).is_steady, "what comes late never leaves");
}

#[test]
fn a_capacity_is_the_highest_rate_that_is_steady() {
    let workload = Kind::Plain.draw(1, 500).unwrap();
    let (fleet, arm) = (fleet(1), arm("shortest_queue"));
    let guess = capacity::guess(&workload, &fleet);
    let found = capacity::capacity(&arm, &workload, &fleet, guess).unwrap();
    let is_steady =
        |rate: f64| figures(&workload, &run("shortest_queue", &workload, rate, 1), &fleet).is_steady;
    assert!(is_steady(found) && !is_steady(found * 1.5), "{found}");
    let far = capacity::capacity(&arm, &workload, &fleet, guess * 30.0).unwrap();
    assert!((far / found - 1.0).abs() < 0.1, "wherever the search begins: {far} {found}");
}

#[test]
fn an_interval_is_students_and_that_of_ratios_is_of_their_logarithms() {
    let mean = Mean::of([1.0, 2.0, 3.0, 4.0, 5.0]);
    // s = 1.5811, s / sqrt 5 = 0.7071, t = 2.776.
    assert!((mean.value - 3.0).abs() < 1e-12 && (mean.half - 1.9629).abs() < 1e-3, "{mean:?}");
    let ratio = Mean::of_ratios([(2.0, 1.0), (8.0, 1.0)]);
    assert!((ratio.value - 4.0).abs() < 1e-12, "the geometric mean: {ratio:?}");
    assert_eq!(Mean::of([7.0]), Mean { value: 7.0, half: 0.0 });
}
