//! The prefix index against `radix_trie`, a character tree, as sglang-router's is; and its memory bound against prompts made to
//! break it. Prompts are synthetic.

use std::collections::BTreeMap;

use milepost_policies::prefix::{
    LARGE_BLOCK_BYTES, MAX_INDEX_BYTES, MAX_WORKERS, MIN_INDEX_BYTES, SMALL_BLOCK_BYTES, SMALL_REGION_BYTES,
};
use milepost_policies::{PrefixIndex, PromptHashes, WorkerId};
use proptest::prelude::*;
use radix_trie::Trie;

/// Longest prefix of `query` that some key of `tree` starts with, in bytes.
fn tree_match(tree: &Trie<Vec<u8>, ()>, query: &[u8]) -> u64 {
    let known = |len: usize| tree.get_raw_descendant(&query[..len]).is_some();
    // Known prefixes of a known prefix are known: bisect.
    let (mut known_len, mut unknown_len) = (0, query.len() + 1);
    while unknown_len - known_len > 1 {
        let middle = usize::midpoint(known_len, unknown_len);
        if known(middle) {
            known_len = middle;
        } else {
            unknown_len = middle;
        }
    }
    known_len as u64
}

/// Prompts as families: a shared head, then turns; lengths on both sides of every kind of block end.
fn prompt() -> impl Strategy<Value = Vec<u8>> {
    let head = prop::sample::select(vec![0usize, 1, 63, 64, 65, 500, 4000, 4095, 4096, 4097, 5000, 9000]);
    let turns = prop::collection::vec((0u8..3, 1usize..300), 0..5);
    (0u8..2, head, turns).prop_map(|(family, head, turns)| {
        let mut text: Vec<u8> = (0..head).map(|at| b'a' + family + (at % 7) as u8).collect();
        for (turn, len) in turns {
            text.extend((0..len).map(|at| b'A' + turn + (at / 100) as u8));
        }
        text
    })
}

/// Workers on both sides of word ends, in a fleet of 520.
fn worker() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![0u32, 1, 63, 64, 200, 511, 519])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_match_is_within_one_block_of_the_tree(
        sent in prop::collection::vec((prompt(), worker()), 1..16),
        queries in prop::collection::vec(prompt(), 1..6),
    ) {
        let mut index = PrefixIndex::new(1 << 20);
        let mut trees: BTreeMap<u32, Trie<Vec<u8>, ()>> = BTreeMap::new();
        for (text, worker) in &sent {
            prop_assert!(index.insert(&PromptHashes::of(text), WorkerId(*worker)));
            trees.entry(*worker).or_default().insert(text.clone(), ());
        }
        let mut matched = vec![0; 520];
        for query in queries.iter().chain(sent.iter().map(|(text, _)| text)) {
            index.match_into(&PromptHashes::of(query), &mut matched);
            for (worker, &by_block) in (0..).zip(&matched) {
                let by_tree = trees.get(&worker).map_or(0, |tree| tree_match(tree, query));
                let block_bytes = if by_tree < SMALL_REGION_BYTES as u64 { SMALL_BLOCK_BYTES } else { LARGE_BLOCK_BYTES };
                prop_assert!(by_block <= by_tree, "worker {worker}: {by_block} of {by_tree}");
                prop_assert!(by_tree - by_block < block_bytes as u64, "worker {worker}: {by_block} of {by_tree}");
            }
        }
    }
}

/// Inserts prompts by the thousand; the bound holds after each, and what was inserted last is known. With a capacity for each
/// worker as well, which only says what goes first.
fn stays_bounded(prompts: impl Iterator<Item = (Vec<u8>, u32)> + Clone) -> PrefixIndex {
    let plain = check_bounded(PrefixIndex::new(MIN_INDEX_BYTES), prompts.clone());
    // What each of 512 workers used when takes its room.
    check_bounded(PrefixIndex::with_worker_capacity(8 * MIN_INDEX_BYTES, 100_000), prompts);
    plain
}

