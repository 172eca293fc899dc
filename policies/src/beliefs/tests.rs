//! What is believed, against engines that hold what they hold.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::prefix::PrefixIndex;

const ENGINE: Needs = Needs {
    prefix_match: true,
    engine_text: true,
    routing_text: false,
    prompt_hash_bytes: 0,
    client_hash: false,
    target: false,
    server_loads: false,
    estimates: false,
    request_events: true,
};
const WORKER: WorkerId = WorkerId(1);
const BYTES_PER_TOKEN: u64 = 4;

/// A radix cache with pages, which gives up first what was used longest ago, ends of prompts before their beginnings.
struct Engine {
    blocks: BTreeMap<u64, (u64, usize)>,
    by_age: BTreeSet<(u64, usize, u64)>,
    capacity_blocks: usize,
    page_tokens: u64,
    now: u64,
}

impl Engine {
    fn of(capacity_bytes: usize, page_tokens: u64) -> Self {
        Self {
            blocks: BTreeMap::new(),
            by_age: BTreeSet::new(),
            capacity_blocks: capacity_bytes / 64,
            page_tokens,
            now: 0,
        }
    }

    /// Computes a prompt; its tokens and how many of them were there.
    fn serve(&mut self, prompt: &PromptHashes) -> (u64, u64) {
        let hashes = prompt.as_slice();
        let known = hashes.iter().take_while(|&hash| self.blocks.contains_key(hash)).count();
        let cached_bytes = known.checked_sub(1).map_or(0, |last| prompt.depth_bytes(last));
        self.now += 1;
        for (at, &hash) in hashes.iter().enumerate() {
            let use_of_it = (self.now, usize::MAX - at);
            if let Some((used, at)) = self.blocks.insert(hash, use_of_it) {
                self.by_age.remove(&(used, at, hash));
            }
            self.by_age.insert((use_of_it.0, use_of_it.1, hash));
        }
        while self.blocks.len() > self.capacity_blocks {
            if let Some((_, _, hash)) = self.by_age.pop_first() {
                self.blocks.remove(&hash);
            }
        }
        let tokens = prompt.len_bytes() / BYTES_PER_TOKEN;
        let cached = (cached_bytes / BYTES_PER_TOKEN).min(tokens - 1);
        (tokens, cached / self.page_tokens * self.page_tokens)
    }
}

struct Stage {
    beliefs: Beliefs,
    seq: u64,
}

impl Stage {
    fn new() -> Self {
        let mut beliefs = Beliefs::new(PrefixIndex::new(64 << 20));
        beliefs.want(ENGINE);
        Self { beliefs, seq: 0 }
    }

    fn believed(&mut self, prompt: &PromptHashes) -> u64 {
        let mut matched = [0; 3];
        let request = RequestView { prompt: Some(prompt), ..RequestView::default() };
        self.beliefs.match_into(&request, ENGINE, &mut matched);
        matched[WORKER.0 as usize]
    }

    fn route(&mut self, prompt: &PromptHashes) -> u64 {
        self.route_as(RequestView { prompt: Some(prompt), ..RequestView::default() })
    }

    fn route_as(&mut self, request: RequestView<'_>) -> u64 {
        self.seq += 1;
        self.beliefs.remember(&RequestView { seq: self.seq, ..request }, ENGINE, WORKER, None);
        self.seq
    }

    fn end(&mut self, seq: u64, ok: bool, tokens: Option<(u64, u64)>) {
        self.beliefs.observe(&Event::Ended {
            seq,
            worker: WORKER,
            latency_us: 1,
            ok,
            prompt_tokens: tokens.map(|t| t.0),
            completion_tokens: Some(1),
            cached_tokens: tokens.map(|t| t.1),
        });
    }

    fn first_token(&mut self, seq: u64) {
        self.beliefs.observe(&Event::FirstToken { seq, worker: WORKER, ttft_us: 1 });
    }

    /// One request after another.
    fn serve(&mut self, engine: &mut Engine, prompt: &PromptHashes) {
        let seq = self.route(prompt);
        self.end(seq, true, Some(engine.serve(prompt)));
    }

    fn corrections(&self) -> Corrections {
        self.beliefs.corrections()
    }
}

