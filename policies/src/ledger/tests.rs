//! The ledger told of requests that end in all ways, of engines that compute, and of anything at all.
//!
//! Rule: what is expected is reckoned by hand from the numbers told. Deliberately not here: decisions.

use proptest::prelude::*;

use super::*;
use crate::policy::ServerLoad;

const WORKER: WorkerId = WorkerId(0);

pub(super) fn ledger(workers: u32) -> Ledger {
    let mut ledger = Ledger::default();
    (0..workers).for_each(|id| ledger.join(WorkerId(id)));
    ledger
}

fn view_of(ledger: &mut Ledger, worker: u32, at_us: u64) -> WorkerView {
    let mut view = WorkerView { id: WorkerId(worker), in_flight_requests: 1, ..WorkerView::default() };
    ledger.show_estimates(Time { us: at_us }, &mut view);
    ledger.show_load(Time { us: at_us }, &mut view);
    view
}

pub(super) fn view(ledger: &mut Ledger, at_us: u64) -> WorkerView {
    view_of(ledger, 0, at_us)
}

pub(super) fn request(seq: u64, tokens: u64) -> RequestView<'static> {
    RequestView {
        seq,
        prompt_bytes: tokens * 4,
        prompt_tokens: Some(tokens),
        max_new_tokens: Some(100),
        stream: true,
        ..RequestView::default()
    }
}

pub(super) fn route(
    ledger: &mut Ledger,
    worker: u32,
    at_us: u64,
    request: &RequestView<'_>,
    held_tokens: u64,
) {
    let shown =
        WorkerView { id: WorkerId(worker), prefix_match_tokens: Some(held_tokens), ..WorkerView::default() };
    ledger.route(Time { us: at_us }, request, &shown);
}

pub(super) fn first_token(ledger: &mut Ledger, worker: u32, seq: u64, at_us: u64, ttft_us: u64) {
    ledger.observe(Time { us: at_us }, &Event::FirstToken { seq, worker: WorkerId(worker), ttft_us });
}

fn end(ledger: &mut Ledger, worker: u32, seq: u64, at_us: u64, ok: bool) {
    let event = Event::Ended {
        seq,
        worker: WorkerId(worker),
        latency_us: 2_000_000,
        ok,
        prompt_tokens: Some(1000),
        completion_tokens: Some(101),
        cached_tokens: Some(250),
    };
    ledger.observe(Time { us: at_us }, &event);
}

/// In line, decoding, prompt and answer tokens to come.
fn counts(view: &WorkerView) -> [Option<u64>; 4] {
    [
        view.prefilling_requests.map(u64::from),
        view.decoding_requests.map(u64::from),
        view.outstanding_prefill_tokens,
        view.outstanding_decode_tokens,
    ]
}

pub(super) fn near(value: Option<f64>, expected: f64) -> bool {
    value.is_some_and(|value| (value / expected - 1.0).abs() < 0.1)
}

#[test]
fn a_request_moves_from_prefill_to_decode_and_out() {
    let mut ledger = ledger(1);
    assert_eq!(counts(&view(&mut ledger, 0)), [Some(0), Some(0), None, Some(0)]);
    route(&mut ledger, 0, 0, &request(1, 1000), 250);
    assert_eq!(counts(&view(&mut ledger, 0)), [Some(1), Some(0), Some(750), Some(100)]);
    first_token(&mut ledger, 0, 1, 1_000_000, 1_000_000);
    let decoding = view(&mut ledger, 1_000_000);
    assert_eq!(counts(&decoding), [Some(0), Some(1), Some(0), Some(100)]);
    assert_eq!(decoding.ttft_ewma_us, Some(1e6));
    end(&mut ledger, 0, 1, 2_000_000, true);
    let after = view(&mut ledger, 2_000_000);
    assert_eq!(counts(&after), [Some(0), Some(0), Some(0), Some(0)]);
    assert_eq!((after.decode_rate_tokens_per_s, after.cache_hit_rate), (Some(100.0), Some(0.25)));
    assert_eq!(after.latency_ewma_us, Some(2e6));
    assert!((after.answered_tokens_per_s.expect("known") - 50.0).abs() < 6.0, "{after:?}");
}

