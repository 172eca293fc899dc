//! Prompts made to hurt the prefix index: every request is routed, memory stays within its bound, and nothing panics.
//!
//! Rule: what a client may send is not what it should send. All unique, all nested, one byte for ever, one byte that moves: each
//! through the whole decision, into an index of the smallest size, with and without a bound for each worker. Deliberately not
//! here: time, which the benches measure, and what is matched, which `prefix_index.rs` holds to an oracle.

use milepost_policies::chooser::{Chooser, Eligible, Joining, PolicyId};
use milepost_policies::prefix::MIN_INDEX_BYTES;
use milepost_policies::{
    CacheAwareMode, PolicyConfig, PrefixIndex, PromptHashes, RequestView, Time, WorkerId, build,
};

const WORKERS: u32 = 8;

/// A decision for each of `prompts`, in a fleet where every ninth request ends late; what was sent to each worker.
fn route(mode: CacheAwareMode, index: PrefixIndex, prompts: impl Iterator<Item = Vec<u8>>) -> Vec<u32> {
    let config = PolicyConfig { cache_aware_mode: mode, ..PolicyConfig::default() };
    let is_bounded = index.held_bytes(WorkerId(0)).is_some();
    let mut chooser = Chooser::new(build("cache_aware", &config).expect("built in"), index);
    for id in 0..WORKERS {
        chooser.join(Time::default(), Joining { id: WorkerId(id), url_hash: u64::from(id), priority: 50 });
    }
    let mut eligible: Vec<_> =
        (0..WORKERS).map(|position| Eligible { position, in_flight_requests: 0 }).collect();
    let mut sent = vec![0; WORKERS as usize];
    let mut prompt = PromptHashes::default();
    for (seq, text) in (1..).zip(prompts) {
        prompt.rehash(&text);
        let request = RequestView {
            seq,
            prompt: Some(&prompt),
            prompt_bytes: prompt.len_bytes(),
            ..RequestView::default()
        };
        let chosen = chooser.choose(Time { us: seq }, PolicyId::default(), &request, &eligible);
        let chosen = chosen.expect("routed");
        sent[chosen] += 1;
        if seq % 9 == 0 {
            eligible[chosen].in_flight_requests += 1;
        }
        let index = chooser.index();
        assert!(index.memory_bytes() <= index.max_bytes(), "{} at {seq}", index.memory_bytes());
        if let Some(held_bytes) = index.held_bytes(WorkerId(chosen as u32)).filter(|_| is_bounded) {
            // What it loses at once is bounded too, but no prompt here is above by more than itself.
            assert!(held_bytes <= WORKER_BYTES + prompt.len_bytes(), "{held_bytes} at {seq}");
        }
    }
    sent
}

/// What a worker may hold, where that is bounded.
const WORKER_BYTES: u64 = 100_000;

/// The same in both modes and both kinds of index.
fn survives<P: Iterator<Item = Vec<u8>>>(prompts: impl Fn() -> P) {
    let count = prompts().count() as u32;
    for mode in [CacheAwareMode::Faithful, CacheAwareMode::Improved] {
        for index in [
            PrefixIndex::new(MIN_INDEX_BYTES),
            PrefixIndex::with_worker_capacity(MIN_INDEX_BYTES, WORKER_BYTES),
        ] {
            assert_eq!(route(mode, index, prompts()).iter().sum::<u32>(), count);
        }
    }
}

#[test]
fn all_unique() {
    survives(|| (0..1_500u64).map(|n| format!("{n:08}").repeat(250).into_bytes()));
}

/// Each prompt is the one before and a bit more: one path that is as deep as the longest.
#[test]
fn all_nested() {
    let longest: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
    survives(|| (1..200).map(|n| longest[..n * 1_001].to_vec()));
    survives(|| (1..200).rev().map(|n| longest[..n * 1_001].to_vec()));
}

/// The same byte again and again, in every length: all blocks are alike, and only their depth tells them apart.
#[test]
fn one_hot_byte() {
    survives(|| (0..1_500).map(|n| vec![b'a'; n]));
    survives(|| (0..6).map(|n| vec![b'a'; n * 300_001]));
}

/// One byte that differs, at a place of its own in each prompt: every block is a fork.
#[test]
fn one_byte_that_moves() {
    survives(|| {
        (0..400).map(|n| {
            let mut text = vec![b'a'; 8_000];
            text[n * 77 % 8_000] = b'b';
            text
        })
    });
}

/// One prompt longer than the whole index can remember, between ordinary ones.
#[test]
fn one_prompt_longer_than_the_index() {
    let long: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    survives(|| {
        (0..10usize).map(|n| if n == 5 { long.clone() } else { n.to_string().repeat(5_000).into_bytes() })
    });
}
