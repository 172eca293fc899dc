//! A fleet whose truth is known: what is fitted to its trace is what it is, and what is predicted of a policy is what that gives.

use std::sync::Arc;

use milepost_policies::{
    Chooser, Eligible, Event, Joining, PolicyConfig, PolicyId, PrefixIndex, PromptHashes, RequestView, Time,
    WorkerId, build, name_hash,
};

use super::arm::Unseen;
use super::reading::Limits;
use super::*;
use crate::clock::ClockSnapshot;
use crate::sim::Profile;
use crate::sim::engine::Progress as Made;
use crate::sim::tokens::{Answer, mix};
use crate::sim::virtual_fleet::{self, Placed, Traffic};
use crate::trace::example::run_record;
use crate::trace::journal::{ChoiceCall, JoinCall, JournalCall, JournalRecord, PolicyCall, StartCall};
use crate::trace::reader::TraceReader;
use crate::trace::record::{Outcome, Record, RequestRecord, RunRecord};
use crate::wire::Endpoint;
use crate::wire::answer::Tokens;

const WORKERS: usize = 4;
const REQUESTS: usize = 1_000;
const GROUPS: u64 = 30;
const TOKENS_PER_BYTE: f64 = 0.25;
const KV_TOKENS: u64 = 20_000;
const PREFILL_TOKEN_US: f64 = 60.0;
const INDEX_BYTES: usize = 64 << 20;

/// The workers as they are.
fn truth() -> Profile {
    Profile {
        prefill_token_us: PREFILL_TOKEN_US,
        prefill_pair_ns: 0.0,
        tokenize_us: 3_000.0,
        tokenize_byte_us: 0.0,
        kv_tokens: KV_TOKENS,
        ..Profile::default()
    }
}

fn url(worker: usize) -> Arc<str> {
    format!("http://gpu{worker}:8000").into()
}

/// A router before them, and the trace that it writes.
struct Routed {
    chooser: Chooser,
    prompts: Vec<PromptHashes>,
    chosen: Vec<(u64, usize)>,
    first_ns: Vec<u64>,
    calls: u64,
    lines: String,
}

impl Routed {
    fn write(&mut self, record: &Record) {
        self.lines += &serde_json::to_string(record).unwrap();
        self.lines.push('\n');
    }

    fn call(&mut self, now_us: u64, call: JournalCall) {
        let record = JournalRecord { n: self.calls, now_us, call };
        self.calls += 1;
        self.write(&Record::Journal(Box::new(record)));
    }

    fn observe(&mut self, now_ns: u64, event: &Event) {
        self.chooser.observe(Time { us: now_ns / 1_000 }, event);
        self.call(now_ns / 1_000, JournalCall::Event(Box::new(event.into())));
    }
}

impl Traffic for Routed {
    fn arrive(&mut self, now_ns: u64, n: usize, in_flight: &[u32]) -> Option<Placed> {
        let prompt = self.prompts[n].clone();
        let request = RequestView {
            seq: n as u64 + 1,
            prompt: Some(&prompt),
            prompt_bytes: prompt.len_bytes(),
            stream: true,
            ..RequestView::default()
        };
        let eligible: Vec<Eligible> = in_flight
            .iter()
            .zip(0..)
            .map(|(&in_flight_requests, position)| Eligible { position, in_flight_requests })
            .collect();
        let now = Time { us: now_ns / 1_000 };
        let worker = self.chooser.choose(now, PolicyId::default(), &request, &eligible)?;
        let mut call = ChoiceCall::asked(0, &request, &eligible);
        call.answered(Some(worker), self.chooser.decision());
        call.complete(&request);
        self.call(now.us, JournalCall::Choice(Box::new(call)));
        self.chosen[n] = (now_ns, worker);
        let tokens = prompt::token_count(prompt.len_bytes(), TOKENS_PER_BYTE);
        Some(Placed {
            worker,
            prompt: prompt::tokens(Some(&prompt), n as u64, tokens, TOKENS_PER_BYTE).into(),
            prompt_bytes: prompt.len_bytes() as usize,
            answer: Answer::new(1, &[n as u32], 0),
            output_tokens: 10 + (mix(n as u64) % 20) as u32,
            max_new_tokens: 32,
        })
    }

