//! What wins, what is neutral, and what is no weight.

use super::*;
use crate::testing::{Fleet, ask};

fn weights(text: &str) -> Weights {
    Weights::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn policy(text: &str) -> Weighted {
    Weighted::new("weighted", weights(text), 1)
}

fn rounded(decision: &Decision) -> Vec<f64> {
    decision.scores().iter().map(|score| (score.expect("scored") * 1000.0).round() / 1000.0).collect()
}

#[test]
fn scorers_are_spread_over_the_fleet_and_weighed() {
    let mut fleet = Fleet::of(3);
    fleet.in_flight([0, 5, 10]);
    fleet.prefix_matches([0, 1000, 500]);
    let decision = ask(&mut policy("[scorers]\nprefix_match = 1\nin_flight = 3.0"), 1, &fleet.workers);
    assert_eq!(rounded(&decision), [0.75, 0.625, 0.125]);
    assert_eq!((decision.chosen(), decision.reason()), (Some(0), "highest_score"));
    let by_prefix = ask(&mut policy("[scorers]\nprefix_match = 3\nin_flight = 1"), 1, &fleet.workers);
    assert_eq!(by_prefix.chosen(), Some(1));
}

#[test]
fn what_is_not_known_neither_wins_nor_loses() {
    for (text, more) in [("[scorers]\nlatency = 1", false), ("[scorers]\nthroughput = 1", true)] {
        let mut fleet = Fleet::of(3);
        for (worker, value) in fleet.workers.iter_mut().zip([Some(1.0), None, Some(9.0)]) {
            (worker.latency_ewma_us, worker.throughput_tokens_per_s) = (value, value);
        }
        let decision = ask(&mut policy(text), 1, &fleet.workers);
        assert_eq!(rounded(&decision), if more { [0.0, 0.5, 1.0] } else { [1.0, 0.5, 0.0] });
        // Nothing known of anybody: the least loaded.
        fleet
            .workers
            .iter_mut()
            .for_each(|w| (w.latency_ewma_us, w.throughput_tokens_per_s) = (None, Some(f64::NAN)));
        fleet.in_flight([2, 2, 1]);
        let decision = ask(&mut policy(text), 1, &fleet.workers);
        assert_eq!((rounded(&decision), decision.chosen()), (vec![0.5; 3], Some(2)));
    }
}

#[test]
fn every_scorer_prefers_the_better_worker_and_says_what_it_needs() {
    let good = WorkerView {
        prefix_match_bytes: Some(9),
        in_flight_requests: 1,
        queue_depth: Some(1),
        outstanding_prefill_tokens: Some(1),
        outstanding_decode_tokens: Some(1),
        kv_usage: Some(0.1),
        latency_ewma_us: Some(1.0),
        ttft_ewma_us: Some(1.0),
        cache_hit_rate: Some(0.9),
        priority: 9,
        throughput_tokens_per_s: Some(9.0),
        ..WorkerView::default()
    };
    let bad = WorkerView {
        id: crate::view::WorkerId(1),
        prefix_match_bytes: Some(1),
        in_flight_requests: 9,
        queue_depth: Some(9),
        outstanding_prefill_tokens: Some(9),
        outstanding_decode_tokens: Some(9),
        kv_usage: Some(0.9),
        latency_ewma_us: Some(9.0),
        ttft_ewma_us: Some(9.0),
        cache_hit_rate: Some(0.1),
        priority: 1,
        throughput_tokens_per_s: Some(1.0),
        ..WorkerView::default()
    };
    let readme = include_str!("../../README.md");
    for scorer in &ALL {
        let mut policy = policy(&format!("[scorers]\n{} = 2", scorer.name));
        assert_eq!(ask(&mut policy, 1, &[bad, good]).scores(), [Some(0.0), Some(1.0)], "{}", scorer.name);
        assert_eq!(policy.needs(), scorer.needs);
        assert!(readme.contains(&format!("`{}`", scorer.name)), "{} is not in README.md", scorer.name);
    }
}

#[test]
fn values_beyond_all_measure_still_give_scores() {
    let mut fleet = Fleet::of(3);
    for (worker, value) in fleet.workers.iter_mut().zip([f64::MAX, f64::MIN, 0.0]) {
        worker.latency_ewma_us = Some(value);
    }
    let decision = ask(&mut policy("[scorers]\nlatency = 1e308\nttft = 1e308"), 1, &fleet.workers);
    assert_eq!(rounded(&decision), [0.25, 0.75, 0.5]);
}

#[test]
fn softmax_draws_by_the_scores_and_temperature() {
    let mut fleet = Fleet::of(4);
    fleet.in_flight([0, 1, 2, 4]);
    let shares = |temperature: f64| {
        let text = format!("picker = \"softmax\"\ntemperature = {temperature}\n[scorers]\nin_flight = 1");
        let mut policy = policy(&text);
        let mut counts = [0.0; 4];
        for seq in 0..4_000 {
            let decision = ask(&mut policy, seq, &fleet.workers);
            assert_eq!(decision.reason(), "drawn");
            counts[decision.chosen().expect("drawn")] += 1.0 / 4_000.0;
        }
        counts
    };
    let expected = [1.0, 0.75, 0.5, 0.0].map(|score: f64| (score / 0.5).exp());
    let sum: f64 = expected.iter().sum();
    for (share, likely) in shares(0.5).into_iter().zip(expected) {
        assert!((share - likely / sum).abs() < 0.03, "{share} {}", likely / sum);
    }
    assert!(shares(0.001)[0] > 0.999);
    assert!(shares(1e9).iter().all(|share| (share - 0.25).abs() < 0.03));
    assert!(shares(1e-300)[0] > 0.999);
}

#[test]
fn two_choices_takes_the_better_of_two() {
    let mut fleet = Fleet::of(4);
    fleet.in_flight([0, 1, 2, 3]);
    let mut policy = policy("picker = \"two_choices\"\n[scorers]\nin_flight = 1");
    let mut counts = [0; 4];
    for seq in 0..4_000 {
        let decision = ask(&mut policy, seq, &fleet.workers);
        assert_eq!((decision.reason(), decision.scores().iter().flatten().count()), ("better_of_two", 2));
        counts[decision.chosen().expect("one of two")] += 1;
    }
    // The best of four is among two of them half of the time, the worst is never the better one.
    assert!((1_800..2_200).contains(&counts[0]) && counts[3] == 0, "{counts:?}");
    assert_eq!(ask(&mut policy, 1, &fleet.workers[..1]).chosen(), Some(0));
}

#[test]
fn what_is_no_weight_is_refused_by_name_and_line() {
    for (text, expected) in [
        (
            "[scorers]\nprefix = 1",
            "scorers.prefix: no such scorer; did you mean prefix_match? one of: prefix_match, in_flight",
        ),
        (
            "[scorers]\nqueue = 1\nlatency = -1",
            "scorers.latency: expected a weight of 0 or more, got -1 (line 3)",
        ),
        ("[scorers]\nqueue = nan", "scorers.queue: expected a weight of 0 or more, got nan (line 2)"),
        ("[scorers]\nqueue = inf", "got inf (line 2)"),
        ("[scorers]\nqueue = \"2\"", "got 2 (line 2)"),
        ("[scorers]\nqueue = [1]", "got a value of type array (line 2)"),
        ("[scorers]\nqueue = 0\nttft = 0.0", "scorers: expected at least one weight above 0"),
        ("[scorers]", "scorers: expected at least one weight above 0"),
        ("", "scorers: missing"),
        (
            "scorers = 5",
            "scorers: expected a table of names and weights, got a value of type integer (line 1)",
        ),
        (
            "picker = \"maximum\"\n[scorers]\nqueue = 1",
            "picker: no such picker; one of: max, softmax, two_choices (line 1)",
        ),
        ("picker = \"softmx\"\n[scorers]\nqueue = 1", "did you mean softmax?"),
        (
            "picker = 1\n[scorers]\nqueue = 1",
            "picker: expected one of max, softmax, two_choices, got a value of type integer",
        ),
        ("temperature = 0\n[scorers]\nqueue = 1", "temperature: expected a number above 0, got 0 (line 1)"),
        ("temprature = 1\n[scorers]\nqueue = 1", "temprature: no such entry; did you mean temperature?"),
        ("[scorers]\nqueue = ", "no TOML: "),
        ("[scorers]\nqueue = 1\nqueue = 2", "(line 3)"),
    ] {
        let error = Weights::parse(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    assert!(Weights::parse(&"#".repeat(70_000)).is_err_and(|error| error.what.contains("65536")));
    assert!(
        Weights::parse(&format!("[scorers]\n{} = 1", "x".repeat(10_000)))
            .is_err_and(|e| e.to_string().len() < 400)
    );
}

#[test]
fn the_weights_of_the_page_are_read_and_those_without_a_file_are_what_it_says() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```toml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    assert_eq!(weights(example).used().count(), 3);
    let default = weights("[scorers]\nprefix_match = 3\nin_flight = 2");
    assert_eq!(default, Weights::default());
}

#[test]
fn values_too_near_each_other_to_be_told_apart_are_neutral() {
    let least = f64::from_bits(1);
    for range in [(0.0, least), (least, 2.0 * least), (f64::NAN, 1.0), (1.0, 1.0)] {
        let score = spread(range.1, range);
        assert!(score.is_finite(), "{score} in {range:?}");
    }
    assert!((spread(least, (0.0, least)) - NEUTRAL).abs() < f64::EPSILON);
}
