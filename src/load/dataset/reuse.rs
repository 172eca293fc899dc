//! How much of the prompts an infinite cache over all workers would hold: the bound of every policy.
//!
//! Rule: prompts are taken in the order in which they are sent, and each is cached whole once it came. Blocks of traces are
//! compared by their ids, other prompts piece by piece from the beginning, so that they are understated by less than a piece
//! a prompt. Replies are not in it, save those that a later turn begins with; what the warm-up put into caches is. Deliberately
//! not here: what was found in caches (the rows have it), and what was in them before the run, which nobody knows.

use std::collections::HashSet;

use super::{Content, Prompt, Prompts};

/// Tokens of a piece.
const PIECE_TOKENS: usize = 16;
/// Bytes of a piece of text.
const PIECE_BYTES: usize = 32;
/// Pieces remembered at most: 150 MB, and 230 MB while the table grows into it.
const MOST_PIECES: usize = 14_000_000;

/// What an infinite cache could give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Of the prompts, what came before with the same beginning; tokens as planned.
    pub cached_tokens: u64,
    /// Of all prompts; tokens as planned.
    pub prompt_tokens: u64,
}

impl Reuse {
    /// The share of prompt tokens that an infinite cache holds.
    pub fn share(&self) -> Option<f64> {
        (self.prompt_tokens > 0).then(|| self.cached_tokens as f64 / self.prompt_tokens as f64)
    }
}

/// Walks the prompts, of which the first were sent before the run, `warmed` times in turn; `None` where they are too many to
/// remember.
pub fn of(prompts: &Prompts, warmed: usize) -> Option<Reuse> {
    within(prompts, warmed, MOST_PIECES)
}

fn within(prompts: &Prompts, warmed: usize, most_pieces: usize) -> Option<Reuse> {
    let mut seen: HashSet<u64> = HashSet::new();
    for prompt in prompts.iter().take(warmed) {
        known(&mut seen, &prompt);
        if seen.len() > most_pieces {
            return None;
        }
    }
    let mut reuse = Reuse::default();
    for prompt in prompts.iter() {
        reuse.prompt_tokens += prompt.planned_tokens;
        let carried = prompt.after().filter(|after| after.carries_reply);
        if let Some(before) = carried.and_then(|after| prompts.listed().get(after.prompt)) {
            reuse.cached_tokens += before.planned_tokens + before.output_tokens;
            continue;
        }
        reuse.cached_tokens += known(&mut seen, &prompt);
        if seen.len() > most_pieces {
            return None;
        }
    }
    Some(reuse)
}

/// Tokens from the beginning of a prompt that came before. Remembers all of it.
fn known(seen: &mut HashSet<u64>, prompt: &Prompt) -> u64 {
    match &prompt.content {
        Content::Blocks(blocks) => {
            let known = walk(seen, blocks.ids.iter().copied());
            (known as u64 * u64::from(blocks.block_tokens)).min(blocks.tokens)
        }
        Content::Drawn(drawn) if drawn.as_words => known_text(seen, &drawn.words(), prompt.planned_tokens),
        Content::Drawn(drawn) => known_tokens(seen, &drawn.token_ids(), prompt.planned_tokens),
        // Made in the run only.
        Content::Conversation(_) => 0,
        Content::Text(text) => known_text(seen, text, prompt.planned_tokens),
    }
}

fn known_tokens(seen: &mut HashSet<u64>, ids: &[u32], planned_tokens: u64) -> u64 {
    let bytes = |piece: &[u32]| piece.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
    let pieces = ids.chunks(PIECE_TOKENS).map(|piece| milepost_policies::name_hash(&bytes(piece)));
    ((walk(seen, pieces) * PIECE_TOKENS) as u64).min(planned_tokens)
}

fn known_text(seen: &mut HashSet<u64>, text: &str, planned_tokens: u64) -> u64 {
    let pieces = text.as_bytes().chunks(PIECE_BYTES).map(milepost_policies::name_hash);
    let known = (walk(seen, pieces) * PIECE_BYTES).min(text.len());
    (known as f64 / text.len().max(1) as f64 * planned_tokens as f64) as u64
}

/// How many pieces from the beginning came before, in this order. Remembers all.
fn walk(seen: &mut HashSet<u64>, pieces: impl Iterator<Item = u64>) -> usize {
    let mut chain = 0_u64;
    let mut known = 0;
    let mut all_known = true;
    for piece in pieces {
        chain = super::blocks::mixed(chain ^ piece).rotate_left(17);
        all_known = !seen.insert(chain) && all_known;
        known += usize::from(all_known);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(content: Content, planned_tokens: u64) -> Prompt {
        Prompt { id: None, content, planned_tokens, output_tokens: 1, group: None, turn: None }
    }

    #[test]
    fn what_came_before_counts_from_the_beginning_only() {
        let first: Vec<u32> = (0..64).collect();
        let other_begin: Vec<u32> = (1000..1016).chain(16..64).collect();
        let half: Vec<u32> = (0..32).chain(2000..2032).collect();
        let mut seen = HashSet::new();
        let known = [&first, &other_begin, &half, &first].map(|ids| known_tokens(&mut seen, ids, 64));
        assert_eq!(known, [0, 0, 32, 64]);
        assert_eq!(Reuse::default().share(), None);
    }

    #[test]
    fn texts_are_counted_by_their_bytes() {
        let text = |tail: &str| prompt(Content::Text(format!("{}{tail}", "a".repeat(320))), 100);
        let reuse = of(&vec![text("x"), text(&"y".repeat(320))].into(), 0).unwrap();
        assert_eq!(reuse.cached_tokens, 50);
    }
    #[test]
    fn what_the_warm_up_sent_is_cached_when_the_run_begins() {
        let text = |letter: &str| prompt(Content::Text(letter.repeat(64)), 32);
        let prompts = Prompts::from(vec![text("a"), text("b"), text("a")]);
        let cached = |warmed| of(&prompts, warmed).unwrap().cached_tokens;
        assert_eq!([cached(0), cached(1), cached(2), cached(9)], [32, 64, 96, 96]);
    }

    #[test]
    fn what_there_is_no_room_for_is_not_known() {
        let text = |letter: &str| prompt(Content::Text(letter.repeat(64)), 32);
        let prompts = Prompts::from(vec![text("a"), text("b"), text("a")]);
        assert_eq!(within(&prompts, 0, 4).map(|reuse| reuse.cached_tokens), Some(32));
        assert_eq!((within(&prompts, 0, 3), within(&prompts, 2, 3)), (None, None));
    }
}
