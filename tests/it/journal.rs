//! The journal of a real run, made again: every decision comes out as it was, whatever happened meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use milepost::config::TraceDecisions;
use milepost::config::worker_url::WorkerUrl;
use milepost::fleet::spec::WorkerSettings;
use milepost::replay::arm::Unseen;
use milepost::replay::reading::{Limits, Reading};
use milepost::replay::{ReplayConfig, replay, table};
use milepost::trace::journal::JournalCall;
use milepost::trace::reader::TraceReader;
use milepost::trace::record::Record;
use milepost_policies::POLICIES;

use crate::harness::{Got, Step, TestRouter, Worker, ask, dead_url, generate_stream, json, ok, post_with};

/// Requests of one run.
const REQUESTS: usize = 60;

fn answer(got: &Got, number: usize) -> Vec<Step> {
    if number % 5 == 4 {
        return vec![Step::Send(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec())];
    }
    if String::from_utf8_lossy(&got.body).contains("\"stream\":true") { generate_stream(9) } else { ok() }
}

async fn worker() -> Worker {
    let answered = AtomicUsize::new(0);
    Worker::start(move |got| answer(got, answered.fetch_add(1, Ordering::Relaxed))).await
}

/// Prompts that share beginnings, keys that come back, streams and plain answers, a policy that some name themselves.
fn request(number: usize) -> String {
    let family = format!("family {} ", number % 4).repeat(30);
    let headers = match number % 3 {
        0 => format!("x-smg-routing-key: user {}\r\n", number % 7),
        1 => "x-smg-target-worker: 0\r\n".to_owned(),
        _ => format!("authorization: Bearer {}\r\n", number % 5),
    };
    let named = if number % 10 == 9 { "x-milepost-policy: power_of_two\r\n" } else { "" };
    let (stream, allowed) = (number.is_multiple_of(2), number % 50 + 1);
    let body = format!(
        "{{\"text\":\"{family} and {number}\",\"stream\":{stream},\"sampling_params\":{{\"max_new_tokens\":{allowed}}}}}"
    );
    String::from_utf8(post_with("/generate", &format!("{headers}{named}"), &body).into()).unwrap()
}

/// The trace of a run in which workers come, go, fail and are not there.
async fn run(policy: &str) -> Vec<Record> {
    let workers = [worker().await, worker().await, worker().await];
    let mut urls: Vec<String> = workers.iter().map(|worker| worker.url.clone()).collect();
    urls.push(dead_url());
    let late = worker().await;
    let router = TestRouter::with_urls(&urls, |config| {
        policy.clone_into(&mut config.policy);
        config.policy_config.seed = 11;
        config.policy_config.balance_abs_threshold = 1;
        config.allow_policy_header = true;
        config.trace_decisions = TraceDecisions::Journal;
    })
    .await;
    let router = Arc::new(router);
    for half in 0..2 {
        let mut clients = Vec::new();
        for client in 0..6 {
            let router = Arc::clone(&router);
            clients.push(tokio::spawn(async move {
                for turn in 0..REQUESTS / 12 {
                    ask(router.addr, request(half * REQUESTS / 2 + client * REQUESTS / 12 + turn)).await;
                }
            }));
        }
        if half == 1 {
            let fleet = &router.shared.fleet;
            let first = &fleet.workers()[0];
            let labels = [("rack".to_owned(), "a".to_owned())].into();
            fleet.set_settings(first, WorkerSettings { priority: 90, labels, ..first.settings() });
            assert!(fleet.remove(&fleet.workers()[1]));
            fleet.add(WorkerUrl::parse(&late.url).unwrap()).unwrap();
        }
        for client in clients {
            client.await.unwrap();
        }
    }
    Arc::into_inner(router).unwrap().finish().await
}

fn read(records: &[Record]) -> Reading {
    let text: String = records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
    Reading::of(TraceReader::new(text.as_bytes()), Limits::default(), &mut |_| {}).unwrap()
}

