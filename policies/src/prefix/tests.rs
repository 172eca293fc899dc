//! The index against a list of everything ever inserted, in a space so small that eviction and forgetting happen all the time.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::nodes::{Nodes, RUN_BLOCKS};
use super::*;

const WORKERS: usize = 130;
/// Text in a whole run at a prompt's beginning.
const RUN_BYTES: usize = RUN_BLOCKS * SMALL_BLOCK_BYTES;

fn tiny(nodes: usize, holders_bytes: usize) -> PrefixIndex {
    PrefixIndex {
        nodes: Nodes::with_capacity(nodes),
        holders: HolderSets::new(holders_bytes),
        shares: None,
        max_bytes: 0,
        inserts: 0,
        evicted: 0,
        alive: Vec::new(),
        path: Vec::new(),
        since_bytes: None,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<u8>, u32),
    Remove(u32),
    Forget(Vec<u8>, u32, u64),
}

/// Texts that share prefixes: a path of few symbols, each worth some blocks, and a rest of any length.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let blocks = prop::sample::select(vec![1usize, 1, 1, 5, 11, 12, 13, 30]);
    (prop::collection::vec((0u8..3, blocks), 0..6), 0usize..64).prop_map(|(path, rest)| {
        let symbols = path.iter().flat_map(|&(symbol, blocks)| std::iter::repeat_n(symbol, blocks));
        let mut text: Vec<u8> = symbols.flat_map(|symbol| [b'a' + symbol; SMALL_BLOCK_BYTES]).collect();
        text.extend(std::iter::repeat_n(b'r', rest));
        text
    })
}

/// Few workers, on both sides of a word's end.
fn worker() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![0, 1, 63, 64, 65, 129])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (text(), worker()).prop_map(|(text, worker)| Step::Insert(text, worker)),
        1 => worker().prop_map(Step::Remove),
        2 => (text(), worker(), 0u64..5_000).prop_map(|(text, worker, held)| Step::Forget(text, worker, held)),
    ]
}

/// All blocks that were ever sent to a worker and neither forgotten nor removed since, each with all that leads to it.
#[derive(Default)]
struct Model {
    held: BTreeSet<(u32, u64)>,
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Insert(text, worker) => {
                self.held.extend(PromptHashes::of(text).as_slice().iter().map(|&hash| (*worker, hash)));
            }
            Step::Remove(worker) => self.held.retain(|(holder, _)| holder != worker),
            Step::Forget(text, worker, held_bytes) => {
                let prompt = PromptHashes::of(text);
                for (at, &hash) in prompt.as_slice().iter().enumerate() {
                    if prompt.depth_bytes(at) > *held_bytes {
                        self.held.remove(&(*worker, hash));
                    }
                }
            }
        }
    }

    fn longest(&self, text: &[u8], worker: usize) -> u64 {
        let prompt = PromptHashes::of(text);
        let is_held = |&hash: &u64| self.held.contains(&(worker as u32, hash));
        match prompt.as_slice().iter().take_while(|&hash| is_held(hash)).count() {
            0 => 0,
            blocks => prompt.depth_bytes(blocks - 1),
        }
    }
}

fn apply(index: &mut PrefixIndex, step: &Step) -> bool {
    match step {
        Step::Insert(text, worker) => index.insert(&PromptHashes::of(text), WorkerId(*worker)),
        Step::Remove(worker) => {
            index.remove_worker(WorkerId(*worker));
            true
        }
        Step::Forget(text, worker, held_bytes) => {
            index.forget_beyond(&PromptHashes::of(text), WorkerId(*worker), *held_bytes);
            true
        }
    }
}

