//! The engine's tests: order, limits, cache, retraction, abort.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::sim::tokens::Answer;

fn profile() -> Profile {
    Profile { kv_tokens: 1_000, max_running_requests: 4, chunked_prefill_tokens: 100, ..Profile::default() }
}

fn engine() -> Engine {
    Engine::new(profile(), 1.0, None)
}

fn job(id: JobId, prompt: Vec<Token>, output_tokens: u32) -> Job {
    let prompt: Arc<[Token]> = prompt.into();
    let answer = Answer::new(9, &prompt, 0);
    Job { id, prompt, answer, output_tokens, max_new_tokens: output_tokens, report_every: 1, queued_at_ns: 0 }
}

/// A prompt that shares no prefix with another id's.
fn prompt(id: u32, len: u32) -> Vec<Token> {
    (0..len).map(|t| id * 10_000 + t).collect()
}

/// Runs until idle; gives the end of every job, and checks the limits at every step.
fn run(engine: &mut Engine) -> BTreeMap<JobId, Progress> {
    let (mut now_ns, mut ended) = (1, BTreeMap::new());
    while let Some(next_ns) = engine.next_ns() {
        now_ns = now_ns.max(next_ns);
        let mut events = engine.receive(now_ns);
        if let Some(step) = engine.step(now_ns) {
            now_ns += step.duration_ns;
            events.extend(step.events);
        }
        let load = engine.load();
        assert!(load.used_tokens + load.evictable_tokens <= load.capacity_tokens, "{load:?}");
        assert!(load.running <= engine.profile.max_running_requests, "{load:?}");
        for event in events.iter().filter(|e| e.progress.end.is_some()) {
            assert!(ended.insert(event.id, event.progress).is_none(), "ended twice: {event:?}");
        }
    }
    ended
}

#[test]
fn first_come_first_served_up_to_the_batch_limit() {
    let mut engine = engine();
    for id in 0..6 {
        engine.submit(Job { queued_at_ns: 6 - id, ..job(id, prompt(id as u32, 10), 3) });
    }
    engine.receive(10);
    let first = engine.step(10).expect("prefill");
    assert_eq!(first.kind, StepKind::Prefill { tokens: 40 });
    assert_eq!(first.events.iter().map(|e| e.id).collect::<Vec<_>>(), [5, 4, 3, 2], "in order of arrival");
    assert_eq!(engine.load().waiting, 2);
    let second = engine.step(20).expect("decode: the batch is full");
    assert_eq!(second.kind, StepKind::Decode { batch: 4 });
    let ended = run(&mut engine);
    assert!(ended[&0].queue_end_ns > ended[&5].queue_end_ns);
}

#[test]
fn a_long_prompt_is_prefilled_in_chunks_while_decoding_waits() {
    let mut engine = engine();
    engine.submit(job(1, prompt(1, 250), 2));
    engine.receive(1);
    let kinds: Vec<StepKind> = (1..=4).filter_map(|t| engine.step(t)).map(|s| s.kind).collect();
    let chunk = |tokens| StepKind::Prefill { tokens };
    assert_eq!(kinds, [chunk(100), chunk(100), chunk(50), StepKind::Decode { batch: 1 }]);
    assert_eq!(engine.load().prompt_tokens_total, 250);
}

#[test]
fn the_rest_of_a_chunk_step_goes_to_the_next_request() {
    let mut engine = engine();
    engine.submit(job(1, prompt(1, 130), 2));
    engine.submit(job(2, prompt(2, 20), 2));
    engine.receive(1);
    assert_eq!(engine.step(1).expect("first chunk").events, []);
    let second = engine.step(2).expect("rest and next");
    assert_eq!(second.kind, StepKind::Prefill { tokens: 50 });
    assert_eq!(second.events.len(), 2);
}

#[test]
fn a_second_turn_finds_the_first_turns_prompt_and_answer() {
    let mut engine = engine();
    let first = job(1, prompt(1, 20), 10);
    let answer = first.answer;
    engine.submit(first);
    assert_eq!(run(&mut engine)[&1].cached_tokens, 0);
    let turn: Vec<Token> =
        prompt(1, 20).into_iter().chain((0..10).map(|i| answer.token(i))).chain([7, 8]).collect();
    engine.submit(job(2, turn, 1));
    assert_eq!(run(&mut engine)[&2].cached_tokens, 29, "the last generated token has no KV");
    engine.submit(job(3, prompt(1, 20), 1));
    assert_eq!(run(&mut engine)[&3].cached_tokens, 19, "the last prompt token is always computed");
    assert!(engine.flush());
    engine.submit(job(4, prompt(1, 20), 1));
    assert_eq!(run(&mut engine)[&4].cached_tokens, 0);
}

#[test]
fn least_recently_used_prefixes_leave_first() {
    let mut engine = engine();
    for id in 1..=4 {
        engine.submit(job(id, prompt(id as u32, 300), 1));
        run(&mut engine);
    }
    let load = engine.load();
    assert_eq!((load.used_tokens, load.evictable_tokens), (0, 900));
    for (again, cached) in [(4, 299), (3, 299), (2, 299), (1, 0)] {
        engine.submit(job(again + 10, prompt(again as u32, 300), 1));
        assert_eq!(run(&mut engine)[&(again + 10)].cached_tokens, cached, "prompt {again}");
    }
}

