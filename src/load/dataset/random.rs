//! `random`: prompts of random tokens with random lengths.
//!
//! Lengths as in `bench_serving`: uniform whole numbers in [max(1, len·ratio), len], drawn from one seed. With `/generate`
//! the prompt is sent as token ids, so its length is exact; with the OpenAI endpoints as frequent words, about one token
//! each, and the servers' counts tell what they came to. A prompt is kept as its place in the stream of numbers that it is drawn
//! from, 8 bytes, so that ten million of them fit.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::words::random_words;
use super::{Content, DatasetError, Loaded, Prompt};

/// Token ids drawn from: above the special and byte tokens that vocabularies begin with, below the smallest vocabulary in
/// use (1,024). 744 ids give 4e8 different first three tokens, so prompts share no prefix by chance.
const TOKEN_IDS: std::ops::Range<u32> = 256..1000;

/// Options of `random`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomOptions {
    /// Most prompt tokens (`--random-input-len`).
    pub input_tokens: u64,
    /// Most output tokens (`--random-output-len`).
    pub output_tokens: u64,
    /// Smallest length as a share of the largest, 0 to 1 (`--random-range-ratio`).
    pub range_ratio: f64,
}

impl Default for RandomOptions {
    /// `bench_serving`'s: 1024, 1024, 0.0.
    fn default() -> Self {
        Self { input_tokens: 1024, output_tokens: 1024, range_ratio: 0.0 }
    }
}

/// A prompt that is drawn again when it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    seed: u64,
    /// Where it begins: this many words of 32 bits into the stream of the seed.
    begins: u64,
    /// Tokens, or words.
    count: u64,
    /// Send words instead of token ids.
    pub as_words: bool,
}

impl Drawn {
    fn stream(&self) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_word_pos(u128::from(self.begins));
        rng
    }

    /// Its token ids.
    pub fn token_ids(&self) -> Vec<u32> {
        token_ids(&mut self.stream(), self.count)
    }

    /// Its words, about one token each.
    pub fn words(&self) -> String {
        random_words(&mut self.stream(), self.count)
    }

    /// How many words, where it is made of words.
    pub fn word_count(&self) -> Option<u64> {
        self.as_words.then_some(self.count)
    }
}

fn token_ids(rng: &mut ChaCha8Rng, count: u64) -> Vec<u32> {
    (0..count).map(|_| rng.random_range(TOKEN_IDS)).collect()
}

/// Prompts that are drawn again when they are asked for.
#[derive(Clone, Debug)]
pub struct Draws {
    options: RandomOptions,
    seed: u64,
    as_words: bool,
    /// Where each begins in the stream of the seed, its lengths first.
    begins: Vec<u64>,
}

impl Draws {
    pub(super) fn len(&self) -> usize {
        self.begins.len()
    }

    /// The first of them.
    pub(super) fn first(mut self, most: usize) -> Self {
        self.begins.truncate(most);
        self
    }

    pub(super) fn at(&self, index: usize) -> Prompt {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_word_pos(u128::from(self.begins[index]));
        self.lengths_and_place(&mut rng)
    }

    /// Leaves the stream where the prompt's own numbers begin.
    fn lengths_and_place(&self, rng: &mut ChaCha8Rng) -> Prompt {
        let RandomOptions { input_tokens, output_tokens, range_ratio } = self.options;
        let count = draw(rng, input_tokens, range_ratio);
        let output_tokens = draw(rng, output_tokens, range_ratio);
        let begins = rng.get_word_pos() as u64;
        let content = Content::Drawn(Drawn { seed: self.seed, begins, count, as_words: self.as_words });
        Prompt { id: None, content, planned_tokens: count, output_tokens, group: None, turn: None }
    }
}

/// The same prompts, held.
pub(super) fn make(
    o: &RandomOptions,
    count: usize,
    seed: u64,
    exact_tokens: bool,
) -> Result<Loaded, DatasetError> {
    let (draws, note) = draws(o, count, seed, exact_tokens)?;
    let prompts = (0..count).map(|index| draws.at(index)).collect();
    Ok(Loaded { prompts, notes: vec![note], at_ns: None })
}

