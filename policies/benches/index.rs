//! What the prefix index costs: nanoseconds per look-up, insert and correction of a prompt, memory per character, the worst insert while it
//! grows. Prints the quickest of some rounds; asserts nothing about times. `cargo bench -p milepost-policies --bench index`.
//!
//! Prompts come in families of ten that share their first 40 %, each prompt goes to worker i mod W, and a query is the first
//! 90 % of a stored prompt with a new tail, as the next turn of a conversation is: the shapes of the measurement
//! whose figures are printed beside. Deliberately not here: the router's lock around all this, and the policies (`choose`).

mod measure;

use std::hint::black_box;

use measure::{ROUNDS, quickest, quickest_ns, time, words};
use milepost_policies::{Beliefs, Event, Needs, PrefixIndex, PromptHashes, RequestView, WorkerId};

const INDEX_BYTES: usize = 64 << 20;
const STORED: usize = 200;

/// µs a query with hashing, of a prompt of which 90 %, 40 % or nothing is known, µs an insert, and bytes a character: measured
/// on another machine (2 cores of an AMD EPYC, one thread, best of 7, 8 to 64 workers), so only the ratios compare. Taken
/// for this project before anything was written.
const ELSEWHERE: [(&str, usize, [f64; 5]); 6] = [
    ("radix_trie 0.3", 10_000, [29.0, 17.5, 12.0, 31.0, 2.1]),
    ("smg StringTree", 10_000, [3.5, 2.1, 0.4, 5.0, 0.8]),
    ("chain of 256 B in FxHashMap", 10_000, [0.59, 0.51, 0.46, 1.9, 0.056]),
    ("radix_trie 0.3", 100_000, [389.0, 203.0, 157.0, 403.0, 2.1]),
    ("smg StringTree", 100_000, [31.0, 16.0, 3.1, 49.0, 0.8]),
    ("chain of 256 B in FxHashMap", 100_000, [6.2, 4.9, 4.4, 13.5, 0.056]),
];

fn main() {
    println!("ns, quickest of {ROUNDS} rounds; hashing (outside the lock) apart");
    println!(
        "{:>9} {:>8} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8}  bytes/char",
        "prompt B", "workers", "hash", "90 %", "40 %", "unknown", "insert", "again"
    );
    for prompt_bytes in [120, 10_000, 100_000] {
        for workers in [8, 512] {
            sizes(prompt_bytes, workers);
        }
    }
    short_prompts();
    corrected();
    full_index();
    conversations();
    growth();
    removal();
}

fn sizes(prompt_bytes: usize, workers: u32) {
    let stored: Vec<Vec<u8>> = (0..STORED).map(|n| family_prompt(prompt_bytes, n)).collect();
    let prompts: Vec<_> = stored.iter().map(|text| PromptHashes::of(text)).collect();
    let cut = |part: usize| -> Vec<PromptHashes> {
        let turn = |(n, text): (usize, &Vec<u8>)| {
            let kept = prompt_bytes / 10 * part;
            PromptHashes::of(&[&text[..kept], &words(prompt_bytes - kept, 50_000 + n)].concat())
        };
        stored.iter().enumerate().map(turn).collect()
    };
    let mut reused = PromptHashes::default();
    let hash_ns = quickest_ns(STORED, |n| reused.rehash(black_box(&stored[n])));
    let filled = || {
        let mut index = PrefixIndex::new(INDEX_BYTES);
        let empty_bytes = index.memory_bytes();
        let took = time(|| {
            for (n, prompt) in (0..).zip(&prompts) {
                index.insert(black_box(prompt), WorkerId(n % workers));
            }
        });
        (index, took.as_nanos() as f64 / STORED as f64, empty_bytes)
    };
    let insert_ns = quickest(|| filled().1);
    let mut index = filled().0;
    let mut matched = vec![0; workers as usize];
    let [hit, family, cold] = [cut(9), cut(4), cut(0)]
        .map(|queries| quickest_ns(STORED, |n| index.match_into(black_box(&queries[n]), &mut matched)));
    let again_ns = quickest_ns(STORED, |n| {
        index.insert(black_box(&prompts[n]), WorkerId(n as u32 % workers));
    });
    let per_char = bytes_per_char(prompt_bytes, workers);
    println!(
        "{prompt_bytes:>9} {workers:>8} {hash_ns:>6.0} {hit:>8.0} {family:>8.0} {cold:>8.0} {insert_ns:>8.0} {again_ns:>8.0}  {per_char:.3}"
    );
    for (name, _, [hit, family, cold, insert, per_char]) in
        ELSEWHERE.iter().filter(|row| row.1 == prompt_bytes && workers == 512)
    {
        let [hit, family, cold, insert] = [hit, family, cold, insert].map(|us| us * 1_000.0);
        println!(
            "{:>18} {:>6} {hit:>8.0} {family:>8.0} {cold:>8.0} {insert:>8.0} {:>8}  {per_char:.3}  {name}, elsewhere, hashing included",
            "", "incl.", ""
        );
    }
}

