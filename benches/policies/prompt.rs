//! What requests say, without keeping it: pieces of content that are the same tokens, and the same text, wherever they occur.
//!
//! Rule: a token is four bytes of text, so that a shared prefix of one is exactly a shared prefix of the other, and the usual
//! four bytes of English a token hold. Deliberately not here: which pieces a request has (`workload`).

use milepost::sim::tokens::{Answer, Token, VOCABULARY, mix};

/// Seed of all answers: what is asked decides, not who answers.
const ANSWER_SEED: u64 = 1;
/// Bytes of text a token.
pub const BYTES_PER_TOKEN: usize = 4;
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A part of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The first tokens of the text with this name.
    Text {
        /// Its name.
        id: u64,
        /// How many.
        tokens: u32,
    },
    /// What was answered to a request.
    Answer {
        /// See [`answer`].
        id: u64,
        /// How many tokens of it.
        tokens: u32,
    },
}

impl Piece {
    /// Its length.
    pub fn tokens(self) -> u32 {
        match self {
            Self::Text { tokens, .. } | Self::Answer { tokens, .. } => tokens,
        }
    }

    /// A number that other pieces do not have, whatever their length.
    pub fn name(self) -> u64 {
        match self {
            Self::Text { id, .. } => mix(id),
            Self::Answer { id, .. } => mix(!id),
        }
    }

    fn write(self, out: &mut Vec<Token>) {
        match self {
            Self::Text { id, tokens } => {
                let start = mix(id);
                // Scaled, not divided: this is a fifth of a run.
                let token = |i: u32| {
                    let drawn = mix(start.wrapping_add(u64::from(i))) >> 32;
                    ((drawn * u64::from(VOCABULARY)) >> 32) as Token
                };
                out.extend((0..tokens).map(token));
            }
            Self::Answer { id, tokens } => {
                let answer = answer(id);
                out.extend((0..tokens).map(|i| answer.token(i)));
            }
        }
    }
}

/// The words of the answer with this name.
pub fn answer(id: u64) -> Answer {
    Answer::new(ANSWER_SEED, &[id as Token, (id >> 32) as Token], 0)
}

/// The tokens of a prompt.
pub fn tokens(pieces: &[Piece]) -> Vec<Token> {
    let mut out = Vec::with_capacity(pieces.iter().map(|piece| piece.tokens() as usize).sum());
    for piece in pieces {
        piece.write(&mut out);
    }
    out
}

/// The text of a prompt, in place of what `out` held.
pub fn text(tokens: &[Token], out: &mut String) {
    out.clear();
    out.reserve(tokens.len() * BYTES_PER_TOKEN);
    for token in tokens {
        for shift in [12, 6, 0] {
            out.push(LETTERS[(token >> shift) as usize % LETTERS.len()] as char);
        }
        out.push(' ');
    }
}