#[test]
fn when_kv_runs_out_the_request_with_the_fewest_tokens_is_retracted_and_still_finishes() {
    let mut engine = engine();
    // Each says it may make 10 tokens and makes 300: admission believes it, decoding runs out.
    for id in 1..=4 {
        engine.submit(Job { max_new_tokens: 10, ..job(id, prompt(id as u32, 100), 300) });
    }
    let ended = run(&mut engine);
    assert_eq!(ended.len(), 4);
    assert!(ended.values().all(|p| p.tokens == 300 && p.end == Some(End::Finished)));
    assert!(engine.load().retracted_total > 0);
    assert_eq!(ended.values().map(|p| u64::from(p.retractions)).sum::<u64>(), engine.load().retracted_total);
    assert_eq!(engine.load().used_tokens, 0);
}

#[test]
fn abort_ends_a_job_wherever_it_is_and_frees_its_kv() {
    let mut engine = engine();
    engine.submit(job(1, prompt(1, 250), 5));
    engine.submit(job(2, prompt(2, 10), 5));
    engine.submit(Job { queued_at_ns: 99, ..job(3, prompt(3, 10), 5) });
    engine.receive(1);
    engine.step(1);
    let end = |event: Option<Event>| event.and_then(|e| e.progress.end);
    assert_eq!(end(engine.abort(1, 2)), Some(End::Aborted), "half prefilled");
    assert_eq!(end(engine.abort(2, 2)), Some(End::AbortedInQueue));
    assert_eq!(end(engine.abort(3, 2)), Some(End::AbortedInQueue), "not there yet");
    assert_eq!(engine.abort(1, 3), None, "once");
    assert_eq!((engine.next_ns(), engine.load().used_tokens), (None, 0));
}

#[test]
fn a_full_queue_refuses_and_speedup_divides_time() {
    let mut engine = Engine::new(profile(), 10.0, Some(1));
    for id in 1..=3 {
        engine.submit(job(id, prompt(id as u32, 10), 1));
    }
    let refused = engine.receive(1);
    assert_eq!(
        refused.iter().map(|e| (e.id, e.progress.end)).collect::<Vec<_>>(),
        [(2, Some(End::QueueFull)), (3, Some(End::QueueFull))]
    );
    assert_eq!(engine.step(1).expect("prefill").duration_ns, 700_000);
}

#[test]
fn a_slowed_engine_takes_so_many_times_as_long() {
    let mut engine = Engine::new(profile(), 10.0, None);
    engine.slow_down(3.0);
    engine.submit(job(1, prompt(1, 10), 1));
    engine.receive(1);
    assert_eq!(engine.step(1).expect("prefill").duration_ns, 2_100_000);
}

#[test]
fn a_report_comes_every_so_many_tokens_or_at_the_end() {
    let mut engine = engine();
    engine.submit(Job { report_every: 50, ..job(1, prompt(1, 5), 120) });
    engine.submit(Job { report_every: 50, ..job(2, prompt(2, 5), 8) });
    let ended = run(&mut engine);
    assert_eq!(ended[&2].first_report_ns, ended[&2].ended_ns);
    assert!(
        ended[&1].first_report_ns > ended[&1].first_token_ns
            && ended[&1].first_report_ns < ended[&1].ended_ns
    );
}

proptest! {
    /// Every job ends exactly once; `run` checks the KV and batch limits at every step.
    #[test]
    fn every_job_ends_once_within_the_limits(
        jobs in prop::collection::vec((0u32..4, 1u32..400, 1u32..200, 1u32..200, 0u64..2_000_000_000), 1..25),
        aborts in prop::collection::vec((0u64..25, 0usize..60), 0..6),
    ) {
        let mut engine = Engine::new(profile(), 1.0, Some(12));
        for (id, (family, len, output, allowed, at_ns)) in jobs.iter().enumerate() {
            let job = job(id as u64, prompt(*family, *len), *output);
            engine.submit(Job { max_new_tokens: (*allowed).max(*output), queued_at_ns: *at_ns, ..job });
        }
        let (mut ended, mut now_ns) = (BTreeSet::new(), 0);
        for step in 0..60 {
            let mut events: Vec<Event> = aborts.iter().filter(|a| a.1 == step).filter_map(|a| engine.abort(a.0, now_ns)).collect();
            events.extend(engine.receive(now_ns));
            let outcome = engine.step(now_ns);
            now_ns += outcome.as_ref().map_or(1_000_000, |s| s.duration_ns);
            events.extend(outcome.into_iter().flat_map(|s| s.events));
            for event in events.iter().filter(|e| e.progress.end.is_some()) {
                prop_assert!(ended.insert(event.id));
            }
        }
        for (id, progress) in run(&mut engine) {
            prop_assert!(ended.insert(id));
            prop_assert!(progress.end == Some(End::QueueFull) || progress.tokens == jobs[id as usize].2);
        }
        prop_assert_eq!(ended.len(), jobs.len());
        prop_assert_eq!(engine.load().used_tokens, 0);
    }
}