/// Memory for each character stored, of an index in use: the first pieces of its lists are not counted.
fn bytes_per_char(prompt_bytes: usize, workers: u32) -> f64 {
    let count = 30_000_000 / prompt_bytes;
    let mut index = PrefixIndex::new(INDEX_BYTES);
    let mut at_half = (0, 0);
    for n in 0..count {
        index.insert(&PromptHashes::of(&family_prompt(prompt_bytes, n)), WorkerId(n as u32 % workers));
        if n == count / 2 {
            at_half = (index.memory_bytes(), n);
        }
    }
    (index.memory_bytes() - at_half.0) as f64 / ((count - 1 - at_half.1) * prompt_bytes) as f64
}

/// What most requests are: one or two blocks. One after another in a small index, and at random in one of a million.
fn short_prompts() {
    for (name, capacity) in [("", None), (", with worker capacity", Some(1 << 40))] {
        for (stored, spread) in [(1_000, "1 thousand"), (1_000_000, "1 million")] {
            let prompts: Vec<_> = (0..stored + 100_000).map(|n| PromptHashes::of(&words(120, n))).collect();
            let new_index = |bytes| match capacity {
                Some(capacity) => PrefixIndex::with_worker_capacity(bytes, capacity),
                None => PrefixIndex::new(bytes),
            };
            let mut index = new_index(512 << 20);
            let mut matched = vec![0; 8];
            let mut route = |prompt: &PromptHashes, n: usize| {
                index.match_into(black_box(prompt), &mut matched);
                index.insert(black_box(prompt), WorkerId(n as u32 % 8));
            };
            for (n, prompt) in prompts[..stored].iter().enumerate() {
                route(prompt, n);
            }
            let at = |n: usize| n.wrapping_mul(2_654_435_761) % stored;
            let known = quickest_ns(10_000, |n| route(&prompts[at(n)], at(n)));
            let mut fresh = prompts[stored..].iter().zip(0..);
            let new = quickest_ns(10_000, |_| {
                if let Some((prompt, n)) = fresh.next() {
                    route(prompt, n);
                }
            });
            println!(
                "120 B, {spread} stored, 8 workers, look-up + insert{name}: known {known:.0}, new {new:.0}"
            );
        }
    }
}