/// Turn number `turn` of a conversation, from 1: 2 KB more each, after a beginning that all have.
fn turn(conversation: u64, turn: usize) -> PromptHashes {
    let mut text = vec![b's'; 1_000];
    let mut rng = ChaCha8Rng::seed_from_u64(conversation);
    text.extend((0..turn * 2_000).map(|_| rng.random::<u8>()));
    PromptHashes::of(&text)
}

#[test]
fn pages_and_the_token_that_is_never_cached_correct_nothing() {
    for page_tokens in [1, 16, 64] {
        let (mut stage, mut engine) = (Stage::new(), Engine::of(10 << 20, page_tokens));
        for n in 1..8 {
            for conversation in 0..20 {
                stage.serve(&mut engine, &turn(conversation, n));
                // The same again.
                stage.serve(&mut engine, &turn(conversation, n));
            }
        }
        let corrections = stage.corrections();
        assert!(corrections.held > 200, "{corrections:?}");
        assert_eq!(corrections, Corrections { held: corrections.held, ..Corrections::default() });
        assert_eq!(stage.believed(&turn(3, 7)), 15_000);
    }
}

/// Everybody asks the same at once; until the first of them has been computed, no answer can have had it.
#[test]
fn a_cold_herd_on_one_prefix_forgets_nothing() {
    let mut stage = Stage::new();
    let prompts: Vec<_> = (0..50).map(|n| turn(n, 1)).collect();
    let herd: Vec<u64> = prompts.iter().map(|prompt| stage.route(prompt)).collect();
    for &seq in &herd {
        stage.end(seq, true, Some((750, 0)));
    }
    let twice: Vec<u64> = (0..50).map(|_| stage.route(&turn(99, 3))).collect();
    for seq in twice {
        stage.first_token(seq);
        stage.end(seq, true, Some((1_750, 250)));
    }
    assert_eq!(stage.corrections(), Corrections::default());
    assert!(prompts.iter().all(|prompt| stage.believed(prompt) == 3_000));
    // Now that it has been computed, who does not have it has lost it.
    let seq = stage.route(&turn(7, 1));
    stage.end(seq, true, Some((750, 0)));
    assert_eq!(stage.corrections().lost, 1);
}

#[test]
fn a_stream_counts_as_computed_from_its_first_token_on() {
    let mut stage = Stage::new();
    let long = stage.route(&turn(1, 3));
    let early = stage.route(&turn(1, 3));
    stage.first_token(long);
    stage.first_token(early);
    let late = stage.route(&turn(1, 3));
    stage.end(early, true, Some((1_750, 0)));
    assert_eq!(stage.corrections(), Corrections::default());
    stage.end(late, true, Some((1_750, 0)));
    assert_eq!(stage.corrections().lost, 1);
    stage.end(long, true, Some((1_750, 0)));
}

#[test]
fn a_worker_that_came_back_empty_is_noticed_by_its_answers() {
    let (mut stage, mut engine) = (Stage::new(), Engine::of(10 << 20, 1));
    for n in 1..4 {
        (0..40).for_each(|conversation| stage.serve(&mut engine, &turn(conversation, n)));
    }
    assert_eq!((stage.corrections().lost, stage.believed(&turn(39, 3))), (0, 7_000));
    let mut engine = Engine::of(10 << 20, 1);
    // Other beginnings, so that each loses everything; the last of them is held again.
    let own = |n: u64| PromptHashes::of(&[&[n as u8; 8_000][..], b"end"].concat());
    (200..210).for_each(|n| stage.serve(&mut engine, &own(n)));
    let mut engine = Engine::of(10 << 20, 1);
    (200..204).for_each(|n| stage.serve(&mut engine, &own(n)));
    assert_eq!(stage.corrections().emptied, 1);
    assert_eq!(stage.believed(&turn(39, 3)), 0, "what it held before is gone");
    assert_eq!([202, 203].map(|n| stage.believed(&own(n))), [8_003; 2], "what it computed since is there");
    assert_eq!(stage.believed(&own(209)), 0);
}

#[test]
fn what_a_server_says_of_its_cache_is_believed_at_once() {
    let mut stage = Stage::new();
    let before = stage.route(&turn(1, 2));
    stage.end(before, true, Some((1_250, 0)));
    let on_its_way = stage.route(&turn(1, 2));
    stage.beliefs.observe(&Event::CacheEmptied { worker: WORKER });
    assert_eq!(stage.believed(&turn(1, 2)), 0);
    // It was routed when the cache was still there.
    stage.end(on_its_way, true, Some((1_250, 0)));
    assert_eq!(stage.corrections(), Corrections::default());
}