fn matches(index: &mut PrefixIndex, text: &[u8]) -> Vec<u64> {
    let mut matched = vec![9; WORKERS];
    index.match_into(&PromptHashes::of(text), &mut matched);
    matched
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn sound_and_well_formed_under_eviction_and_removal(
        nodes in 1usize..40,
        holders_bytes in 0usize..1500,
        steps in prop::collection::vec(step(), 1..60),
        query in text(),
    ) {
        let mut index = tiny(nodes, holders_bytes);
        let mut model = Model::default();
        let mut matched = vec![0; WORKERS];
        for step in &steps {
            apply(&mut index, step);
            model.apply(step);
            index.holders.check(&index.nodes.checked());
            index.match_into(&PromptHashes::of(&query), &mut matched);
            for (worker, &matched) in matched.iter().enumerate() {
                prop_assert!(matched <= model.longest(&query, worker), "worker {worker}");
            }
        }
    }

    #[test]
    fn exact_to_the_block_while_nothing_was_dropped(
        steps in prop::collection::vec(step(), 1..60),
        query in text(),
    ) {
        let mut index = tiny(1000, 100_000);
        let mut model = Model::default();
        let mut sent = Vec::new();
        for step in steps.iter().filter(|step| !matches!(step, Step::Forget(..))) {
            prop_assert!(apply(&mut index, step));
            model.apply(step);
            match step {
                Step::Insert(text, worker) => sent.push((text, *worker)),
                Step::Remove(worker) => sent.retain(|(_, holder)| holder != worker),
                Step::Forget(..) => {}
            }
        }
        prop_assert_eq!(index.evicted_blocks(), 0);
        for (worker, &matched) in matches(&mut index, &query).iter().enumerate() {
            prop_assert_eq!(matched, model.longest(&query, worker), "worker {}", worker);
        }
        // What was sent matches to its last byte.
        for (text, worker) in sent {
            prop_assert_eq!(matches(&mut index, text)[worker as usize], text.len() as u64);
        }
    }

    /// One worker's belief about one prompt ends where it was told to, and nothing else is lost.
    #[test]
    fn what_is_forgotten_is_that_prompt_at_that_worker_from_there_on(
        steps in prop::collection::vec(step(), 1..40),
        wrong in prop_oneof![Just(None), text().prop_map(Some)],
        queries in prop::collection::vec(text(), 0..6),
        held_bytes in 0u64..5_000,
    ) {
        let mut index = tiny(1000, 100_000);
        let mut texts = queries;
        for step in &steps {
            apply(&mut index, step);
            if let Step::Insert(text, _) = step {
                texts.push(text.clone());
            }
        }
        let (last, worker) = steps.iter().rev().find_map(|step| match step {
            Step::Insert(text, worker) => Some((text.clone(), *worker)),
            _ => None,
        }).unwrap_or_default();
        let wrong = wrong.unwrap_or(last);
        let before: Vec<_> = texts.iter().map(|text| matches(&mut index, text)).collect();
        let was_believed = matches(&mut index, &wrong)[worker as usize];
        let prompt = PromptHashes::of(&wrong);
        let kept = (0..prompt.as_slice().len()).map(|at| prompt.depth_bytes(at)).filter(|&end| end <= held_bytes).max().unwrap_or(0);
        prop_assert_eq!(index.forget_beyond(&prompt, WorkerId(worker), held_bytes), was_believed > kept);
        index.holders.check(&index.nodes.checked());
        prop_assert_eq!(matches(&mut index, &wrong)[worker as usize], was_believed.min(kept));
        for (text, before) in texts.iter().zip(before) {
            let shared = text.iter().zip(&wrong).take_while(|(a, b)| a == b).count() as u64;
            for (holder, (before, after)) in before.into_iter().zip(matches(&mut index, text)).enumerate() {
                let expected = if holder == worker as usize && before > kept && shared > kept {
                    // Where they part inside a block, it is one or the other.
                    prop_assert!(after >= kept.min(before) && after <= before);
                    after
                } else {
                    before
                };
                prop_assert_eq!(after, expected, "worker {}", holder);
            }
        }
    }
}

/// A prompt of which nothing is held any more is sent again: it is believed as far as it was sent, no further.
#[test]
fn what_was_forgotten_does_not_come_back_with_its_beginning() {
    let mut index = tiny(100, 10_000);
    let text = vec![b'p'; 5_000];
    let whole = PromptHashes::of(&text);
    for worker in [3, 64] {
        assert!(index.insert(&whole, WorkerId(worker)));
    }
    assert!(index.forget_beyond(&whole, WorkerId(3), 100));
    assert!(!index.forget_beyond(&whole, WorkerId(3), 100), "it was not believed any more");
    let at = |index: &mut PrefixIndex| (matches(index, &text)[3], matches(index, &text)[64]);
    assert_eq!(at(&mut index), (64, 5_000));
    index.insert(&PromptHashes::of(&text[..1_280]), WorkerId(3));
    assert_eq!(at(&mut index), (1_280, 5_000));
    assert!(index.forget_beyond(&whole, WorkerId(64), 0));
    assert_eq!(at(&mut index), (1_280, 0));
    index.holders.check(&index.nodes.checked());
}