fn journal(records: &[Record]) -> impl Iterator<Item = &JournalCall> {
    records.iter().filter_map(|record| match record {
        Record::Journal(record) => Some(&record.call),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_decision_of_every_policy_comes_out_again_as_it_was_recorded() {
    for policy in POLICIES {
        let records = run(policy.name).await;
        let verdict = read(&records).exact.expect("a journal");
        assert!(verdict.is_exact(), "{}: {verdict:?}", policy.name);
        assert!(verdict.decisions >= REQUESTS as u64, "{}: {verdict:?}", policy.name);
        assert_eq!(verdict.reproduced, verdict.decisions);
        let retries =
            journal(&records).filter(|call| matches!(call, JournalCall::Choice(c) if c.attempts > 0));
        assert!(retries.count() > 0, "{}: some were tried again", policy.name);
        let left = journal(&records).filter(|call| matches!(call, JournalCall::Leave(_))).count();
        let joined = journal(&records).filter(|call| matches!(call, JournalCall::Join(_))).count();
        let described = journal(&records).filter(|call| matches!(call, JournalCall::Describe(_))).count();
        assert_eq!((left, joined, described), (1, 5, 1));
    }
}

#[tokio::test]
async fn a_journal_holds_hashes_of_whole_prompts_and_no_word_of_them() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::with(&[&worker], |c| c.trace_decisions = TraceDecisions::Journal).await;
    let text = "a confidential beginning ".repeat(100);
    ask(
        router.addr,
        post_with("/generate", "x-smg-routing-key: a-private-key\r\n", &format!("{{\"text\":\"{text}\"}}")),
    )
    .await;
    let records = router.finish().await;
    // round_robin needs no hash; who replays the trace with another policy does.
    let choice = journal(&records).find_map(|call| match call {
        JournalCall::Choice(choice) => Some(choice),
        _ => None,
    });
    let choice = choice.unwrap();
    assert_eq!((choice.hashed_bytes, choice.prompt_bytes), (Some(text.len() as u64), text.len() as u64));
    assert!(choice.routing_key_hash.is_some());
    let lines = serde_json::to_string(&records).unwrap();
    assert!(!lines.contains("confidential") && !lines.contains("private"), "{lines}");
}

#[tokio::test]
async fn what_is_told_of_decisions_is_what_was_asked_for() {
    for (decisions, has_record, has_journal) in [
        (TraceDecisions::Off, false, false),
        (TraceDecisions::Record, true, false),
        (TraceDecisions::Journal, true, true),
    ] {
        let worker = Worker::start(|_| ok()).await;
        let router = TestRouter::with(&[&worker], |c| c.trace_decisions = decisions).await;
        ask(router.addr, post_with("/generate", "", "{\"text\":\"a\"}")).await;
        let records = router.finish().await;
        let recorded = records.iter().any(|r| matches!(r, Record::Request(r) if r.decision.is_some()));
        assert_eq!((recorded, journal(&records).count() > 0), (has_record, has_journal), "{decisions:?}");
    }
}

#[tokio::test]
async fn a_hole_makes_it_approximate_from_there_and_a_changed_decision_is_named() {
    let records = run("cache_aware").await;
    let calls = || {
        records
            .iter()
            .enumerate()
            .filter_map(|(at, r)| Some((at, if let Record::Journal(r) = r { r } else { None? })))
    };
    let middle = calls().map(|(_, record)| record.n).max().unwrap() / 2;
    let whole = read(&records).exact.unwrap();

    let mut holed = records.clone();
    holed.retain(|record| !matches!(record, Record::Journal(record) if record.n == middle));
    let reading = read(&holed);
    let verdict = reading.exact.clone().unwrap();
    assert_eq!(verdict.hole, Some((middle, "1 call was lost".to_owned())));
    assert!(!verdict.is_exact() && verdict.mismatch.is_none(), "{verdict:?}");
    assert_eq!(verdict.reproduced, verdict.decisions);
    assert!(verdict.later > 0 && verdict.decisions + verdict.later >= whole.decisions - 1);
    assert!(reading.approximate()[0].starts_with(&format!("the journal has a hole at call {middle}")));

    let mut changed = records.clone();
    let (at, _) = calls()
        .find(|(_, r)| r.n > middle && matches!(&r.call, JournalCall::Choice(c) if c.chosen.is_some()))
        .unwrap();
    let Record::Journal(record) = &mut changed[at] else { panic!("a call") };
    let JournalCall::Choice(choice) = &mut record.call else { panic!("a choice") };
    choice.reason = "on_a_whim".into();
    let (n, seq) = (record.n, choice.seq);
    let verdict = read(&changed).exact.unwrap();
    let mismatch = verdict.mismatch.clone().expect("it is seen");
    assert_eq!((mismatch.n, mismatch.seq, mismatch.recorded.reason.as_str()), (n, seq, "on_a_whim"));
    assert_ne!(mismatch.replayed.reason, "on_a_whim");
    assert_eq!(verdict.reproduced, verdict.decisions - 1);
}

#[tokio::test]
async fn other_policies_are_tried_on_the_recorded_requests() {
    let records = run("round_robin").await;
    let config =
        ReplayConfig { policies: vec!["cache_aware".into(), "random".into()], ..ReplayConfig::default() };
    let replayed = replay(read(&records), &config, &Unseen).unwrap();
    let answered =
        records.iter().filter(|r| matches!(r, Record::Request(r) if r.tokens.completion_tokens > Some(0)));
    let answered = answered.count() as u64;
    let what_if = replayed.what_if.as_ref().unwrap();
    let names: Vec<&str> = what_if.arms.iter().map(|tried| tried.policy.as_str()).collect();
    assert_eq!(names, ["round_robin", "cache_aware", "random"]);
    for figures in what_if.arms.iter().map(|tried| &tried.figures).chain([&what_if.again, &what_if.recorded])
    {
        assert_eq!((figures.requests, figures.refused), (answered, 0));
        assert_eq!(figures.by_worker.iter().sum::<u64>(), answered);
        assert!(figures.ttft_p50_ms.is_some() && figures.hit_share.is_some(), "{figures:?}");
    }
    assert_eq!(what_if.again.by_worker, what_if.recorded.by_worker, "the recorded choices, played again");
    assert!(what_if.arms[1].figures.hit_share > what_if.arms[0].figures.hit_share, "prefixes are shared");
    let text = table::text(&replayed);
    let (first, _) = text.split_once('\n').unwrap();
    let decisions = replayed.reading.exact.as_ref().unwrap().decisions;
    assert_eq!(first, format!("exact: {decisions} of {decisions} decisions reproduced"));
    for part in ["round_robin (recorded)", "calibration: ", "TTFT p99", "sent elsewhere"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[tokio::test]
async fn without_a_journal_the_first_line_says_approximate_and_why() {
    let worker = Worker::start(|_| generate_stream(5)).await;
    let router = TestRouter::start(&[&worker]).await;
    for _ in 0..3 {
        ask(router.addr, post_with("/generate", "", "{\"text\":\"a b c\",\"stream\":true}")).await;
    }
    let records = router.finish().await;
    let reading = read(&records);
    assert!(reading.exact.is_none());
    let config = ReplayConfig { policies: vec!["random".into()], ..ReplayConfig::default() };
    let text = table::text(&replay(reading, &config, &Unseen).unwrap());
    assert!(
        text.starts_with("approximate: the trace has no journal (route --trace-decisions journal)"),
        "{text}"
    );
}

#[tokio::test]
async fn a_trace_without_answers_has_nothing_to_try_policies_on() {
    let worker = Worker::start(|_| json("{}")).await;
    let router = TestRouter::start(&[&worker]).await;
    ask(router.addr, post_with("/generate", "", "{}")).await;
    let records = router.finish().await;
    let config = ReplayConfig { policies: vec!["random".into()], ..ReplayConfig::default() };
    let error = replay(read(&records), &config, &Unseen).unwrap_err().to_string();
    assert!(error.starts_with("none of the 1 requests in the trace has an answer to go by"), "{error}");
    let names: BTreeSet<&str> = POLICIES.iter().map(|policy| policy.name).collect();
    assert!(!names.contains("no_such_policy"));
    assert!(milepost::replay::check_policies(&["no_such_policy".into()]).is_err());
}