/// `count` prompts, and what there is to say about them.
pub(super) fn draws(
    o: &RandomOptions,
    count: usize,
    seed: u64,
    exact_tokens: bool,
) -> Result<(Draws, String), DatasetError> {
    check_ratio("--random-range-ratio", o.range_ratio)?;
    check_length("--random-input-len", o.input_tokens)?;
    check_length("--random-output-len", o.output_tokens)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let begins = Vec::with_capacity(count);
    let mut draws = Draws { options: *o, seed, as_words: !exact_tokens, begins };
    let (mut input, mut output) = (0_u64, 0_u64);
    for _ in 0..count {
        draws.begins.push(rng.get_word_pos() as u64);
        let prompt = draws.lengths_and_place(&mut rng);
        // The next one begins where this one ends.
        if exact_tokens {
            token_ids(&mut rng, prompt.planned_tokens);
        } else {
            random_words(&mut rng, prompt.planned_tokens);
        }
        (input, output) = (input + prompt.planned_tokens, output + prompt.output_tokens);
    }
    let how = if exact_tokens { "exact, sent as input_ids" } else { "about one a word" };
    let note =
        format!("random: {count} prompts, {input} prompt tokens ({how}), {output} output tokens asked for");
    Ok((draws, note))
}

/// A uniform whole number in [max(1, len·ratio), len].
pub(super) fn draw(rng: &mut ChaCha8Rng, len: u64, ratio: f64) -> u64 {
    let least = ((len as f64 * ratio) as u64).clamp(1, len);
    rng.random_range(least..=len)
}

pub(super) fn check_ratio(flag: &str, ratio: f64) -> Result<(), DatasetError> {
    if (0.0..=1.0).contains(&ratio) {
        Ok(())
    } else {
        Err(DatasetError::new(format!("{flag}: expected 0 to 1, got {ratio}")))
    }
}

/// 1 to 10 million tokens: no model has a longer context, and a slip of the hand should not fill the memory.
pub(super) fn check_length(flag: &str, tokens: u64) -> Result<(), DatasetError> {
    if (1..=10_000_000).contains(&tokens) {
        Ok(())
    } else {
        Err(DatasetError::new(format!("{flag}: expected 1 to 10000000 tokens, got {tokens}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lengths_stay_in_range_and_the_seed_decides(seed: u64, len in 1_u64..500, ratio in 0.0_f64..=1.0) {
            let o = RandomOptions { input_tokens: len, output_tokens: len, range_ratio: ratio };
            let made = make(&o, 20, seed, true).unwrap();
            prop_assert_eq!(&made, &make(&o, 20, seed, true).unwrap());
            for p in &made.prompts {
                let least = ((len as f64 * ratio) as u64).max(1);
                prop_assert!((least..=len).contains(&p.planned_tokens) && (least..=len).contains(&p.output_tokens));
                let Content::Drawn(drawn) = &p.content else { panic!("a place is kept") };
                prop_assert_eq!(drawn.token_ids().len() as u64, p.planned_tokens);
            }
        }
    }

    /// Drawn again one by one, prompts are the ones that were drawn one after the other.
    #[test]
    fn a_place_in_the_stream_gives_the_prompt_that_was_there() {
        let o = RandomOptions { input_tokens: 50, output_tokens: 9, range_ratio: 0.0 };
        for exact in [true, false] {
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            for p in make(&o, 30, 5, exact).unwrap().prompts {
                let Content::Drawn(drawn) = &p.content else { panic!("a place is kept") };
                let tokens = draw(&mut rng, 50, 0.0);
                draw(&mut rng, 9, 0.0);
                if exact {
                    assert_eq!(drawn.token_ids(), token_ids(&mut rng, tokens));
                } else {
                    assert_eq!(drawn.words(), random_words(&mut rng, tokens));
                }
            }
        }
    }

    #[test]
    fn words_stand_in_where_ids_cannot_go() {
        let o = RandomOptions { input_tokens: 12, output_tokens: 3, range_ratio: 1.0 };
        assert_eq!(make(&o, 1, 1, false).unwrap().prompts[0].words(), Some(12));
    }

    #[test]
    fn impossible_options_name_the_flag() {
        let bad = RandomOptions { range_ratio: 1.5, ..RandomOptions::default() };
        assert!(make(&bad, 1, 1, true).unwrap_err().to_string().contains("--random-range-ratio"));
        let bad = RandomOptions { output_tokens: 0, ..RandomOptions::default() };
        assert!(make(&bad, 1, 1, true).unwrap_err().to_string().contains("--random-output-len"));
    }
}