/// Another prompt took away what leads to it; its own end is forgotten all the same.
#[test]
fn what_lies_behind_something_forgotten_can_be_forgotten_too() {
    let mut index = tiny(100, 10_000);
    let (long, short) = (PromptHashes::of(&[b'p'; 2_048]), PromptHashes::of(&[b'p'; 640]));
    assert!(index.insert(&long, WorkerId(0)) && index.insert(&short, WorkerId(0)));
    assert!(index.forget_beyond(&PromptHashes::of(&[b'p'; 320]), WorkerId(0), 0));
    assert!(!index.forget_beyond(&long, WorkerId(0), 0), "it was not believed any more");
    assert!(index.insert(&short, WorkerId(0)));
    assert_eq!(matches(&mut index, &[b'p'; 2_048])[0], 640);
}

#[test]
fn a_prompt_of_any_length_is_forgotten_in_few_steps_and_stays_so() {
    let mut index = tiny(10_000, 10_000);
    let text = vec![b'p'; 1_000_000];
    let whole = PromptHashes::of(&text);
    assert!(index.insert(&whole, WorkerId(0)));
    let runs_before = index.nodes.used().len();
    assert!(index.forget_beyond(&whole, WorkerId(0), 0));
    assert!(index.nodes.used().len() <= runs_before + 1);
    assert_eq!(matches(&mut index, &text)[0], 0);
    assert!(index.insert(&PromptHashes::of(&text[..50_000]), WorkerId(0)));
    assert_eq!(matches(&mut index, &text)[0], 49_920);
    index.holders.check(&index.nodes.checked());
}

/// Text of so many whole runs.
fn runs(symbol: u8, count: usize) -> PromptHashes {
    PromptHashes::of(&vec![symbol; count * RUN_BYTES])
}

#[test]
fn what_goes_first_is_the_least_recently_used_tail() {
    let mut index = tiny(6, 10_000);
    let (old, new) = (runs(b'o', 3), runs(b'n', 3));
    index.insert(&old, WorkerId(0));
    index.insert(&new, WorkerId(0));
    index.insert(&runs(b'x', 2), WorkerId(1));
    let held = |index: &mut PrefixIndex, prompt: &PromptHashes| {
        let mut matched = [0; 2];
        index.match_into(prompt, &mut matched);
        matched.map(|bytes| bytes / RUN_BYTES as u64)
    };
    assert_eq!((held(&mut index, &old), held(&mut index, &new)), ([1, 0], [3, 0]));
    // Used again, the old one outlives the new one.
    index.insert(&old, WorkerId(0));
    assert_eq!((held(&mut index, &old), held(&mut index, &new)), ([3, 0], [1, 0]));
    assert_eq!(index.evicted_blocks(), 4 * RUN_BLOCKS as u64);
}

#[test]
fn a_prompt_longer_than_the_index_is_remembered_as_far_as_it_fits() {
    let mut index = tiny(5, 10_000);
    let prompt = runs(b'o', 5);
    assert!(index.insert(&prompt, WorkerId(2)));
    let prompt = PromptHashes::of(&vec![b'o'; 5 * RUN_BYTES + 10]);
    assert!(!index.insert(&prompt, WorkerId(3)));
    let mut matched = [0; 4];
    index.match_into(&prompt, &mut matched);
    assert_eq!(matched, [0, 0, 5, 5].map(|runs| runs * RUN_BYTES as u64));
    index.holders.check(&index.nodes.checked());
}