#[test]
fn counts_return_to_zero_however_requests_end() {
    let mut ledger = ledger(3);
    // Without a token, after one, as a failure, twice, at a worker where it is not, a token twice, in another order.
    for seq in 1..=300 {
        route(
            &mut ledger,
            seq as u32 % 3,
            seq,
            &RequestView { stream: seq % 2 == 0, ..request(seq, seq * 7) },
            seq % 50,
        );
    }
    for seq in (1..=300).step_by(2) {
        first_token(&mut ledger, seq as u32 % 3, seq, 400 + seq, 400);
        first_token(&mut ledger, seq as u32 % 3, seq, 500 + seq, 500);
        first_token(&mut ledger, (seq as u32 + 1) % 3, seq, 500 + seq, 500);
    }
    for seq in (1..=300).map(|n| n * 79 % 301) {
        end(&mut ledger, (seq as u32 + 1) % 3, seq, 900, true);
        end(&mut ledger, seq as u32 % 3, seq, 1_000, seq % 5 > 0);
        end(&mut ledger, seq as u32 % 3, seq, 1_100, true);
    }
    for worker in 0..3 {
        assert_eq!(counts(&view_of(&mut ledger, worker, 2_000)), [Some(0), Some(0), Some(0), Some(0)]);
    }
    assert_eq!(ledger.requests.len(), 0);
}

#[test]
fn a_retry_leaves_the_worker_that_failed_told_or_not() {
    let mut ledger = ledger(2);
    route(&mut ledger, 0, 0, &request(1, 1000), 0);
    route(&mut ledger, 1, 10, &request(1, 1000), 0);
    end(&mut ledger, 0, 1, 20, false);
    assert_eq!(counts(&view_of(&mut ledger, 0, 20)), [Some(0), Some(0), Some(0), Some(0)]);
    assert_eq!(counts(&view_of(&mut ledger, 1, 20)), [Some(1), Some(0), Some(1000), Some(100)]);
}

#[test]
fn what_failed_leaves_the_counts_and_teaches_no_speed() {
    let mut ledger = ledger(1);
    route(&mut ledger, 0, 0, &request(1, 1000), 250);
    end(&mut ledger, 0, 1, 9, false);
    end(&mut ledger, 0, 1, 9, true);
    let after = view(&mut ledger, 9);
    assert_eq!(counts(&after), [Some(0), Some(0), Some(0), Some(0)]);
    assert_eq!(
        (after.latency_ewma_us, after.answered_tokens_per_s, after.prefill_wait_us),
        (None, None, None)
    );
}

#[test]
fn a_worker_that_left_takes_its_requests_along_and_the_next_in_its_slot_knows_nothing() {
    let mut ledger = ledger(2);
    for seq in 1..=20 {
        route(&mut ledger, seq as u32 % 2, 0, &request(seq, 1000), 0);
    }
    first_token(&mut ledger, 0, 2, 50_000, 50_000);
    ledger.leave(WORKER);
    assert_eq!(ledger.requests.len(), 10, "of the other one");
    ledger.join(WORKER);
    for seq in 1..=20 {
        end(&mut ledger, 0, seq, 60_000, true);
    }
    let newcomer = view(&mut ledger, 60_000);
    assert_eq!(counts(&newcomer), [Some(0), Some(0), Some(0), Some(0)]);
    assert_eq!((newcomer.latency_ewma_us, newcomer.prefill_rate_tokens_per_s), (None, None));
    assert_eq!(view_of(&mut ledger, 1, 60_000).prefilling_requests, Some(10));
}

#[test]
fn requests_whose_end_was_never_told_are_forgotten_when_none_is_in_flight_for_long() {
    let mut ledger = ledger(2);
    route(&mut ledger, 0, 0, &request(1, 1000), 0);
    route(&mut ledger, 1, 0, &request(2, 1000), 0);
    let mut in_line = |worker, in_flight_requests, at_us| {
        let mut view = WorkerView { id: WorkerId(worker), in_flight_requests, ..WorkerView::default() };
        ledger.show_estimates(Time { us: at_us }, &mut view);
        view.prefilling_requests
    };
    assert_eq!(in_line(0, 0, 59_000_000), Some(1), "the end may be on its way");
    assert_eq!(in_line(1, 1, 61_000_000), Some(1), "it is there");
    assert_eq!(in_line(0, 0, 61_000_000), Some(0));
    assert_eq!(ledger.requests.len(), 1);
}

