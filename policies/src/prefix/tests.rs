//! The index against a list of everything ever inserted, in a space so small that eviction and forgetting happen all the time.

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
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<u8>, u32),
    Remove(u32),
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
    ]
}

#[derive(Default)]
struct Model {
    sent: Vec<(Vec<u8>, u32)>,
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Insert(text, worker) => self.sent.push((text.clone(), *worker)),
            Step::Remove(worker) => self.sent.retain(|(_, sent)| sent != worker),
        }
    }

    fn longest(&self, text: &[u8], worker: usize) -> u64 {
        let sent = self.sent.iter().filter(|(_, sent)| *sent as usize == worker);
        sent.map(|(sent, _)| sent.iter().zip(text).take_while(|(a, b)| a == b).count()).max().unwrap_or(0)
            as u64
    }
}

fn apply(index: &mut PrefixIndex, step: &Step) -> bool {
    match step {
        Step::Insert(text, worker) => index.insert(&PromptHashes::of(text), WorkerId(*worker)),
        Step::Remove(worker) => {
            index.remove_worker(WorkerId(*worker));
            true
        }
    }
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
    fn within_a_block_of_the_truth_while_nothing_was_dropped(
        steps in prop::collection::vec(step(), 1..60),
        query in text(),
    ) {
        let mut index = tiny(1000, 100_000);
        let mut model = Model::default();
        for step in &steps {
            prop_assert!(apply(&mut index, step));
            model.apply(step);
        }
        prop_assert_eq!(index.evicted_blocks(), 0);
        let mut matched = vec![9; WORKERS];
        index.match_into(&PromptHashes::of(&query), &mut matched);
        for (worker, &matched) in matched.iter().enumerate() {
            let longest = model.longest(&query, worker);
            let block_bytes = if longest < SMALL_REGION_BYTES as u64 { SMALL_BLOCK_BYTES } else { LARGE_BLOCK_BYTES };
            prop_assert!(matched <= longest && longest - matched < block_bytes as u64, "worker {worker}: {matched}, {longest}");
        }
        // What was sent matches to its last byte.
        for (text, worker) in &model.sent {
            index.match_into(&PromptHashes::of(text), &mut matched);
            prop_assert_eq!(matched[*worker as usize], text.len() as u64);
        }
    }
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
