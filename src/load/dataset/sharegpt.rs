//! `sharegpt`: the first two turns of shared conversations, shuffled by the seed.
//!
//! As in `bench_serving`: at least two turns; prompt and answer of at least 2 tokens; the answer's length is what is asked
//! for. Its lengths are here an estimate, as there is no tokenizer (`words`), so the choice of rows differs a little.

use std::fmt;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::{Content, DatasetError, FileOptions, Loaded, Prompt, approximate_tokens, file};

const WHERE_TO_GET_IT: &str = "dataset sharegpt: --dataset-path is missing. Download ShareGPT_V3_unfiltered_cleaned_split.json (0.7 GB) from \
https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered and give its path with --dataset-path, \
or use --dataset-name random, which needs no file";

/// Fewest tokens of a prompt or an answer, as in `bench_serving`.
const MIN_TOKENS: u64 = 2;

#[derive(Deserialize)]
struct Row {
    #[serde(default, alias = "conversation", deserialize_with = "first_two")]
    conversations: Vec<Turn>,
}

#[derive(Deserialize)]
struct Turn {
    #[serde(default, alias = "content")]
    value: String,
}

pub(super) fn load(options: &FileOptions, count: usize, seed: u64) -> Result<Loaded, DatasetError> {
    let path = options.path.as_ref().ok_or_else(|| DatasetError::new(WHERE_TO_GET_IT))?;
    let text = file::read(path)?;
    let rows: Vec<Row> = serde_json::from_str(&text).map_err(|e| {
        DatasetError::new(format!(
            "--dataset-path {} line {}: {e}; expected a JSON array of {{\"conversations\":[{{\"from\",\"value\"}},...]}}",
            path.display(),
            e.line()
        ))
    })?;
    drop(text);
    let all = rows.len();
    let mut rows: Vec<Row> = rows.into_iter().filter(|r| r.conversations.len() >= 2).collect();
    let single = all - rows.len();
    shuffle(&mut rows, &mut ChaCha8Rng::seed_from_u64(seed));
    let mut loaded = Loaded::default();
    let mut unfit = 0_u64;
    for row in rows {
        if loaded.prompts.len() == count {
            break;
        }
        match prompt_of(row, options) {
            Some(prompt) => loaded.prompts.push(prompt),
            None => unfit += 1,
        }
    }
    loaded.notes.push(format!(
        "sharegpt: {} prompts; left out: {single} conversations with fewer than two turns, {unfit} too short or too long (token lengths are estimates)",
        loaded.prompts.len()
    ));
    Ok(loaded)
}

fn prompt_of(row: Row, options: &FileOptions) -> Option<Prompt> {
    let mut turns = row.conversations.into_iter().map(|t| t.value);
    let (text, answer) = (turns.next()?, turns.next()?);
    let planned_tokens = approximate_tokens(&text);
    let output_tokens = options.output_tokens.unwrap_or_else(|| approximate_tokens(&answer));
    let fits = options.context_tokens.is_none_or(|most| planned_tokens + output_tokens <= most);
    let long_enough = planned_tokens >= MIN_TOKENS && output_tokens >= MIN_TOKENS;
    (fits && long_enough).then_some(Prompt {
        id: None,
        content: Content::Text(text),
        planned_tokens,
        output_tokens,
        group: None,
        turn: None,
    })
}

/// Fisher-Yates.
pub(super) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.random_range(0..=i));
    }
}

/// Keeps two turns, so that a file of 0.7 GB does not become as much memory again.
fn first_two<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Turn>, D::Error> {
    struct Two;
    impl<'de> Visitor<'de> for Two {
        type Value = Vec<Turn>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of turns")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut turns = Vec::with_capacity(2);
            while turns.len() < 2 {
                match seq.next_element()? {
                    Some(turn) => turns.push(turn),
                    None => return Ok(turns),
                }
            }
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(turns)
        }
    }
    deserializer.deserialize_seq(Two)
}