#[test]
fn what_a_server_said_is_forgotten_when_it_is_old_or_the_next_question_failed() {
    let mut ledger = ledger(1);
    let load = ServerLoad { queue_depth: Some(7), ..ServerLoad::default() };
    ledger.observe(Time { us: 1_000 }, &Event::Loaded { worker: WORKER, load });
    let seen = view(&mut ledger, 3_000);
    assert_eq!((seen.queue_depth, seen.server_load_age_us, seen.running), (Some(7), Some(2_000), None));
    assert_eq!(view(&mut ledger, 12_000_000).queue_depth, None);
    ledger.set_load_lasts(20_000_000);
    assert_eq!(view(&mut ledger, 12_000_000).queue_depth, Some(7));
    ledger.observe(Time { us: 4_000 }, &Event::LoadUnknown { worker: WORKER });
    assert_eq!(view(&mut ledger, 5_000).server_load_age_us, None);
}

#[test]
fn tokens_of_a_text_follow_what_servers_count() {
    let mut ledger = ledger(1);
    assert_eq!((ledger.tokens_of(0), ledger.tokens_of(401)), (None, Some(101)));
    for seq in 1..=40 {
        route(&mut ledger, 0, seq, &RequestView { prompt_bytes: 2_500, ..request(seq, 1) }, 0);
        end(&mut ledger, 0, seq, seq, true);
    }
    assert_eq!(ledger.tokens_of(400), Some(160));
    assert_eq!(request(1, 1000).tokens_in(1000), Some(250));
    assert_eq!(request(1, 1000).tokens_in(9000), Some(1000), "never more than there are");
}

/// A worker that computes what is in its line as an engine does: what fits into one forward pass together, then what came since.
struct Engine {
    worker: u32,
    token_us: u64,
    overhead_us: u64,
    free_at_us: u64,
}

impl Engine {
    fn serve(&mut self, ledger: &mut Ledger, seq: &mut u64, at_us: u64, prompts: &[u64]) {
        let idle = self.free_at_us <= at_us;
        let start_us = if idle { at_us + self.overhead_us } else { self.free_at_us };
        let first = *seq;
        for &tokens in prompts {
            route(ledger, self.worker, at_us, &request(*seq, tokens), 0);
            *seq += 1;
        }
        self.free_at_us = start_us + prompts.iter().sum::<u64>() * self.token_us;
        for seq in first..*seq {
            // One after the other out of the same forward pass.
            let token_at_us = self.free_at_us + (seq - first) * 50;
            first_token(ledger, self.worker, seq, token_at_us, token_at_us - at_us);
        }
    }
}

#[test]
fn rates_of_unequal_workers_are_learned_within_a_tenth() {
    let mut ledger = ledger(3);
    let engine = |worker, token_us| Engine { worker, token_us, overhead_us: 12_000, free_at_us: 0 };
    let mut engines = [engine(0, 32), engine(1, 32), engine(2, 96)];
    let mut seq = 1;
    for n in 0..200_u64 {
        for engine in &mut engines {
            let prompts: Vec<u64> = (0..=n % 3).map(|k| 100 + (n * 37 + k * 911) % 2_500).collect();
            engine.serve(&mut ledger, &mut seq, n * 1_000_000, &prompts);
        }
    }
    let rates = [0, 1, 2].map(|id| view_of(&mut ledger, id, 200_000_000).prefill_rate_tokens_per_s);
    assert!(near(rates[0], 1e6 / 32.0) && near(rates[1], 1e6 / 32.0), "{rates:?}");
    assert!(near(rates[2], 1e6 / 96.0), "{rates:?}");
    assert_eq!(view_of(&mut ledger, 2, 260_000_000).prefill_rate_tokens_per_s, None, "it may be quick again");
}

/// A ledger whose fleet computes 20,000 tokens a second and has 10 ms of overhead.
fn taught(workers: u32) -> Ledger {
    let mut ledger = ledger(workers);
    let mut engine = Engine { worker: 0, token_us: 50, overhead_us: 10_000, free_at_us: 0 };
    let mut seq = 1_000_000;
    for n in 0..100 {
        engine.serve(&mut ledger, &mut seq, n * 1_000_000, &[200 + n % 2 * 3_000]);
    }
    for seq in 1_000_000..seq {
        end(&mut ledger, 0, seq, 100_000_000, true);
    }
    ledger
}

const START: u64 = 200_000_000;

