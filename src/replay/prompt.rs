//! Prompts as tokens: made of their block hashes, so that what was shared is shared again.
//!
//! Rule: a block's tokens come of its hash alone, and how many there are of its place alone; two prompts with the same chain up to
//! a block have the same tokens up to its end. Text that was not hashed is nobody else's. Deliberately not here: what the
//! prompts said, which nobody recorded.

use std::collections::{HashMap, VecDeque};

use milepost_policies::PromptHashes;

use crate::sim::tokens::{Token, VOCABULARY, mix};

/// Prompts of each worker among which a shared prefix is looked for.
const REMEMBERED: usize = 1_024;

/// How many tokens so much text makes; at least one.
pub fn token_count(bytes: u64, tokens_per_byte: f64) -> u64 {
    ((bytes as f64 * tokens_per_byte) as u64).max(1)
}

/// `tokens` tokens for a prompt with these hashes; `seq` makes what is not known unlike all others.
pub fn tokens(prompt: Option<&PromptHashes>, seq: u64, tokens: u64, tokens_per_byte: f64) -> Vec<Token> {
    let wanted = usize::try_from(tokens).unwrap_or(usize::MAX);
    let mut out = Vec::with_capacity(wanted);
    for (index, hash) in prompt.iter().flat_map(|prompt| prompt.as_slice().iter().enumerate()) {
        let end_bytes = prompt.map_or(0, |prompt| prompt.depth_bytes(index));
        let end = ((end_bytes as f64 * tokens_per_byte) as usize).min(wanted);
        let begin = out.len();
        out.extend((begin..end).map(|at| token(*hash, at)));
    }
    let own = mix(!seq);
    out.extend((out.len()..wanted).map(|at| token(own, at)));
    out
}

fn token(block: u64, at: usize) -> Token {
    (mix(block.wrapping_add(at as u64)) % u64::from(VOCABULARY)) as Token
}

/// Prompts guessed from how much of them was said to match.
#[derive(Debug, Default)]
pub struct Guess {
    /// What each worker was sent, the latest last.
    sent: HashMap<usize, VecDeque<PromptHashes>>,
}

impl Guess {
    /// A prompt of `prompt_bytes` that begins with the first `shared_bytes` of the latest one at `worker` that is long enough.
    pub fn prompt(
        &mut self,
        worker: usize,
        seq: u64,
        prompt_bytes: u64,
        shared_bytes: u64,
    ) -> Option<PromptHashes> {
        if prompt_bytes == 0 {
            return None;
        }
        let sent = self.sent.entry(worker).or_default();
        let shared_bytes = shared_bytes.min(prompt_bytes);
        let like = sent.iter().rev().find(|other| shared_bytes > 0 && other.len_bytes() >= shared_bytes);
        let shared = like.map_or(&[][..], |other| {
            let whole = (0..other.as_slice().len()).take_while(|i| other.depth_bytes(*i) <= shared_bytes);
            &other.as_slice()[..whole.count()]
        });
        let blocks = PromptHashes::block_count(prompt_bytes);
        let own = |place: usize| mix(seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place as u64).max(1);
        let chain = shared.iter().copied().take(blocks);
        let chain: Vec<u64> = chain.chain((shared.len().min(blocks)..blocks).map(own)).collect();
        let prompt = PromptHashes::from_chain(chain, prompt_bytes)?;
        if sent.len() >= REMEMBERED {
            sent.pop_front();
        }
        sent.push_back(prompt.clone());
        Some(prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(a: &[Token], b: &[Token]) -> usize {
        a.iter().zip(b).take_while(|(x, y)| x == y).count()
    }

    #[test]
    fn what_two_texts_share_their_tokens_share_to_the_block() {
        let text =
            |end: &str| format!("{}{end}", "a common beginning of some length ".repeat(200)).into_bytes();
        let (one, two) = (text("one"), text("another one, longer"));
        let of = |text: &[u8], seq, rate| {
            let prompt = PromptHashes::of(text);
            tokens(Some(&prompt), seq, token_count(prompt.len_bytes(), rate), rate)
        };
        for rate in [0.25, 0.31, 1.4] {
            let (a, b) = (of(&one, 1, rate), of(&two, 2, rate));
            assert_eq!(a.len(), (one.len() as f64 * rate) as usize);
            let expected = (6800 / 256 * 256) as f64 * rate;
            assert!(
                (shared(&a, &b) as f64 - expected).abs() <= 256.0 * rate + 1.0,
                "{} {expected}",
                shared(&a, &b)
            );
            assert_eq!(of(&one, 3, rate), a, "the same text is the same to its end");
        }
    }

    #[test]
    fn what_was_not_hashed_is_nobody_elses() {
        let prompt = PromptHashes::of(&[b'x'; 128]);
        let (a, b) = (tokens(Some(&prompt), 1, 100, 0.25), tokens(Some(&prompt), 2, 100, 0.25));
        assert_eq!((a.len(), shared(&a, &b)), (100, 32));
        assert_eq!(shared(&tokens(None, 1, 10, 0.25), &tokens(None, 2, 10, 0.25)), 0);
    }

    #[test]
    fn a_guess_shares_what_was_said_to_match_with_the_latest_at_that_worker() {
        let mut guess = Guess::default();
        let mut prompt = |worker, seq, bytes, shared| guess.prompt(worker, seq, bytes, shared).unwrap();
        let (first, second) = (prompt(0, 1, 1000, 0), prompt(1, 2, 1000, 640));
        assert_ne!(first.as_slice()[0], second.as_slice()[0], "nothing is there to share with");
        let third = prompt(0, 3, 2000, 640);
        assert_eq!(third.as_slice()[..10], first.as_slice()[..10]);
        assert_ne!(third.as_slice()[10], first.as_slice()[10]);
        assert_eq!(guess.prompt(0, 4, 0, 0), None);
    }
}