/// Where a prompt leaves a run, what both share is one run from then on, and each keeps its own rest.
#[test]
fn a_prompt_that_turns_off_inside_a_run_takes_nothing_from_the_other() {
    let mut index = tiny(10, 10_000);
    let (one, other) = ([b'a'; 640], [[b'a'; 320], [b'b'; 320]].concat());
    let (one, other) = (PromptHashes::of(&one), PromptHashes::of(&other));
    index.insert(&one, WorkerId(0));
    index.insert(&other, WorkerId(1));
    let mut matched = [0; 2];
    index.match_into(&one, &mut matched);
    assert_eq!(matched, [640, 320]);
    index.match_into(&other, &mut matched);
    assert_eq!(matched, [320, 640]);
    assert_eq!(index.blocks(), 15);
    // One that ends inside a run its worker holds changes nothing, for another worker it ends there.
    index.insert(&PromptHashes::of(&[b'a'; 128]), WorkerId(0));
    index.insert(&PromptHashes::of(&[b'a'; 128]), WorkerId(2));
    assert_eq!(index.blocks(), 15);
    let mut matched = [0; 3];
    index.match_into(&one, &mut matched);
    assert_eq!(matched, [640, 320, 128]);
    index.holders.check(&index.nodes.checked());
}

/// Prompts whose hashes were made to meet in one place: a few are kept, the rest is refused, and nothing is searched for long.
#[test]
fn prompts_made_to_collide_are_refused_and_the_others_are_not() {
    let mut index = tiny(1_000, 10_000);
    let colliding = |n: u64| PromptHashes::of_chain(vec![7 << 32 | n, n + 1]);
    let kept: Vec<u64> = (1..500).filter(|&n| index.insert(&colliding(n), WorkerId(0))).collect();
    assert_eq!(kept, (1..9).collect::<Vec<_>>());
    let mut matched = [0];
    index.match_into(&colliding(300), &mut matched);
    assert_eq!(matched, [0]);
    assert!(index.insert(&runs(b'h', 4), WorkerId(0)));
    index.match_into(&runs(b'h', 4), &mut matched);
    assert_eq!(matched, [4 * RUN_BYTES as u64]);
    index.holders.check(&index.nodes.checked());
}

#[test]
fn a_worker_that_comes_back_starts_with_nothing() {
    let mut index = tiny(100, 10_000);
    let (a, b) = (PromptHashes::of(&[b'a'; 640]), PromptHashes::of(&[b'b'; 640]));
    for worker in [0, 1, 100] {
        index.insert(&a, WorkerId(worker));
    }
    index.remove_worker(WorkerId(1));
    // The sets {0, 1} and {0, 1, 100} exist uncleaned; making them again for `b` must not bring them back for `a`.
    for worker in [0, 1, 100] {
        index.insert(&b, WorkerId(worker));
    }
    let mut matched = [0; 101];
    index.match_into(&a, &mut matched);
    assert_eq!((matched[0], matched[1], matched[100]), (640, 0, 640));
    index.match_into(&b, &mut matched);
    assert_eq!((matched[0], matched[1], matched[100]), (640, 640, 640));
}

#[test]
fn sets_that_do_not_fit_forget_the_earlier_holders() {
    let mut index = tiny(10, 200);
    let prompt = PromptHashes::of(b"everyone asks this");
    for worker in 0..40 {
        index.insert(&prompt, WorkerId(worker));
    }
    let mut matched = [0; 40];
    index.match_into(&prompt, &mut matched);
    assert_eq!(matched[39], 18);
    assert!(matched[..39].contains(&0));
}

#[test]
fn a_slot_number_that_is_too_high_is_refused() {
    let mut index = tiny(10, 10_000);
    assert!(!index.insert(&PromptHashes::of(b"hi"), WorkerId(MAX_WORKERS as u32)));
    assert!(index.insert(&PromptHashes::of(b"hi"), WorkerId(MAX_WORKERS as u32 - 1)));
    let mut matched = vec![0; MAX_WORKERS + 7];
    index.match_into(&PromptHashes::of(b"hi"), &mut matched);
    assert_eq!(matched.iter().position(|&bytes| bytes > 0), Some(MAX_WORKERS - 1));
}

#[test]
fn holders_beyond_the_end_of_the_answer_are_left_out() {
    let mut index = tiny(10, 10_000);
    for worker in [1, 5, 70] {
        index.insert(&PromptHashes::of(b"hi"), WorkerId(worker));
    }
    let mut matched = [9; 3];
    index.match_into(&PromptHashes::of(b"hi"), &mut matched);
    assert_eq!(matched, [0, 2, 0]);
    index.match_into(&PromptHashes::of(b"hi"), &mut []);
}