#[test]
fn the_wait_falls_as_prompts_are_computed_and_rises_when_a_token_is_late() {
    let mut ledger = taught(2);
    let mut wait_ms = |at_ms: u64| {
        let view = view_of(&mut ledger, 1, START + at_ms * 1_000);
        (view.prefill_wait_us.expect("known") / 1_000.0).round()
    };
    assert!(
        (9.0..12.0).contains(&wait_ms(0)),
        "the overhead: nobody is there, and of this worker nothing is known"
    );
    for (seq, tokens) in [(1, 20_000), (2, 4_000)] {
        route(&mut ledger, 1, START, &request(seq, tokens), 0);
    }
    let mut wait_ms = |at_ms: u64| {
        let view = view_of(&mut ledger, 1, START + at_ms * 1_000);
        view.prefill_wait_us.expect("known") / 1_000.0
    };
    for (at_ms, expected) in [(10, 1_400.0), (510, 900.0), (1_010, 400.0), (1_510, 505.0), (61_010, 60_000.0)]
    {
        let wait = wait_ms(at_ms);
        assert!((wait / expected - 1.0).abs() < 0.05, "after {at_ms} ms {wait}, expected {expected}");
    }
    first_token(&mut ledger, 1, 1, START + 61_010_000, 61_010_000);
    let mut view = view_of(&mut ledger, 1, START + 61_010_000);
    assert!(view.prefill_wait_us.is_some_and(|us| us < 2_000_000.0), "it goes on: {view:?}");
    end(&mut ledger, 1, 2, START + 62_000_000, false);
    view = view_of(&mut ledger, 1, START + 62_000_000);
    assert!(near(view.prefill_wait_us, 80_000.0) || view.prefill_wait_us.is_some_and(|us| us < 100_000.0));
}

/// However it goes: the client gave up, or the next attempt went elsewhere before its end was told.
#[test]
fn when_the_first_of_a_line_goes_without_a_token_the_next_begins_then() {
    for is_retried in [false, true] {
        let mut ledger = taught(2);
        route(&mut ledger, 1, START, &request(1, 20_000), 0);
        route(&mut ledger, 1, START, &request(2, 4_000), 0);
        if is_retried {
            route(&mut ledger, 0, START + 1_000_000, &request(1, 20_000), 0);
        } else {
            end(&mut ledger, 1, 1, START + 1_000_000, false);
        }
        for (after_us, expected_us) in [(0, 200_000.0), (100_000, 100_000.0)] {
            let wait_us = view_of(&mut ledger, 1, START + 1_000_000 + after_us).prefill_wait_us;
            assert!(near(wait_us, expected_us), "{wait_us:?}, expected {expected_us}");
        }
    }
}

#[test]
fn a_plain_answer_leaves_the_line_when_it_should_be_computed_and_is_never_late() {
    let mut ledger = taught(1);
    for seq in 1..=3 {
        route(&mut ledger, 0, START, &RequestView { stream: false, ..request(seq, 2_000) }, 0);
    }
    let at = |ledger: &mut Ledger, ms: u64| counts(&view(ledger, START + ms * 1_000));
    assert_eq!(at(&mut ledger, 0)[..3], [Some(3), Some(0), Some(6_000)]);
    assert_eq!(at(&mut ledger, 160)[..3], [Some(2), Some(1), Some(4_000)]);
    assert_eq!(at(&mut ledger, 9_000)[..3], [Some(0), Some(3), Some(0)]);
    let wait_us = view(&mut ledger, START + 9_000_000).prefill_wait_us;
    assert!(near(wait_us, 10_000.0), "{wait_us:?}");
    (1..=3).for_each(|seq| end(&mut ledger, 0, seq, START + 9_000_000, true));
    assert_eq!(at(&mut ledger, 9_000), [Some(0), Some(0), Some(0), Some(0)]);
}

#[test]
fn those_in_front_of_a_first_token_have_been_computed() {
    let mut ledger = taught(1);
    for (seq, stream) in [(1, false), (2, false), (3, true), (4, false)] {
        route(&mut ledger, 0, START, &RequestView { stream, ..request(seq, 4_000) }, 0);
    }
    first_token(&mut ledger, 0, 3, START + 100_000, 100_000);
    assert_eq!(counts(&view(&mut ledger, START + 100_000))[..3], [Some(1), Some(3), Some(4_000)]);
}