fn check_bounded(mut index: PrefixIndex, prompts: impl Iterator<Item = (Vec<u8>, u32)>) -> PrefixIndex {
    let mut prompt = PromptHashes::default();
    let mut matched = vec![0; 512];
    for (text, worker) in prompts {
        prompt.rehash(&text);
        assert!(index.insert(&prompt, WorkerId(worker)));
        assert!(index.memory_bytes() <= index.max_bytes(), "{} bytes", index.memory_bytes());
        index.match_into(&prompt, &mut matched);
        assert_eq!(matched[worker as usize], text.len() as u64);
        // A capacity may be exceeded by the prompts last sent, for as long as it takes to forget as much.
        assert!(index.held_bytes(WorkerId(worker)).is_none_or(|held| held <= 110_000));
    }
    index
}

#[test]
fn unique_prompts_stay_within_the_bound() {
    let unique = |n: u32| {
        let text: Vec<u8> = (0..100u32).flat_map(|at| n.wrapping_mul(at + 1).to_le_bytes()).collect();
        (text, n % 512)
    };
    let index = stays_bounded((0..20_000).map(unique));
    assert!(index.evicted_blocks() > 90_000);
}

#[test]
fn nested_prompts_stay_within_the_bound() {
    let nested = (1..600).flat_map(|n| (0..40).map(move |family| (vec![family; n * 7], n as u32 % 8)));
    let index = stays_bounded(nested);
    assert!(index.evicted_blocks() > 1_000);
}

#[test]
fn prompts_of_one_hot_byte_stay_within_the_bound() {
    let hot = |n: usize| {
        let mut text = vec![0; 8_000];
        text[n % 8_000] = 1;
        (text, n as u32 % 512)
    };
    let index = stays_bounded((0..2_000).map(hot));
    assert!(index.evicted_blocks() > 10_000);
}

/// Every insert makes a set of workers that did not exist: the worst case for the interned sets.
#[test]
fn ever_new_sets_of_workers_stay_within_the_bound() {
    let mut index = PrefixIndex::new(MIN_INDEX_BYTES);
    for n in 0..20_000u32 {
        let prompt = PromptHashes::of(format!("one of thirty prompts: {}", n % 30).as_bytes());
        index.insert(&prompt, WorkerId(n.wrapping_mul(2_654_435_761) >> 23));
        assert!(index.memory_bytes() <= MIN_INDEX_BYTES);
    }
    assert_eq!(index.blocks(), 30);
}

#[test]
fn a_removed_worker_never_matches_and_the_others_still_do() {
    let mut index = PrefixIndex::new(1 << 20);
    let prompts: Vec<_> =
        (0..50).map(|n| PromptHashes::of(format!("prompt {n}").repeat(40).as_bytes())).collect();
    for worker in 0..MAX_WORKERS as u32 {
        index.insert(&prompts[worker as usize % 50], WorkerId(worker));
    }
    for worker in (0..MAX_WORKERS as u32).step_by(3) {
        index.remove_worker(WorkerId(worker));
    }
    let mut matched = vec![0; MAX_WORKERS];
    for prompt in &prompts {
        index.match_into(prompt, &mut matched);
        assert!(matched.iter().step_by(3).all(|&bytes| bytes == 0));
    }
    index.match_into(&prompts[49], &mut matched);
    assert!(matched.contains(&prompts[49].len_bytes()));
}

#[test]
fn the_bound_is_brought_into_range_and_told() {
    assert_eq!(PrefixIndex::new(0).max_bytes(), MIN_INDEX_BYTES);
    assert_eq!(PrefixIndex::new(64 << 20).max_bytes(), 64 << 20);
    assert_eq!(PrefixIndex::new(usize::MAX).max_bytes(), MAX_INDEX_BYTES);
}

#[test]
fn memory_grows_with_what_is_held() {
    let mut index = PrefixIndex::new(512 << 20);
    assert!(index.memory_bytes() < 1 << 20, "{} bytes when empty", index.memory_bytes());
    let mut before = index.memory_bytes();
    for n in 0..20_000u32 {
        let text: Vec<u8> = (0..500u32).flat_map(|at| n.wrapping_mul(at + 1).to_le_bytes()).collect();
        index.insert(&PromptHashes::of(&text), WorkerId(n % 8));
        assert!(index.memory_bytes() <= before + (600 << 10), "grows piece by piece");
        before = index.memory_bytes();
    }
    assert_eq!(index.evicted_blocks(), 0);
    assert!(before < 12 << 20, "{before} bytes for 40 MB of prompts");
}