/// An index that knows what each worker used when, as that of engine text does, and forgets the second half of each prompt; then
/// the whole of a request: what is remembered at its choice, and what its end makes of it, with 64 others in flight.
fn corrected() {
    println!(
        "with worker capacity: {:>8} {:>8} {:>8} {:>8} {:>16}",
        "new", "again", "forget", "look-up", "choice and end"
    );
    for (prompt_bytes, workers) in [(120, 8), (10_000, 8), (10_000, 512), (100_000, 8), (100_000, 512)] {
        let prompts: Vec<_> =
            (0..STORED).map(|n| PromptHashes::of(&family_prompt(prompt_bytes, n))).collect();
        let worker = |n: usize| WorkerId(n as u32 % workers);
        let all = |index: &mut PrefixIndex, each: &dyn Fn(&mut PrefixIndex, usize)| {
            time(|| (0..STORED).for_each(|n| each(index, n))).as_nanos() as f64 / STORED as f64
        };
        let insert = |index: &mut PrefixIndex, n: usize| {
            black_box(index.insert(&prompts[n], worker(n)));
        };
        let forget = |index: &mut PrefixIndex, n: usize| {
            black_box(index.forget_beyond(&prompts[n], worker(n), prompt_bytes as u64 / 2));
        };
        let mut least = [f64::MAX; 4];
        for _ in 0..ROUNDS {
            let mut index = PrefixIndex::with_worker_capacity(INDEX_BYTES, u64::MAX);
            let mut matched = vec![0; workers as usize];
            let new_ns = all(&mut index, &insert);
            let again_ns = all(&mut index, &insert);
            let look_ns = time(|| prompts.iter().for_each(|p| index.match_into(black_box(p), &mut matched)));
            let forget_ns = all(&mut index, &forget);
            let round = [new_ns, again_ns, forget_ns, look_ns.as_nanos() as f64 / STORED as f64];
            least.iter_mut().zip(round).for_each(|(least, ns)| *least = least.min(ns));
        }
        let [new, again, forget, look] = least;
        println!(
            "{prompt_bytes:>9} B, {workers:>3} workers {new:>8.0} {again:>8.0} {forget:>8.0} {look:>8.0} {:>16.0}",
            of_a_request(&prompts, workers)
        );
    }
}

fn of_a_request(prompts: &[PromptHashes], workers: u32) -> f64 {
    let needs = Needs { prefix_match: true, engine_text: true, ..Needs::default() };
    let mut beliefs = Beliefs::new(PrefixIndex::new(INDEX_BYTES));
    beliefs.want(needs);
    let mut seq = 0;
    quickest_ns(STORED, |n| {
        seq += 1;
        let request = RequestView { seq, prompt: Some(&prompts[n]), ..RequestView::default() };
        beliefs.remember(black_box(&request), needs, WorkerId(seq as u32 % workers), None);
        let ended = seq.saturating_sub(64);
        let worker = WorkerId(ended as u32 % workers);
        beliefs.observe(&Event::FirstToken { seq: ended, worker, ttft_us: 1 });
        let prompt_tokens = Some(prompts[n].len_bytes() / 4);
        beliefs.observe(&Event::Ended {
            seq: ended,
            worker,
            latency_us: 1,
            ok: true,
            prompt_tokens,
            completion_tokens: None,
            cached_tokens: prompt_tokens,
        });
    })
}

/// At the bound every new run evicts one, and the stored ones no longer lie side by side in the cache.
fn full_index() {
    let mut index = PrefixIndex::new(INDEX_BYTES);
    let mut prompt = PromptHashes::default();
    let mut n = 0;
    while index.evicted_blocks() < 2_000_000 {
        prompt.rehash(&words(100_000, n));
        index.insert(&prompt, WorkerId(n as u32 % 64));
        n += 1;
    }
    let new: Vec<_> = (0..STORED * ROUNDS).map(|m| PromptHashes::of(&words(100_000, n + m))).collect();
    let kept: Vec<_> = (0..STORED).map(|m| PromptHashes::of(&words(100_000, n - 1_000 + m))).collect();
    let mut matched = vec![0; 64];
    let hit_ns = quickest_ns(STORED, |m| index.match_into(&kept[m], &mut matched));
    assert!(matched.contains(&100_000), "the prompts looked up are still in the index");
    let (middle_ns, most_ns) = middle_and_99th(new.iter().enumerate().map(|(m, prompt)| {
        time(|| {
            index.insert(prompt, WorkerId(m as u32 % 64));
        })
        .as_nanos()
    }));
    println!(
        "full index of {} MiB, {} blocks: look-up of 100k characters {hit_ns:.0}; insert of 100k new ones {middle_ns}, 99 of 100 {most_ns}",
        index.memory_bytes() >> 20,
        index.blocks(),
    );
}