/// Three times as many conversations as fit, taken up again at random: most of what is believed is there, though nobody has
/// told how much fits.
#[test]
fn the_capacity_of_a_worker_is_learned_from_what_it_lost() {
    for seed in 0..2 {
        let (mut stage, mut engine) = (Stage::new(), Engine::of(2 << 20, 16));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut turns = [2usize; 600];
        let mut serve = |stage: &mut Stage, times: usize| {
            for _ in 0..times {
                // Some are taken up much more often than others.
                let conversation = (rng.random::<f64>().powi(2) * 600.0) as usize;
                turns[conversation] = if turns[conversation] > 6 { 2 } else { turns[conversation] + 1 };
                stage.serve(&mut engine, &turn(conversation as u64 + seed * 1_000, turns[conversation]));
            }
        };
        serve(&mut stage, 1_500);
        let learned = stage.corrections();
        assert!(learned.bounded > 0 && learned.emptied == 0, "{learned:?}");
        serve(&mut stage, 1_000);
        let after = stage.corrections();
        let (held, lost) = (after.held - learned.held, after.lost - learned.lost);
        assert!(held > 400 && lost * 20 < held, "{held} held, {lost} lost");
        let believed = stage.beliefs.engine_index().and_then(|index| index.held_bytes(WORKER)).expect("kept");
        assert!((1 << 20..4 << 20).contains(&believed), "{believed} of {} bytes", 2 << 20);
    }
}

#[test]
fn a_worker_without_a_cache_ends_up_believed_to_hold_nothing() {
    let mut stage = Stage::new();
    for n in 0..60 {
        let seq = stage.route(&turn(n % 3, 3));
        stage.end(seq, true, Some((1_750, 0)));
    }
    assert_eq!(stage.believed(&turn(1, 3)), 0);
    assert_eq!(stage.corrections().bounded, 1);
    // Its server was started anew with one.
    for _ in 0..2 {
        let seq = stage.route(&turn(1, 3));
        stage.end(seq, true, Some((1_750, 1_749)));
    }
    assert_eq!((stage.corrections().widened, stage.believed(&turn(1, 3))), (1, 7_000));
}

#[test]
fn of_a_request_that_failed_before_its_first_token_nothing_is_believed() {
    let mut stage = Stage::new();
    let first = stage.route(&turn(1, 2));
    stage.end(first, true, Some((1_250, 0)));
    let failed = stage.route(&turn(1, 5));
    assert_eq!(stage.believed(&turn(1, 5)), 11_000);
    stage.end(failed, false, None);
    assert_eq!(stage.believed(&turn(1, 5)), 4_864, "short of the blocks that the earlier one filled");
    let cut = stage.route(&turn(1, 5));
    stage.first_token(cut);
    stage.end(cut, false, None);
    assert_eq!(stage.believed(&turn(1, 5)), 11_000, "its prompt had been computed");
}

#[test]
fn retries_batches_and_answers_that_do_not_tell_correct_nothing() {
    let mut stage = Stage::new();
    let first = stage.route(&turn(1, 2));
    stage.end(first, true, Some((1_250, 0)));
    let prompt = turn(1, 2);
    for _ in 0..20 {
        let plain = RequestView { prompt: Some(&prompt), ..RequestView::default() };
        let retry = stage.route_as(RequestView { attempts: 1, ..plain });
        stage.end(retry, true, Some((1_250, 0)));
        let batch = stage.route_as(RequestView { is_multiple: true, ..plain });
        stage.end(batch, true, Some((1_250, 0)));
        let untold = stage.route_as(plain);
        stage.end(untold, true, None);
        let elsewhere = stage.route_as(plain);
        stage.beliefs.observe(&Event::Ended {
            seq: elsewhere,
            worker: WorkerId(0),
            latency_us: 1,
            ok: true,
            prompt_tokens: Some(1_250),
            completion_tokens: None,
            cached_tokens: Some(0),
        });
    }
    assert_eq!((stage.corrections(), stage.believed(&prompt)), (Corrections::default(), 5_000));
}