    fn first_token(&mut self, now_ns: u64, n: usize, worker: usize) {
        self.first_ns[n] = now_ns;
        let ttft_us = (now_ns - self.chosen[n].0) / 1_000;
        self.observe(
            now_ns,
            &Event::FirstToken { seq: n as u64 + 1, worker: WorkerId(worker as u32), ttft_us },
        );
    }

    fn ended(&mut self, now_ns: u64, n: usize, worker: usize, made: &Made) -> Option<(u64, usize)> {
        let (chosen_ns, _) = self.chosen[n];
        let prompt_bytes = self.prompts[n].len_bytes();
        let tokens = Tokens {
            prompt_tokens: Some(prompt::token_count(prompt_bytes, TOKENS_PER_BYTE)),
            completion_tokens: Some(u64::from(made.tokens)),
            cached_tokens: Some(u64::from(made.cached_tokens)),
        };
        let event = Event::Ended {
            seq: n as u64 + 1,
            worker: WorkerId(worker as u32),
            latency_us: (now_ns - chosen_ns) / 1_000,
            ok: true,
            prompt_tokens: tokens.prompt_tokens,
            completion_tokens: tokens.completion_tokens,
            cached_tokens: tokens.cached_tokens,
        };
        self.observe(now_ns, &event);
        let record = RequestRecord {
            seq: n as u64 + 1,
            endpoint: Endpoint::Generate,
            stream: true,
            attempts: 1,
            prompt_bytes: Some(prompt_bytes),
            worker: Some(url(worker)),
            arrival_mono_ns: chosen_ns,
            decided_ns: Some(0),
            router_send_ns: Some(0),
            first_token_ns: Some(self.first_ns[n] - chosen_ns),
            last_byte_ns: Some(now_ns - chosen_ns),
            end_ns: now_ns - chosen_ns,
            outcome: Outcome::Done,
            tokens,
            ..RequestRecord::default()
        };
        self.write(&Record::Request(Box::new(record)));
        None
    }
}

/// The trace of a run with this policy: groups of requests with a long common beginning, arriving as they like.
pub(super) fn trace(policy: &str) -> String {
    let config = PolicyConfig { seed: 5, ..PolicyConfig::default() };
    let built = build(policy, &config).unwrap();
    let prompt = |n: usize| {
        let group = mix(n as u64 + 77) % GROUPS;
        let beginning = format!("group {group} has a beginning of its own ").repeat(90);
        PromptHashes::of(format!("{beginning} and request {n} an end").repeat(1).as_bytes())
    };
    let mut routed = Routed {
        chooser: Chooser::new(built, PrefixIndex::new(INDEX_BYTES)),
        prompts: (0..REQUESTS).map(prompt).collect(),
        chosen: vec![(0, 0); REQUESTS],
        first_ns: vec![0; REQUESTS],
        calls: 0,
        lines: String::new(),
    };
    let clock = ClockSnapshot { mono_ns: 0, unix_ns: 0, bracket_ns: 0 };
    routed.write(&Record::Run(RunRecord {
        policy: policy.into(),
        seed: 5,
        workers: (0..WORKERS).map(|worker| url(worker).to_string()).collect(),
        ..run_record(clock)
    }));
    let start =
        StartCall { index_bytes: INDEX_BYTES as u64, worker_prefix_bytes: None, load_lasts_us: 10_000_000 };
    routed.call(0, JournalCall::Start(Box::new(start)));
    let call = PolicyCall { policy: 0, name: policy.into(), config: (&config).into() };
    routed.call(0, JournalCall::Policy(Box::new(call)));
    for worker in 0..WORKERS {
        let url_hash = name_hash(url(worker).as_bytes());
        let joining = Joining { id: WorkerId(worker as u32), url_hash, priority: 50 };
        routed.chooser.join(Time::default(), joining);
        let call = JoinCall { slot: worker as u32, worker: url(worker), url_hash, priority: 50 };
        routed.call(0, JournalCall::Join(Box::new(call)));
    }
    let mut at_ns = 0;
    let arrivals = (0..REQUESTS).map(|n| {
        // Exponential gaps of 25 ms in the mean.
        at_ns += (-((mix(n as u64) >> 11) as f64 / (1_u64 << 53) as f64).max(1e-9).ln() * 25e6) as u64;
        (at_ns, n)
    });
    let arrivals: Vec<(u64, usize)> = arrivals.collect();
    virtual_fleet::play(vec![truth(); WORKERS], arrivals, &mut routed);
    routed.lines
}

