//! What a decision costs: nanoseconds per choice of each policy, and per hash, lookup and insert of a prompt, at 8, 64 and 512
//! workers. Prints medians of rounds; asserts nothing, because a time is no test. `cargo bench -p milepost-policies`.
//!
//! Prompts: 50 families share their first 40 %, each prompt goes to worker i mod W, and a query is the first 90 % of a stored
//! prompt with a new tail, as the next turn of a conversation is. Deliberately not here: the router's lock around all this.

use std::hint::black_box;
use std::time::Duration;

use milepost_policies::{
    Decision, POLICIES, PolicyConfig, PrefixIndex, PromptHashes, RequestView, Time, WorkerId, WorkerView,
    Workers, name_hash,
};

const ROUNDS: usize = 9;
const FLEETS: [u32; 3] = [8, 64, 512];
const INDEX_BYTES: usize = 64 << 20;

fn main() {
    println!("ns, median of {ROUNDS} rounds");
    for workers in FLEETS {
        decisions(workers);
    }
    for prompt_bytes in [1_000, 10_000, 100_000] {
        let text = words(prompt_bytes, 7);
        let mut prompt = PromptHashes::default();
        let hash_ns = median_ns(200, |_| prompt.rehash(black_box(&text)));
        println!("hash {prompt_bytes:>7} B                       {hash_ns:>9.0}");
        for workers in FLEETS {
            prompts(workers, prompt_bytes);
        }
    }
    full_index();
    interleaved_index();
}

fn decisions(size: u32) {
    let fleet: Vec<_> = (0..size)
        .map(|id| WorkerView {
            id: WorkerId(id),
            in_flight_requests: id * 7 % 13,
            last_chosen_seq: u64::from(id * 31 % 97),
            prefix_match_bytes: Some(u64::from(id * 17 % 29) * 64),
            position: id,
            url_hash: name_hash(&id.to_le_bytes()),
            ..WorkerView::default()
        })
        .collect();
    let workers = Workers::new(&fleet).expect("not empty");
    let prompts: Vec<_> = (0..64).map(|n| PromptHashes::of(&words(4_000, n))).collect();
    let keys: Vec<_> = (0..64).map(|n| format!("conversation {n}")).collect();
    for spec in POLICIES {
        let mut policy = (spec.build)(&PolicyConfig::default());
        let mut decision = Decision::default();
        let ns = median_ns(2_000, |seq| {
            let request = RequestView {
                seq: seq as u64,
                prompt: Some(&prompts[seq % 64]),
                prompt_bytes: 4_000,
                routing_key: Some(&keys[seq % 64]),
                ..RequestView::default()
            };
            decision.clear(workers.len());
            policy.choose(Time { us: seq as u64 }, black_box(&request), black_box(&workers), &mut decision);
            black_box(decision.chosen());
        });
        println!("choose {:<18} {size:>4} workers     {ns:>9.0}", spec.name);
    }
}

/// 200 stored prompts of one length; lookups of a next turn, and inserts of the same.
fn prompts(workers: u32, prompt_bytes: usize) {
    let mut index = PrefixIndex::new(INDEX_BYTES);
    let stored: Vec<Vec<u8>> = (0..200).map(|n| family_prompt(prompt_bytes, n)).collect();
    for (n, text) in (0..).zip(&stored) {
        index.insert(&PromptHashes::of(text), WorkerId(n % workers));
    }
    let next_turns: Vec<_> = stored
        .iter()
        .map(|text| {
            let mut turn = text[..prompt_bytes / 10 * 9].to_vec();
            turn.extend(words(prompt_bytes / 10, 99));
            PromptHashes::of(&turn)
        })
        .collect();
    let cold: Vec<_> = (0..200).map(|n| PromptHashes::of(&words(prompt_bytes, 10_000 + n))).collect();
    let mut matched = vec![0; workers as usize];
    let hit_ns = median_ns(200, |n| {
        index.match_into(black_box(&next_turns[n % 200]), &mut matched);
    });
    let cold_ns = median_ns(200, |n| {
        index.match_into(black_box(&cold[n % 200]), &mut matched);
    });
    let again_ns = median_ns(200, |n| {
        index.insert(black_box(&next_turns[n % 200]), WorkerId(n as u32 % workers));
    });
    println!("lookup {prompt_bytes:>6} B, 90 % known, {workers:>4} workers {hit_ns:>9.0}");
    println!("lookup {prompt_bytes:>6} B, unknown,    {workers:>4} workers {cold_ns:>9.0}");
    println!("insert {prompt_bytes:>6} B, known,      {workers:>4} workers {again_ns:>9.0}");
}