/// Conversations that grow by turns, all at once, until old ones are evicted: what belongs together no longer lies together.
fn conversations() {
    const CONVERSATIONS: usize = 3_000;
    let mut index = PrefixIndex::new(INDEX_BYTES / 4);
    let mut turns = Vec::new();
    for turn in 1..=50 {
        turns.clear();
        for conversation in 0..CONVERSATIONS {
            let prompt = PromptHashes::of(&words(turn * 2_000, conversation));
            let worker = WorkerId(conversation as u32 % 64);
            let took = time(|| {
                black_box(index.insert(&prompt, worker));
            });
            turns.push(took.as_nanos());
        }
    }
    let kept: Vec<_> =
        (0..STORED).map(|n| PromptHashes::of(&words(100_000, CONVERSATIONS - STORED + n))).collect();
    let mut matched = vec![0; 64];
    let hit_ns = quickest_ns(STORED, |n| index.match_into(&kept[n], &mut matched));
    assert!(index.evicted_blocks() > 0 && matched.contains(&100_000));
    let (middle_ns, most_ns) = middle_and_99th(turns.into_iter());
    println!(
        "{CONVERSATIONS} conversations of 50 turns, {} blocks evicted: look-up {hit_ns:.0}; insert of the last turn {middle_ns}, 99 of 100 {most_ns}",
        index.evicted_blocks(),
    );
}

/// From nothing to a million short prompts, several times: of each insert the quickest time, so that what remains is its own.
fn growth() {
    const INSERTS: usize = 1_000_000;
    let prompts: Vec<_> = (0..INSERTS).map(|n| PromptHashes::of(&words(64, n))).collect();
    let mut quickest = vec![u128::MAX; INSERTS];
    let (mut empty_bytes, mut full_bytes) = (0, 0);
    for _ in 0..5 {
        let mut index = PrefixIndex::new(512 << 20);
        empty_bytes = index.memory_bytes();
        for (n, prompt) in prompts.iter().enumerate() {
            let took = time(|| {
                black_box(index.insert(prompt, WorkerId(n as u32 % 8)));
            });
            quickest[n] = quickest[n].min(took.as_nanos());
        }
        full_bytes = index.memory_bytes();
    }
    quickest.sort_unstable();
    let [middle, most, nearly_all] =
        [50, 99_000, 99_990].map(|part| quickest[INSERTS / 100_000 * part.max(50_000)]);
    println!(
        "growth from {} KiB to {} MiB, 1 block at a time: median {middle}, 99 % {most}, 99.99 % {nearly_all}, worst {}",
        empty_bytes >> 10,
        full_bytes >> 20,
        quickest[INSERTS - 1],
    );
}

/// 512 workers that hold one long prompt and many short ones, removed one by one.
fn removal() {
    let mut index = PrefixIndex::new(INDEX_BYTES);
    let long = PromptHashes::of(&words(100_000, 1));
    for worker in 0..512 {
        index.insert(&long, WorkerId(worker));
        for n in 0..100 {
            index.insert(&PromptHashes::of(&words(500, 1_000 + n * 512 + worker as usize)), WorkerId(worker));
        }
    }
    let mut matched = vec![0; 512];
    let mut removals = Vec::new();
    let mut lookups = Vec::new();
    for worker in 0..511 {
        removals.push(time(|| index.remove_worker(WorkerId(worker))).as_nanos());
        lookups.push(time(|| index.match_into(&long, &mut matched)).as_nanos());
    }
    assert_eq!(matched.iter().filter(|&&bytes| bytes > 0).count(), 1);
    let ((removal, _), (lookup, most)) =
        (middle_and_99th(removals.into_iter()), middle_and_99th(lookups.into_iter()));
    println!("remove one of 512 workers {removal}; the look-up after it {lookup}, 99 of 100 {most}");
}

fn middle_and_99th(times: impl Iterator<Item = u128>) -> (u128, u128) {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() / 100 * 99])
}

fn family_prompt(bytes: usize, n: usize) -> Vec<u8> {
    let mut text = words(bytes / 10 * 4, n / 10);
    text.extend(words(bytes - text.len(), 1_000_000 + n));
    text
}
