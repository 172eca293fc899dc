//! What each worker can hold, against a list of everything ever sent to it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::nodes::{Nodes, RUN_BLOCKS};
use super::*;

const WORKERS: u32 = 4;

fn index(nodes: usize, shares_bytes: usize, worker_bytes: u64) -> PrefixIndex {
    PrefixIndex {
        nodes: Nodes::with_capacity(nodes),
        holders: HolderSets::new(100_000),
        shares: Some(Shares::new(shares_bytes, worker_bytes)),
        max_bytes: 0,
        inserts: 0,
        evicted: 0,
        alive: Vec::new(),
        path: Vec::new(),
        since_bytes: None,
    }
}

fn matched(index: &mut PrefixIndex, prompt: &PromptHashes) -> [u64; WORKERS as usize] {
    let mut matched = [0; WORKERS as usize];
    index.match_into(prompt, &mut matched);
    matched
}

/// The records of who used what are those of the runs and their sets.
fn check(index: &mut PrefixIndex) {
    let sets = index.nodes.checked();
    index.holders.check(&sets);
    let mut held = Vec::new();
    for (run, set) in index.nodes.used() {
        index.holders.for_each(set, |worker, alone| held.push((worker, alone, run)));
    }
    index.shares.as_ref().expect("there").check(&held);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<u8>, u32),
    Remove(u32),
    Forget(Vec<u8>, u32, u64),
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let blocks = prop::sample::select(vec![1usize, 1, 2, 12, 25]);
    (prop::collection::vec((0u8..3, blocks), 1..4), 0usize..64).prop_map(|(path, rest)| {
        let symbols = path.iter().flat_map(|&(symbol, blocks)| std::iter::repeat_n(symbol, blocks));
        let mut text: Vec<u8> = symbols.flat_map(|symbol| [b'a' + symbol; SMALL_BLOCK_BYTES]).collect();
        text.extend(std::iter::repeat_n(b'r', rest));
        text
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (text(), 0..WORKERS).prop_map(|(text, worker)| Step::Insert(text, worker)),
        1 => (0..WORKERS).prop_map(Step::Remove),
        2 => (text(), 0..WORKERS, 0u64..2_000)
            .prop_map(|(text, worker, held)| Step::Forget(text, worker, held)),
    ]
}

/// What was sent to one worker, by text, with the number of the step that did it last.
#[derive(Default)]
struct Sent(BTreeMap<Vec<u8>, usize>);

impl Sent {
    /// Bytes of the distinct blocks that the worker is believed to hold.
    fn held_bytes(&self, index: &mut PrefixIndex, worker: usize) -> u64 {
        let mut blocks = BTreeMap::new();
        for text in self.0.keys() {
            let prompt = PromptHashes::of(text);
            let known = matched(index, &prompt)[worker];
            let mut before = 0;
            for (at, &hash) in prompt.as_slice().iter().enumerate() {
                let depth = prompt.depth_bytes(at);
                if depth <= known {
                    blocks.insert(hash, depth - before);
                }
                before = depth;
            }
        }
        blocks.values().sum()
    }

