//! The pseudo-tokeniser and the words of the answers.
//!
//! Rule: everything here is a pure function, so the same text gives the same tokens on every worker and a shared text prefix
//! gives a shared token prefix. A token is a run of white space (it may be empty) and at most six bytes after it, which makes
//! about 1.3 tokens of an English word, as real vocabularies do. Its id is a hash folded into a vocabulary of Llama-3's size;
//! two texts may thus share an id, as rarely as 1 in 128,256. Deliberately not here: a vocabulary, and text from ids.

use std::sync::LazyLock;

/// Token id.
pub type Token = u32;

/// Ids lie below this (Llama-3's vocabulary).
pub const VOCABULARY: u32 = 128_256;

/// The id that ends an answer (Llama-3's `<|eot_id|>`).
pub const END_OF_TURN: Token = 128_009;

const LONGEST_WORD_BYTES: usize = 6;

/// Appends the tokens of `text`.
pub fn tokenize(text: &str, out: &mut Vec<Token>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let word = at + bytes[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
        let end = word
            + bytes[word..].iter().take(LONGEST_WORD_BYTES).take_while(|b| !b.is_ascii_whitespace()).count();
        out.push(id(&bytes[at..end]));
        at = end;
    }
}

/// Appends the tokens of one chat message between its markers. Each part is tokenised by itself, so that an answer that comes
/// back in the next turn has the tokens that it was generated with.
pub fn tokenize_message(role: &str, content: &str, out: &mut Vec<Token>) {
    out.push(id(b"<|start_header_id|>"));
    tokenize(role, out);
    out.push(id(b"<|end_header_id|>"));
    tokenize(content, out);
    out.push(END_OF_TURN);
}

/// Appends the marker after which the assistant answers.
pub fn open_answer(out: &mut Vec<Token>) {
    out.push(id(b"<|start_header_id|>"));
    tokenize("assistant", out);
    out.push(id(b"<|end_header_id|>"));
}

fn id(piece: &[u8]) -> Token {
    let hash = piece
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    (mix(hash) % u64::from(VOCABULARY)) as Token
}

/// A well-mixed 64-bit number from another (splitmix64's finaliser).
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The answer to one prompt: which words, and how many of them before it ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    seed: u64,
}

impl Answer {
    /// The answer that a worker with `seed` gives to `prompt` as sample number `sample`.
    pub fn new(seed: u64, prompt: &[Token], sample: usize) -> Self {
        let prompt_hash =
            prompt.iter().fold(mix(seed), |h, t| (h ^ u64::from(*t)).wrapping_mul(0x0100_0000_01b3));
        Self { seed: mix(prompt_hash ^ mix(sample as u64)) }
    }

    /// Word number `index`, with its leading space; exactly one token.
    pub fn word(self, index: u32) -> &'static str {
        WORDS[self.choice(index)]
    }

    /// Token number `index`.
    pub fn token(self, index: u32) -> Token {
        WORD_TOKENS[self.choice(index)]
    }

    fn choice(self, index: u32) -> usize {
        (mix(self.seed.wrapping_add(u64::from(index))) % WORDS.len() as u64) as usize
    }

    /// Tokens after which the answer ends by itself where `ignore_eos` is not set: 64 to 447, uniform. Real lengths depend on
    /// the model and the prompt; a load that needs a certain length sets `ignore_eos`.
    pub fn natural_tokens(self) -> u32 {
        64 + (mix(self.seed ^ 0x656f_735f) % 384) as u32
    }
}

const WORDS: [&str; 64] = [
    " a", " able", " about", " after", " all", " also", " and", " any", " as", " at", " back", " be", " by",
    " can", " come", " could", " day", " do", " even", " find", " first", " for", " from", " get", " give",
    " good", " have", " here", " how", " if", " in", " into", " it", " just", " know", " like", " look",
    " make", " many", " more", " new", " no", " not", " now", " of", " on", " one", " only", " other",
    " our", " out", " over", " people", " say", " see", " so", " some", " take", " than", " that", " the",
    " then", " time", " way",
];

/// Their tokens, hashed once: an engine asks for each token of each answer.
static WORD_TOKENS: LazyLock<[Token; 64]> = LazyLock::new(|| WORDS.map(|word| id(word.as_bytes())));

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        let mut out = Vec::new();
        tokenize(text, &mut out);
        out
    }

    #[test]
    fn a_shared_text_prefix_is_a_shared_token_prefix() {
        let long = tokens("Hello world, this is a long sentence");
        let short = tokens("Hello world, this is");
        assert_eq!(short.len(), 4, "Hello| world,| this| is");
        assert_eq!(long[..short.len()], short[..]);
    }

    #[test]
    fn every_byte_is_in_some_token_and_none_is_empty() {
        assert_eq!(tokens(""), Vec::<Token>::new());
        assert_eq!(tokens("   ").len(), 1);
        assert_eq!(tokens("abcdefghijklm").len(), 3);
        assert_eq!(tokens("你好世界").len(), 2, "12 bytes");
        assert!(tokens("a b\nc\td").iter().all(|t| *t < VOCABULARY));
    }

    #[test]
    fn an_answer_tokenises_back_to_its_own_tokens() {
        let answer = Answer::new(7, &[1, 2, 3], 0);
        let text: String = (0..50).map(|i| answer.word(i)).collect();
        let generated: Vec<Token> = (0..50).map(|i| answer.token(i)).collect();
        assert_eq!(tokens(&text), generated);
        assert_ne!(answer, Answer::new(7, &[1, 2, 3], 1), "another sample, another answer");
        assert!((64..448).contains(&answer.natural_tokens()));
    }
}
