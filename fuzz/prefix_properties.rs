//! What must hold for any sequence of inserts, look-ups, removals and corrections in the prefix index: it knows what a plain list
//! of prompts knows, short of one block; and where a prompt was corrected, no more than the list and no more than it was told.
//!
//! Rule: four bytes are one step (what, which worker, which prompt, how long), so that a corpus file is a whole case.
//! Deliberately not here: eviction, which the index's own tests drive.

use std::collections::BTreeSet;

use milepost_policies::prefix::{LARGE_BLOCK_BYTES, MIN_INDEX_BYTES, SMALL_BLOCK_BYTES, SMALL_REGION_BYTES};
use milepost_policies::{PrefixIndex, PromptHashes, WorkerId};

/// Most steps of one case.
const MAX_STEPS: usize = 64;
/// Workers, on both sides of the ends of 64-bit words.
const WORKERS: [u32; 6] = [0, 1, 63, 64, 127, 200];
/// Slots that are asked for.
const SLOTS: usize = 201;

/// Steps; a look-up follows each.
pub fn prefix_index(data: &[u8]) {
    let mut index = PrefixIndex::new(MIN_INDEX_BYTES);
    let mut sent: Vec<(u32, Vec<u8>)> = Vec::new();
    // The blocks of what was sent, short of those that were forgotten; and of whom something was.
    let mut blocks: BTreeSet<(u32, u64)> = BTreeSet::new();
    let mut corrected: BTreeSet<u32> = BTreeSet::new();
    let mut matched = vec![0; SLOTS];
    for step in data.as_chunks::<4>().0.iter().take(MAX_STEPS) {
        let [what, worker, prompt, length] = *step;
        let worker = WORKERS[usize::from(worker) % WORKERS.len()];
        let text = text(prompt, length);
        let hashes = PromptHashes::of(&text);
        let mut most = u64::MAX;
        match what % 4 {
            0 | 1 => {
                assert!(index.insert(&hashes, WorkerId(worker)));
                blocks.extend(hashes.as_slice().iter().map(|&hash| (worker, hash)));
                sent.push((worker, text.clone()));
            }
            2 => {
                index.remove_worker(WorkerId(worker));
                blocks.retain(|(holder, _)| *holder != worker);
                sent.retain(|(holder, _)| *holder != worker);
                corrected.remove(&worker);
            }
            _ if what >= 128 => {
                most = u64::from(what - 128) * 80;
                index.forget_beyond(&hashes, WorkerId(worker), most);
                let gone = (0..).zip(hashes.as_slice()).filter(|(at, _)| hashes.depth_bytes(*at) > most);
                gone.for_each(|(_, &hash)| _ = blocks.remove(&(worker, hash)));
                corrected.insert(worker);
            }
            _ => {}
        }
        index.match_into(&hashes, &mut matched);
        assert!(matched[worker as usize] <= most);
        for (slot, &by_block) in (0..).zip(&matched) {
            let shared = |prompt: &Vec<u8>| prompt.iter().zip(&text).take_while(|(a, b)| a == b).count();
            let by_list = sent.iter().filter(|(w, _)| *w == slot).map(|(_, prompt)| shared(prompt)).max();
            let by_list = by_list.unwrap_or(0) as u64;
            let block =
                if by_list < SMALL_REGION_BYTES as u64 { SMALL_BLOCK_BYTES } else { LARGE_BLOCK_BYTES };
            assert!(by_block <= by_list, "slot {slot}: {by_block} of {by_list}");
            let known = hashes.as_slice().iter().take_while(|&&hash| blocks.contains(&(slot, hash))).count();
            let known = known.checked_sub(1).map_or(0, |last| hashes.depth_bytes(last));
            assert!(by_block <= known, "slot {slot}: {by_block} of {known}");
            let is_exact = corrected.contains(&slot) || by_list - by_block < block as u64;
            assert!(is_exact, "slot {slot}: {by_block} of {by_list}");
        }
        assert!(index.memory_bytes() <= index.max_bytes());
    }
}

/// One of 256 prompts that share heads of eight lengths, up to ten thousand bytes of it.
fn text(prompt: u8, length: u8) -> Vec<u8> {
    let head = usize::from(prompt >> 5) * 700;
    let byte = |at: usize| {
        if at < head { b'a' + (at % 7) as u8 } else { b'A' + (prompt & 31) + u8::from(at > head + 500) }
    };
    (0..usize::from(length) * 40 + usize::from(length)).map(byte).collect()
}