    /// When something was last sent that the chain of `text` is part of, or that is itself part of it.
    fn last_use(&self, text: &[u8], or_part: bool) -> usize {
        let whole = PromptHashes::of(text);
        let is_use = |other: &[u64]| {
            other.starts_with(whole.as_slice()) || or_part && whole.as_slice().starts_with(other)
        };
        let uses = self.0.iter().filter(|(other, _)| is_use(PromptHashes::of(other).as_slice()));
        uses.map(|(_, &step)| step).max().unwrap_or(0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_oldest_goes_first_and_only_when_the_worker_is_full(
        worker_bytes in prop::sample::select(vec![0u64, 100, 1_000, 5_000]),
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let mut index = index(1_000, 100_000, worker_bytes);
        let mut sent: Vec<Sent> = (0..WORKERS).map(|_| Sent::default()).collect();
        for (number, step) in (1..).zip(&steps) {
            match step {
                Step::Insert(text, worker) => {
                    prop_assert!(index.insert(&PromptHashes::of(text), WorkerId(*worker)));
                    sent[*worker as usize].0.insert(text.clone(), number);
                }
                Step::Remove(worker) => {
                    index.remove_worker(WorkerId(*worker));
                    sent[*worker as usize].0.clear();
                }
                // What is held by some other way is told below.
                Step::Forget(..) => {}
            }
            check(&mut index);
            for (worker, sent) in sent.iter().enumerate() {
                let held = index.held_bytes(WorkerId(worker as u32)).expect("kept");
                prop_assert!(held <= worker_bytes, "{held}");
                prop_assert_eq!(held, sent.held_bytes(&mut index, worker));
                let is_whole = |index: &mut PrefixIndex, text: &[u8]| {
                    matched(index, &PromptHashes::of(text))[worker] == text.len() as u64
                };
                for newer in sent.0.keys() {
                    if is_whole(&mut index, newer) {
                        continue;
                    }
                    prop_assert!(sent.last_use(newer, false) > 0);
                    for older in sent.0.keys() {
                        let in_order = sent.last_use(older, true) < sent.last_use(newer, false);
                        prop_assert!(!(in_order && is_whole(&mut index, older)), "worker {worker}");
                    }
                }
            }
        }
    }

    /// With room for a set or two, so that holders are forgotten for want of it: the records go with them.
    #[test]
    fn who_is_forgotten_for_want_of_a_set_has_no_record_left(
        sets_bytes in 8_200usize..9_200,
        worker_bytes in prop::sample::select(vec![100u64, 1_000, 5_000]),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut index = PrefixIndex { holders: HolderSets::new(sets_bytes), ..index(30, 100_000, worker_bytes) };
        for step in &steps {
            match step {
                Step::Insert(text, worker) => _ = index.insert(&PromptHashes::of(text), WorkerId(*worker)),
                Step::Remove(worker) => index.remove_worker(WorkerId(*worker)),
                Step::Forget(text, worker, held) => {
                    index.forget_beyond(&PromptHashes::of(text), WorkerId(*worker), *held);
                }
            }
            check(&mut index);
        }
    }

    /// With too little room for runs and records alike, what is believed is still true.
    #[test]
    fn nothing_is_invented_when_nothing_fits(
        nodes in 1usize..12,
        shares_bytes in 9_000usize..10_000,
        steps in prop::collection::vec(step(), 1..60),
        query in text(),
    ) {
        let mut index = index(nodes, shares_bytes, 3_000);
        let mut sent: Vec<(Vec<u8>, u32)> = Vec::new();
        for step in &steps {
            match step {
                Step::Insert(text, worker) => {
                    index.insert(&PromptHashes::of(text), WorkerId(*worker));
                    sent.push((text.clone(), *worker));
                }
                Step::Remove(worker) => {
                    index.remove_worker(WorkerId(*worker));
                    sent.retain(|(_, sent)| sent != worker);
                }
                Step::Forget(text, worker, held) => {
                    index.forget_beyond(&PromptHashes::of(text), WorkerId(*worker), *held);
                }
            }
            index.holders.check(&index.nodes.checked());
            let believed = matched(&mut index, &PromptHashes::of(&query));
            for (worker, &bytes) in (0..).zip(&believed) {
                let shared = |text: &[u8]| text.iter().zip(&query).take_while(|(a, b)| a == b).count() as u64;
                let mine = sent.iter().filter(|(_, sent)| *sent == worker);
                prop_assert!(bytes <= mine.map(|(text, _)| shared(text)).max().unwrap_or(0));
            }
        }
    }
}

#[test]
fn each_worker_has_its_own_capacity_until_it_is_removed() {
    let run_bytes = (RUN_BLOCKS * SMALL_BLOCK_BYTES) as u64;
    let mut index = index(1_000, 100_000, 4 * run_bytes);
    index.set_worker_capacity(WorkerId(1), Some(run_bytes));
    let prompt = PromptHashes::of(&vec![b'p'; 5 * run_bytes as usize]);
    for worker in 0..2 {
        assert!(index.insert(&prompt, WorkerId(worker)));
    }
    assert_eq!(matched(&mut index, &prompt), [4, 1, 0, 0].map(|runs| runs * run_bytes));
    index.remove_worker(WorkerId(1));
    assert_eq!(index.held_bytes(WorkerId(1)), Some(0));
    assert!(index.insert(&prompt, WorkerId(1)));
    assert_eq!(matched(&mut index, &prompt), [4, 4, 0, 0].map(|runs| runs * run_bytes));
}

#[test]
fn what_nobody_holds_any_more_leaves_the_index() {
    let mut index = index(1_000, 100_000, 1_000);
    for n in 0..100u8 {
        assert!(index.insert(&PromptHashes::of(&[n; 640]), WorkerId(0)));
    }
    assert_eq!(index.blocks(), 10);
}

#[test]
fn the_records_of_removed_workers_are_used_again() {
    let mut index = index(1_000, 20_000, u64::MAX);
    for n in 0..2_000u32 {
        let prompt = PromptHashes::of(format!("prompt {n}").as_bytes());
        assert!(index.insert(&prompt, WorkerId(n % WORKERS)), "{n}");
        if n % 50 == 49 {
            (0..WORKERS).for_each(|worker| index.remove_worker(WorkerId(worker)));
        }
    }
    check(&mut index);
}

/// What a worker loses by its own bound makes the run before it a leaf: one that was used just now, not the oldest of all.
#[test]
fn a_run_that_becomes_a_leaf_keeps_its_age() {
    let run_bytes = RUN_BLOCKS * SMALL_BLOCK_BYTES;
    let runs = |symbol: u8, count: usize| PromptHashes::of(&vec![symbol; count * run_bytes]);
    let mut index = index(6, 100_000, u64::MAX);
    index.set_worker_capacity(WorkerId(0), Some(2 * run_bytes as u64));
    assert!(index.insert(&runs(b'o', 2), WorkerId(1)));
    assert!(index.insert(&runs(b'n', 4), WorkerId(0)));
    assert!(index.insert(&runs(b'x', 3), WorkerId(2)));
    let held =
        |index: &mut PrefixIndex, symbol| matched(index, &runs(symbol, 4)).map(|b| b / run_bytes as u64);
    assert_eq!((held(&mut index, b'n'), held(&mut index, b'o')), ([2, 0, 0, 0], [0, 1, 0, 0]));
    check(&mut index);
}

#[test]
fn the_records_of_a_removed_worker_make_room_for_a_long_prompt() {
    let mut index = index(2_000, 20_000, u64::MAX);
    for n in 0..250u32 {
        assert!(index.insert(&PromptHashes::of(format!("prompt {n}").as_bytes()), WorkerId(0)));
    }
    index.remove_worker(WorkerId(0));
    let long = PromptHashes::of(&vec![b'l'; 600_000]);
    assert!(index.insert(&long, WorkerId(1)));
    assert_eq!((matched(&mut index, &long)[1], index.evicted_blocks()), (600_000, 0));
    check(&mut index);
}

#[test]
fn what_came_since_the_last_use_is_counted_for_each_worker() {
    let mut index = index(1_000, 100_000, u64::MAX);
    let (old, new) = (PromptHashes::of(&[b'o'; 2_048]), PromptHashes::of(&[b'n'; 10_240]));
    assert!(index.insert(&old, WorkerId(0)));
    assert_eq!(index.last_since_bytes(), None);
    assert!(index.insert(&new, WorkerId(0)));
    assert!(index.insert(&new, WorkerId(1)));
    // Since it came itself, what it was is text that has come.
    assert!(index.insert(&old, WorkerId(0)));
    assert_eq!(index.last_since_bytes(), Some(12_288));
    assert!(index.insert(&old, WorkerId(0)));
    assert_eq!(index.last_since_bytes(), Some(0));
    // The end of what was held counts, though its beginning was used since.
    assert!(index.insert(&PromptHashes::of(&[b'n'; 2_048]), WorkerId(0)));
    assert!(index.insert(&PromptHashes::of(&[b'x'; 4_096]), WorkerId(0)));
    assert!(index.insert(&new, WorkerId(0)));
    assert_eq!(index.last_since_bytes(), Some(14_336));
    check(&mut index);
}