pub(super) fn read(lines: &str) -> Reading {
    Reading::of(TraceReader::new(lines.as_bytes()), Limits::default(), &mut |_| {}).unwrap()
}

fn tried(policies: &[&str], lines: &str) -> Replay {
    let policies = policies.iter().map(|name| (*name).to_owned()).collect();
    replay(read(lines), &ReplayConfig { policies, ..ReplayConfig::default() }, &Unseen).unwrap()
}

#[track_caller]
fn near(what: &str, found: Option<f64>, true_value: Option<f64>, part: f64) {
    let (found, true_value) = (found.unwrap(), true_value.unwrap());
    assert!((found / true_value - 1.0).abs() <= part, "{what}: {found}, in truth {true_value}");
}

#[test]
fn a_fleet_is_found_from_its_trace_and_what_another_policy_gives_is_foretold() {
    let (recorded, other) = (trace("round_robin"), trace("cache_aware"));
    let replay = tried(&["cache_aware"], &recorded);
    assert!(replay.reading.exact.as_ref().unwrap().is_exact(), "{:?}", replay.reading.exact);
    assert_eq!(replay.approximate, Vec::<String>::new());
    let what_if = replay.what_if.as_ref().unwrap();
    for worker in &what_if.fitted.workers {
        let found = &worker.profile;
        near("prefill", Some(found.prefill_token_us), Some(PREFILL_TOKEN_US), 0.1);
        near("step", Some(found.step_floor_us), Some(truth().step_floor_us), 0.1);
        near("KV cache", Some(found.kv_tokens as f64), Some(KV_TOKENS as f64), 0.35);
        assert_eq!((worker.prefill_from, worker.cache_from), ("router TTFT", "recorded hits"));
    }
    let text = table::text(&replay);
    near("recorded TTFT p50", what_if.again.ttft_p50_ms, what_if.recorded.ttft_p50_ms, 0.05);
    near("recorded TTFT p99", what_if.again.ttft_p99_ms, what_if.recorded.ttft_p99_ms, 0.15);
    near("recorded hits", what_if.again.hit_share, what_if.recorded.hit_share, 0.1);
    let [round_robin, cache_aware] = &what_if.arms[..] else { panic!("{text}") };
    assert!(round_robin.is_recorded && !cache_aware.is_recorded);
    assert_eq!((round_robin.elsewhere, round_robin.gains.len()), (0, 0), "its own choices");
    let truth = figures::Figures::of(&read(&other), &Played::recorded(&read(&other)));
    near("foretold TTFT p50", cache_aware.figures.ttft_p50_ms, truth.ttft_p50_ms, 0.1);
    near("foretold TTFT p99", cache_aware.figures.ttft_p99_ms, truth.ttft_p99_ms, 0.25);
    near("foretold E2E p50", cache_aware.figures.e2e_p50_ms, truth.e2e_p50_ms, 0.1);
    near("foretold hits", cache_aware.figures.hit_share, truth.hit_share, 0.1);
    assert!(
        cache_aware.gains.len() == DIFFERENCES
            && cache_aware.gains.is_sorted_by(|a, b| a.saved_ms >= b.saved_ms)
    );
    assert!(
        text.starts_with(&format!("exact: {REQUESTS} of {REQUESTS} decisions reproduced\nsimulated: ")),
        "{text}"
    );
}

