//! A prompt as a trace tells it: ids of blocks of tokens, and how many tokens there are.
//!
//! Rule: the tokens of a block follow from its id and nothing else, so that prompts with the same first k ids have the same
//! first k blocks, token for token, in every run. Different ids differ within their first tokens: an id below the number of
//! tokens in use differs in the very first, any other within [`DIGITS`]. Deliberately not here: which ids a prompt has.

use super::words::word;

/// First token id in use, above the special and byte tokens that vocabularies begin with.
const FIRST_TOKEN: u32 = 256;
/// First tokens of a block that spell its id: 10 digits to a base of at least 128 hold 64 bits.
const DIGITS: u64 = 10;
/// Words in use: 128.
const WORD_BASE: u64 = 128;

/// A prompt made of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Ids of its blocks, in order. What is beyond them is the prompt's own.
    pub ids: Box<[u64]>,
    /// Tokens of a block; above 0.
    pub block_tokens: u32,
    /// Tokens of the prompt; the last block may be shorter.
    pub tokens: u64,
    /// What tells the part that is shared with no other prompt from all others.
    pub own: u64,
    /// One above the largest token id; at least [`Blocks::LEAST_VOCABULARY`].
    pub vocabulary: u32,
    /// Send words instead of token ids.
    pub as_words: bool,
}

impl Blocks {
    /// The smallest vocabulary that blocks can be told apart in.
    pub const LEAST_VOCABULARY: u32 = FIRST_TOKEN + 128;

    /// Its token ids.
    pub fn token_ids(&self) -> Vec<u32> {
        let base = u64::from(self.vocabulary - FIRST_TOKEN);
        self.symbols(base).map(|symbol| FIRST_TOKEN + symbol as u32).collect()
    }

    /// As many words, about one token each.
    pub fn words(&self) -> String {
        let mut text = String::with_capacity(self.tokens as usize * 7);
        for symbol in self.symbols(WORD_BASE) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word(symbol as usize));
        }
        text
    }

    /// One number below `base` for each token.
    fn symbols(&self, base: u64) -> impl Iterator<Item = u64> {
        let block_tokens = u64::from(self.block_tokens);
        let in_blocks = (self.ids.len() as u64 * block_tokens).min(self.tokens);
        (0..self.tokens).map(move |position| {
            if position < in_blocks {
                symbol(self.ids[(position / block_tokens) as usize], position % block_tokens, base)
            } else {
                symbol(self.own, position - in_blocks, base)
            }
        })
    }
}

/// The token at one place of a block: first the digits of its id, then what looks like chance.
fn symbol(id: u64, place: u64, base: u64) -> u64 {
    if place < DIGITS {
        let divisor = u32::try_from(place).ok().and_then(|place| base.checked_pow(place));
        divisor.map_or(0, |divisor| id / divisor) % base
    } else {
        mixed(id ^ mixed(place)) % base
    }
}

/// A permutation of the 64-bit numbers that looks like chance (the finaliser of `splitmix64`).
pub(super) fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blocks(ids: &[u64], tokens: u64, vocabulary: u32) -> Blocks {
        Blocks { ids: ids.into(), block_tokens: 512, tokens, own: mixed(9), vocabulary, as_words: false }
    }

    fn shared<T: PartialEq>(a: &[T], b: &[T]) -> usize {
        a.iter().zip(b).take_while(|(a, b)| a == b).count()
    }

    #[test]
    fn lengths_are_exact_with_and_without_ids() {
        for (ids, tokens) in [(&[1, 2, 3][..], 1100), (&[1, 2], 1024), (&[], 7), (&[5], 512 + 3)] {
            let made = blocks(ids, tokens, 1000);
            assert_eq!(made.token_ids().len() as u64, tokens);
            assert_eq!(made.words().split(' ').count() as u64, tokens);
            assert!(made.token_ids().iter().all(|id| (256..1000).contains(id)));
        }
    }

    #[test]
    fn words_share_what_ids_share() {
        let (a, b) = (blocks(&[1, 2, 3], 1536, 1000).words(), blocks(&[1, 2, 4], 1400, 1000).words());
        let (a, b): (Vec<&str>, Vec<&str>) = (a.split(' ').collect(), b.split(' ').collect());
        assert_eq!(shared(&a, &b), 1024);
    }

    proptest! {
        #[test]
        fn k_common_ids_are_exactly_k_blocks(
            common in proptest::collection::vec(0_u64..744, 0..4), a in 0_u64..744, b in 0_u64..744,
        ) {
            prop_assume!(a != b);
            let tokens = (common.len() as u64 + 1) * 512;
            let with = |last| blocks(&[&common[..], &[last]].concat(), tokens, 1000).token_ids();
            prop_assert_eq!(shared(&with(a), &with(b)), common.len() * 512);
        }

        #[test]
        fn any_two_ids_differ_within_their_digits(a: u64, b: u64) {
            prop_assume!(a != b);
            let one = |id| blocks(&[id], 16, 1000);
            prop_assert!(shared(&one(a).token_ids(), &one(b).token_ids()) < DIGITS as usize);
            prop_assert!(one(a).words() != one(b).words());
        }
    }
}