#[test]
fn routing_text_is_another_belief_and_is_never_corrected() {
    let routing = Needs { engine_text: false, ..ENGINE };
    let both = routing.union(ENGINE);
    let mut beliefs = Beliefs::new(PrefixIndex::new(1 << 20));
    beliefs.want(both);
    let (text, rendered) = (PromptHashes::of(&[b't'; 4_000]), PromptHashes::of(&[b'e'; 5_000]));
    let request =
        RequestView { seq: 1, prompt: Some(&text), engine_prompt: Some(&rendered), ..RequestView::default() };
    beliefs.remember(&request, both, WORKER, None);
    let matched = |beliefs: &mut Beliefs, needs| {
        let mut matched = [0; 2];
        beliefs.match_into(&request, needs, &mut matched);
        matched[1]
    };
    assert_eq!((matched(&mut beliefs, routing), matched(&mut beliefs, ENGINE)), (4_000, 5_000));
    // The one as the other is not known.
    let swapped =
        RequestView { prompt: Some(&rendered), engine_prompt: Some(&text), ..RequestView::default() };
    let mut other = [0; 2];
    for needs in [routing, ENGINE] {
        beliefs.match_into(&swapped, needs, &mut other);
        assert_eq!(other, [0; 2]);
    }
    beliefs.observe(&Event::CacheEmptied { worker: WORKER });
    assert_eq!((matched(&mut beliefs, routing), matched(&mut beliefs, ENGINE)), (4_000, 0));
    beliefs.leave(WORKER);
    assert_eq!(matched(&mut beliefs, routing), 0);
}

#[test]
fn what_is_remembered_of_requests_in_flight_is_bounded_and_goes_with_their_worker() {
    let mut stage = Stage::new();
    let (long, prompt) = (PromptHashes::of(&vec![b'l'; 1_000_000]), turn(1, 1));
    for n in 0..MAX_PREDICTIONS + 5_000 {
        stage.route(if n < 3_000 { &long } else { &prompt });
        let beliefs = &stage.beliefs;
        assert!(beliefs.predictions.len() <= MAX_PREDICTIONS && beliefs.hashes_bytes <= MAX_HASHES_BYTES);
    }
    let known = &stage.beliefs.workers[WORKER.0 as usize];
    assert!(known.unfinished.len() <= MAX_UNFINISHED && known.unlisted <= MAX_PREDICTIONS);
    // Ends in any order, of those that are remembered and those that are not.
    for seq in (1..=stage.seq).rev() {
        stage.end(seq, true, Some((20_000, 0)));
    }
    let known = &stage.beliefs.workers[WORKER.0 as usize];
    assert_eq!((known.unfinished.len(), known.unlisted, stage.beliefs.hashes_bytes), (0, 0, 0));
    (0..10).for_each(|_| _ = stage.route(&prompt));
    stage.beliefs.leave(WORKER);
    assert_eq!(
        (stage.beliefs.predictions.len(), stage.beliefs.hashes_bytes, stage.believed(&prompt)),
        (0, 0, 0)
    );
}

/// The next worker is chosen before the end of the first attempt is told, which then names a worker that nobody asks for.
#[test]
fn of_an_attempt_that_was_followed_by_another_elsewhere_nothing_is_believed() {
    let mut stage = Stage::new();
    let prompt = turn(1, 1);
    let request = RequestView { prompt: Some(&prompt), ..RequestView::default() };
    let seq = stage.route_as(request);
    stage.beliefs.remember(&RequestView { seq, attempts: 1, ..request }, ENGINE, WorkerId(2), None);
    stage.end(seq, false, None);
    let mut matched = [0; 3];
    stage.beliefs.match_into(&request, ENGINE, &mut matched);
    assert_eq!(matched, [0, 0, 3_000]);
}

#[test]
fn what_others_computed_since_outlives_the_request_that_failed() {
    for is_stream in [false, true] {
        let mut stage = Stage::new();
        let failed = stage.route(&turn(1, 3));
        let other = stage.route(&turn(1, 2));
        if is_stream {
            stage.first_token(other);
        } else {
            stage.end(other, true, None);
        }
        stage.end(failed, false, None);
        let believed = [stage.believed(&turn(1, 2)), stage.believed(&turn(1, 3))];
        assert_eq!(believed, [5_000, 4_864], "the part that both have, to the block");
    }
}
