//! What the ledger learns from the counts of answers, the true, the missing and the absurd.
//!
//! Rule: as in `tests.rs`. Deliberately not here: lines, waits and speeds.

use super::tests::{first_token, ledger, near, request, route, view};
use super::*;

const WORKER: WorkerId = WorkerId(0);

/// An answer to a stream with these counts by the server.
fn answer(ledger: &mut Ledger, seq: u64, prompt_tokens: Option<u64>, completion_tokens: Option<u64>) {
    let latency_us = 2_000_000;
    let (worker, cached_tokens) = (WORKER, None);
    let event =
        Event::Ended { seq, worker, latency_us, ok: true, prompt_tokens, completion_tokens, cached_tokens };
    ledger.observe(Time { us: seq }, &event);
}

#[test]
fn one_answer_that_lies_moves_no_average_far() {
    for honest in [0, 40] {
        let mut ledger = ledger(1);
        for seq in 1..=honest {
            route(&mut ledger, 0, seq, &request(seq, 1_000), 0);
            answer(&mut ledger, seq, Some(1_000), Some(100));
        }
        for (lie, claimed) in [u64::MAX, 1, 0].into_iter().enumerate() {
            let seq = 1_000 + lie as u64;
            route(
                &mut ledger,
                0,
                seq,
                &RequestView { prompt_tokens: Some(claimed), ..request(seq, 1_000) },
                0,
            );
            answer(&mut ledger, seq, Some(claimed), Some(claimed));
            let tokens = ledger.tokens_of(4_000).expect("some");
            let known = if honest > 0 { 600..=1_700 } else { 250..=16_000 };
            assert!(known.contains(&tokens), "{tokens} after {claimed}");
            let answer_tokens = ledger.fleet.answer_tokens.expect("known");
            let most = if honest > 0 { 401.0 } else { MOST_TOKENS as f64 };
            assert!(answer_tokens <= most, "{answer_tokens} after {claimed}");
            assert!(ledger.fleet.prompt_tokens.is_some_and(|tokens| tokens <= MOST_TOKENS as f64));
        }
    }
}

#[test]
fn answers_that_became_longer_are_learned_even_after_empty_ones() {
    let mut ledger = ledger(1);
    for seq in 1..=60 {
        route(&mut ledger, 0, seq, &request(seq, 1_000), 0);
        answer(&mut ledger, seq, Some(1_000), Some(if seq > 10 { 400 } else { 0 }));
    }
    assert!(near(ledger.fleet.answer_tokens, 400.0), "{:?}", ledger.fleet);
}

#[test]
fn tokens_to_come_are_not_known_before_anything_tells() {
    let mut ledger = ledger(1);
    assert_eq!(view(&mut ledger, 0).outstanding_decode_tokens, Some(0), "nobody is there");
    route(&mut ledger, 0, 1, &RequestView { max_new_tokens: None, ..request(1, 1_000) }, 0);
    assert_eq!(view(&mut ledger, 1).outstanding_decode_tokens, None);
    first_token(&mut ledger, 0, 1, 2, 1);
    assert_eq!(view(&mut ledger, 2).outstanding_decode_tokens, None);
    route(&mut ledger, 0, 3, &request(3, 1_000), 0);
    assert_eq!(view(&mut ledger, 3).outstanding_decode_tokens, Some(101));
    answer(&mut ledger, 3, Some(1_000), Some(80));
    assert_eq!(view(&mut ledger, 3).outstanding_decode_tokens, Some(1));
}

#[test]
fn token_ids_teach_nothing_of_text() {
    let mut ledger = ledger(1);
    for seq in 1..=40 {
        route(&mut ledger, 0, seq, &RequestView { is_counted: true, ..request(seq, 1_000) }, 0);
        answer(&mut ledger, seq, Some(500), Some(9));
    }
    assert_eq!(ledger.tokens_of(400), Some(100));
}

#[test]
fn a_stream_whose_server_counts_nothing_has_a_latency_and_a_plain_answer_without_counts_none() {
    let mut ledger = ledger(1);
    route(&mut ledger, 0, 1, &RequestView { stream: false, ..request(1, 1_000) }, 0);
    answer(&mut ledger, 1, None, None);
    assert_eq!(view(&mut ledger, 1).latency_ewma_us, None);
    route(&mut ledger, 0, 2, &request(2, 1_000), 0);
    first_token(&mut ledger, 0, 2, 3, 1);
    answer(&mut ledger, 2, None, None);
    assert_eq!(view(&mut ledger, 3).latency_ewma_us, Some(2e6));
}