/// At the bound every new block evicts one, and the stored ones no longer lie side by side in the cache.
fn full_index() {
    let mut index = PrefixIndex::new(INDEX_BYTES);
    let mut prompt = PromptHashes::default();
    let mut n = 0;
    while index.evicted_blocks() < 2_000_000 {
        prompt.rehash(&words(100_000, n));
        index.insert(&prompt, WorkerId(n as u32 % 64));
        n += 1;
    }
    let new: Vec<_> = (0..200).map(|m| PromptHashes::of(&words(100_000, n + m))).collect();
    let kept: Vec<_> = (0..200).map(|m| PromptHashes::of(&words(100_000, n - 1_000 + m))).collect();
    let mut matched = vec![0; 64];
    let hit_ns = median_ns(200, |m| index.match_into(&kept[m % 200], &mut matched));
    assert!(matched.contains(&100_000), "the prompts looked up are still in the index");
    let evicted_before = index.evicted_blocks();
    let insert = |(m, prompt): (u32, _)| {
        time(|| {
            index.insert(prompt, WorkerId(m % 64));
        })
    };
    let mut inserts: Vec<_> = (0..).zip(&new).map(insert).collect();
    inserts.sort();
    assert!(index.evicted_blocks() > evicted_before);
    println!("full index ({} blocks, {} MiB)", index.blocks(), index.memory_bytes() >> 20);
    println!("lookup 100000 B, all known                  {hit_ns:>9.0}");
    println!("insert 100000 B, new, evicting              {:>9}", inserts[inserts.len() / 2].as_nanos());
    println!(
        "insert 100000 B, new, evicting, 99 of 100   {:>9}",
        inserts[inserts.len() / 100 * 99].as_nanos()
    );
    println!(
        "remove a worker                             {:>9}",
        time(|| index.remove_worker(WorkerId(3))).as_nanos()
    );
    println!(
        "lookup 100000 B, first after that           {:>9}",
        time(|| index.match_into(&kept[3], &mut matched)).as_nanos()
    );
}

/// Conversations that grow by turns, all at once, until old ones are evicted: what belongs together no longer lies together.
fn interleaved_index() {
    const CONVERSATIONS: usize = 3_000;
    let mut index = PrefixIndex::new(INDEX_BYTES);
    let mut turns: Vec<Duration> = Vec::new();
    for turn in 1..=50 {
        turns.clear();
        for conversation in 0..CONVERSATIONS {
            let prompt = PromptHashes::of(&words(turn * 2_000, conversation));
            turns.push(time(|| {
                index.insert(&prompt, WorkerId(conversation as u32 % 64));
            }));
        }
    }
    turns.sort();
    let kept: Vec<_> = (0..200).map(|n| PromptHashes::of(&words(100_000, CONVERSATIONS - 200 + n))).collect();
    let mut matched = vec![0; 64];
    let hit_ns = median_ns(200, |n| index.match_into(&kept[n], &mut matched));
    assert!(index.evicted_blocks() > 0 && matched.contains(&100_000));
    println!("{CONVERSATIONS} growing conversations, {} blocks evicted", index.evicted_blocks());
    println!("lookup 100000 B, all known                  {hit_ns:>9.0}");
    println!("insert 100000 B, last turn                  {:>9}", turns[turns.len() / 2].as_nanos());
    println!("insert 100000 B, last turn, 99 of 100       {:>9}", turns[turns.len() / 100 * 99].as_nanos());
}

fn family_prompt(bytes: usize, n: usize) -> Vec<u8> {
    let mut text = words(bytes / 10 * 4, n % 50);
    text.extend(words(bytes - text.len(), 1_000 + n));
    text
}

/// Text of numbers that depends on `seed` from its first byte on.
fn words(bytes: usize, seed: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 24);
    let mut state = seed as u64 + 1;
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(format!("{} ", state >> 33).as_bytes());
    }
    text.truncate(bytes);
    text
}

/// Median over the rounds of the mean time of one call, in nanoseconds.
fn median_ns(calls: usize, mut call: impl FnMut(usize)) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| time(|| (0..calls).for_each(&mut call)).as_nanos() as f64 / calls as f64)
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark outside the router times itself; the crate it measures reads no clock"
)]
fn time(work: impl FnOnce()) -> Duration {
    let start = std::time::Instant::now();
    work();
    start.elapsed()
}