#[test]
fn what_others_have_in_the_servers_queue_is_waited_for_too_while_it_is_fresh() {
    let mut ledger = taught(2);
    route(&mut ledger, 1, START, &request(1, 4_000), 0);
    let alone = view_of(&mut ledger, 1, START).prefill_wait_us.expect("known");
    let load = ServerLoad { queue_depth: Some(11), ..ServerLoad::default() };
    ledger.observe(Time { us: START }, &Event::Loaded { worker: WorkerId(1), load });
    let shared = view_of(&mut ledger, 1, START).prefill_wait_us.expect("known");
    let usual = ledger.fleet.work.expect("known") * 50.0;
    assert!(near(Some(shared - alone), 10.0 * usual), "{alone} {shared} {usual}");
    // It was stuck for twelve seconds since, and what the server said is too old.
    let later = view_of(&mut ledger, 1, START + 12_000_000).prefill_wait_us.expect("known");
    assert!((11e6..13e6).contains(&later), "{later}");
}

#[test]
fn tokens_to_come_fall_while_requests_decode() {
    let mut ledger = taught(1);
    assert!(near(view(&mut ledger, START).decode_rate_tokens_per_s, 51.0));
    route(&mut ledger, 0, START, &request(1, 200), 0);
    first_token(&mut ledger, 0, 1, START + 20_000, 20_000);
    let left = |ledger: &mut Ledger, ms: u64| counts(&view(ledger, START + ms * 1_000))[3].expect("known");
    assert_eq!(left(&mut ledger, 20), 100);
    assert!((45..53).contains(&left(&mut ledger, 1_020)), "{}", left(&mut ledger, 1_020));
    assert_eq!(left(&mut ledger, 60_000), 1, "the last one is always to come");
}

/// Anything that may be told, in any order, with any numbers.
fn told() -> impl Strategy<Value = (u8, u64, u32, u64, u64)> {
    let number = || prop_oneof![0..5_000_u64, 0..60_000_000_u64, any::<u64>()];
    (0..12_u8, 1..12_u64, 0..3_u32, number(), number())
}

proptest! {
    #[test]
    fn whatever_is_told_counts_are_those_of_the_requests_there_and_waits_are_times(
        steps in prop::collection::vec(told(), 0..200),
    ) {
        let mut ledger = ledger(3);
        let mut at_us = 0_u64;
        for (what, seq, worker, a, b) in steps {
            at_us = at_us.saturating_add(a % 50_000_000);
            let (id, now) = (WorkerId(worker), Time { us: at_us });
            match what {
                0..4 => {
                    let asked = RequestView {
                        prompt_tokens: Some(b).filter(|b| b % 3 > 0),
                        max_new_tokens: Some(a).filter(|a| a % 3 > 0),
                        stream: a % 2 == 0,
                        ..request(seq, 0)
                    };
                    route(&mut ledger, worker, at_us, &asked, a);
                }
                4..7 => first_token(&mut ledger, worker, seq, at_us, b),
                7..9 => {
                    let (prompt, completion, cached) = (Some(a), Some(b), Some(b));
                    ledger.observe(now, &Event::Ended {
                        seq, worker: id, latency_us: b, ok: a % 2 == 0,
                        prompt_tokens: prompt, completion_tokens: completion, cached_tokens: cached,
                    });
                }
                9 => {
                    let load = ServerLoad { queue_depth: Some(b as u32), ..ServerLoad::default() };
                    ledger.observe(now, &Event::Loaded { worker: id, load });
                }
                10 => ledger.leave(id),
                _ => ledger.join(id),
            }
            let mut there = 0;
            for worker in 0..3 {
                let view = view_of(&mut ledger, worker, at_us);
                prop_assert!(view.prefill_wait_us.is_none_or(|us| us.is_finite() && us >= 0.0), "{view:?}");
                prop_assert!(view.prefill_rate_tokens_per_s.is_none_or(|rate| rate.is_finite() && rate > 0.0), "{view:?}");
                there += u64::from(view.prefilling_requests.unwrap_or(0) + view.decoding_requests.unwrap_or(0));
            }
            prop_assert_eq!(there, ledger.requests.len() as u64);
        }
        for (seq, worker) in (1..12).flat_map(|seq| (0..3).map(move |worker| (seq, worker))) {
            end(&mut ledger, worker, seq, at_us, false);
        }
        for worker in 0..3 {
            let view = view_of(&mut ledger, worker, at_us);
            let counts = counts(&view).map(Option::unwrap_or_default);
            prop_assert_eq!(counts, [0, 0, 0, 0]);
        }
    }
}