#[test]
fn the_same_trace_gives_the_same_page_whatever_the_number_of_cores() {
    let lines = trace("random");
    let page = || json::page(&tried(&["shortest_queue", "power_of_two"], &lines)).unwrap();
    let first = page();
    assert_eq!(first, page());
    let value: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(value["exact"]["decisions"], REQUESTS);
    assert_eq!(value["what_if"]["policies"][0]["policy"], "random");
    assert_eq!(value["what_if"]["policies"][0]["elsewhere"], 0, "with the recorded seed");
}

#[test]
fn without_its_journal_a_trace_is_played_by_what_it_says_of_matches() {
    let lines = trace("round_robin");
    let lines: Vec<&str> = lines.lines().filter(|line| !line.contains("\"journal\"")).collect();
    let replay = tried(&["cache_aware"], &lines.join("\n"));
    assert!(replay.approximate[0].contains("has no journal"), "{:?}", replay.approximate);
    let what_if = replay.what_if.unwrap();
    // From the servers' counts of cached tokens alone.
    near("hits", what_if.again.hit_share, what_if.recorded.hit_share, 0.25);
}

#[test]
fn numbers_that_no_router_writes_are_left_out_and_harm_nobody() {
    let strange = RequestRecord {
        endpoint: Endpoint::Generate,
        worker: Some(url(0)),
        decided_ns: Some(5),
        prompt_bytes: Some(100),
        tokens: Tokens { prompt_tokens: Some(25), completion_tokens: Some(9), cached_tokens: Some(u64::MAX) },
        ..RequestRecord::default()
    };
    let changes: [fn(&mut RequestRecord); 6] = [
        |r| r.prompt_bytes = Some(u64::MAX),
        |r| r.tokens.prompt_tokens = Some(u64::MAX),
        |r| r.tokens.completion_tokens = Some(u64::MAX),
        |r| r.arrival_mono_ns = u64::MAX,
        |r| (r.prompt_bytes, r.tokens.prompt_tokens) = (Some(1), Some(1 << 22)),
        |r| (r.end_ns, r.first_token_ns) = (u64::MAX, Some(u64::MAX)),
    ];
    let mut lines = String::new();
    for (seq, change) in (1..).zip(changes) {
        let mut record = RequestRecord { seq, ..strange.clone() };
        change(&mut record);
        lines += &serde_json::to_string(&Record::Request(Box::new(record))).unwrap();
        lines.push('\n');
    }
    let replay = tried(&["round_robin"], &lines);
    assert_eq!((replay.reading.requests, replay.reading.rows.len()), (6, 2));
    assert!(table::text(&replay).contains("simulated: 2 requests of 6 (4 have no answer to go by)"));
}

#[test]
fn a_run_is_chosen_by_number_and_what_does_not_fit_is_said() {
    let lines = trace("random");
    let two = format!("{lines}{lines}{{\"kind\":\"requ");
    let limits = |run, requests| Limits { run, requests, ..Limits::default() };
    let read = |limits| Reading::of(TraceReader::new(two.as_bytes()), limits, &mut |_| {});
    let reading = read(limits(None, 100)).unwrap();
    assert_eq!((reading.runs, reading.rows.len(), reading.torn_lines), (2, 100, 1));
    let reasons = reading.approximate().join("\n");
    assert!(reasons.contains("only the first 100 requests are read, 900 more are left out"), "{reasons}");
    assert!(reasons.contains("1 lines are torn, the first is line"), "{reasons}");
    assert_eq!(read(limits(Some(1), 10)).unwrap().exact.unwrap().decisions, REQUESTS as u64);
    let error = read(limits(Some(3), 10)).unwrap_err().to_string();
    assert_eq!(error, "--run 3: the trace holds 2 (from 1)");
}
