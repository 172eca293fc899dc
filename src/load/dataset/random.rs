//! `random`: prompts of random tokens with random lengths.
//!
//! Lengths as in `bench_serving`: uniform whole numbers in [max(1, len·ratio), len], drawn from one seed. With `/generate`
//! the prompt is sent as token ids, so its length is exact; with the OpenAI endpoints as frequent words, about one token
//! each, and the servers' counts tell what they came to.

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

pub(super) fn make(
    o: &RandomOptions,
    count: usize,
    seed: u64,
    exact_tokens: bool,
) -> Result<Loaded, DatasetError> {
    check_ratio("--random-range-ratio", o.range_ratio)?;
    check_length("--random-input-len", o.input_tokens)?;
    check_length("--random-output-len", o.output_tokens)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut prompts = Vec::with_capacity(count);
    for _ in 0..count {
        let planned_tokens = draw(&mut rng, o.input_tokens, o.range_ratio);
        let output_tokens = draw(&mut rng, o.output_tokens, o.range_ratio);
        let content = if exact_tokens {
            Content::Tokens((0..planned_tokens).map(|_| rng.random_range(TOKEN_IDS)).collect())
        } else {
            Content::Text(random_words(&mut rng, planned_tokens))
        };
        prompts.push(Prompt { id: None, content, planned_tokens, output_tokens, group: None, turn: None });
    }
    let (input, output): (u64, u64) =
        (prompts.iter().map(|p| p.planned_tokens).sum(), prompts.iter().map(|p| p.output_tokens).sum());
    let how = if exact_tokens { "exact, sent as input_ids" } else { "about one a word" };
    let note =
        format!("random: {count} prompts, {input} prompt tokens ({how}), {output} output tokens asked for");
    Ok(Loaded { prompts, notes: vec![note], at_ns: None })
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
                let Content::Tokens(ids) = &p.content else { panic!("tokens were asked for") };
                prop_assert_eq!(ids.len() as u64, p.planned_tokens);
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
