//! `generated-shared-prefix`: groups of prompts that begin with the same long system text.
//!
//! The shape in which prefix-aware routing pays: `groups` system texts, `prompts_per_group` questions each, joined by a blank
//! line, shuffled. As in `bench_serving`, all groups × prompts are sent. Deliberately not here: several turns.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::random::{check_length, check_ratio, draw};
use super::sharegpt::shuffle;
use super::words::{check_held, random_words};
use super::{Content, DatasetError, Loaded, Prompt, approximate_tokens};

/// How often each group is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Popularity {
    /// Every group the same number of times.
    #[default]
    Uniform,
    /// Group k (from 1) with a weight of 1/k^alpha.
    Zipf(f64),
}

/// Options of `generated-shared-prefix`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SharedPrefixOptions {
    /// Number of system texts.
    pub groups: u32,
    /// Prompts for each.
    pub prompts_per_group: u32,
    /// Words of a system text, about as many tokens.
    pub system_tokens: u64,
    /// Words of a question.
    pub question_tokens: u64,
    /// Output tokens to ask for.
    pub output_tokens: u64,
    /// Smallest length as a share of the largest.
    pub range_ratio: f64,
    /// Do not shuffle.
    pub ordered: bool,
    /// How often each group is asked.
    pub popularity: Popularity,
}

impl Default for SharedPrefixOptions {
    /// `bench_serving`'s: 64 groups of 16, 2048 and 128 tokens in, 256 out, ratio 1.
    fn default() -> Self {
        Self {
            groups: 64,
            prompts_per_group: 16,
            system_tokens: 2048,
            question_tokens: 128,
            output_tokens: 256,
            range_ratio: 1.0,
            ordered: false,
            popularity: Popularity::Uniform,
        }
    }
}

pub(super) fn make(o: &SharedPrefixOptions, seed: u64) -> Result<Loaded, DatasetError> {
    check(o)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let systems: Vec<String> = (0..o.groups)
        .map(|_| {
            let words = draw(&mut rng, o.system_tokens, o.range_ratio);
            random_words(&mut rng, words)
        })
        .collect();
    let mut prompts = Vec::with_capacity(o.groups as usize * o.prompts_per_group as usize);
    for slot in 0..u64::from(o.groups) * u64::from(o.prompts_per_group) {
        let group = match o.popularity {
            Popularity::Uniform => (slot / u64::from(o.prompts_per_group)) as u32,
            Popularity::Zipf(alpha) => zipf(&mut rng, o.groups, alpha),
        };
        let words = draw(&mut rng, o.question_tokens, o.range_ratio);
        let text = format!("{}\n\n{}", systems[group as usize], random_words(&mut rng, words));
        prompts.push(Prompt {
            id: None,
            planned_tokens: approximate_tokens(&text),
            content: Content::Text(text),
            output_tokens: draw(&mut rng, o.output_tokens, o.range_ratio),
            group: Some(group),
            turn: None,
        });
    }
    if !o.ordered {
        shuffle(&mut prompts, &mut rng);
    }
    let note = format!(
        "generated-shared-prefix: {} groups, {} prompts (token lengths are about one a word)",
        o.groups,
        prompts.len()
    );
    Ok(Loaded { prompts, notes: vec![note], at_ns: None })
}

fn check(o: &SharedPrefixOptions) -> Result<(), DatasetError> {
    check_length("--gsp-system-prompt-len", o.system_tokens)?;
    check_length("--gsp-question-len", o.question_tokens)?;
    check_length("--gsp-output-len", o.output_tokens)?;
    check_ratio("--gsp-range-ratio", o.range_ratio)?;
    let all = u64::from(o.groups) * u64::from(o.prompts_per_group);
    if !(1..=10_000_000).contains(&all) {
        return Err(DatasetError::new(format!(
            "--gsp-num-groups times --gsp-prompts-per-group: expected 1 to 10000000, got {all}"
        )));
    }
    // A group's text is held once for itself and in each of its prompts.
    let words = all * (o.system_tokens + o.question_tokens) + u64::from(o.groups) * o.system_tokens;
    check_held(
        words,
        "--gsp-num-groups, --gsp-prompts-per-group, --gsp-system-prompt-len or --gsp-question-len",
    )?;
    match o.popularity {
        Popularity::Zipf(alpha) if !(alpha.is_finite() && alpha > 0.0) => {
            Err(DatasetError::new(format!("--gsp-zipf-alpha: expected a number above 0, got {alpha}")))
        }
        _ => Ok(()),
    }
}

/// A group by rank, most wanted first.
fn zipf(rng: &mut ChaCha8Rng, groups: u32, alpha: f64) -> u32 {
    let weight = |rank: u32| 1.0 / f64::from(rank + 1).powf(alpha);
    let total: f64 = (0..groups).map(weight).sum();
    let mut left = rng.random::<f64>() * total;
    for rank in 0..groups {
        left -= weight(rank);
        if left < 0.0 {
            return rank;
        }
    }
    groups - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn small() -> SharedPrefixOptions {
        SharedPrefixOptions {
            groups: 4,
            prompts_per_group: 5,
            system_tokens: 30,
            question_tokens: 6,
            output_tokens: 8,
            ..Default::default()
        }
    }

    #[test]
    fn a_group_shares_its_beginning_and_no_other() {
        let made = make(&small(), 9).unwrap();
        let mut systems: BTreeMap<u32, (String, u32)> = BTreeMap::new();
        for p in &made.prompts {
            let Content::Text(text) = &p.content else { panic!("text") };
            let (system, question) = text.split_once("\n\n").unwrap();
            assert_eq!((system.split(' ').count(), question.split(' ').count()), (30, 6));
            let entry = systems.entry(p.group.unwrap()).or_insert_with(|| (system.to_owned(), 0));
            assert_eq!(entry.0, system);
            entry.1 += 1;
        }
        assert!(systems.values().all(|(_, n)| *n == 5));
        let distinct: std::collections::BTreeSet<_> = systems.values().map(|(s, _)| s).collect();
        assert_eq!(distinct.len(), 4);
        assert_eq!(made, make(&small(), 9).unwrap());
        assert_ne!(made.prompts, make(&small(), 10).unwrap().prompts);
    }

    #[test]
    fn zipf_prefers_the_first_group() {
        let o = SharedPrefixOptions { prompts_per_group: 100, popularity: Popularity::Zipf(1.5), ..small() };
        let made = make(&o, 1).unwrap();
        let of = |g| made.prompts.iter().filter(|p| p.group == Some(g)).count();
        assert!(of(0) > 2 * of(1) && of(1) > of(3), "{} {} {}", of(0), of(1), of(3));
    }

    #[test]
    fn impossible_options_name_the_flag() {
        let bad = SharedPrefixOptions { groups: 0, ..small() };
        assert!(make(&bad, 1).unwrap_err().to_string().contains("--gsp-num-groups"));
        let bad = SharedPrefixOptions { prompts_per_group: 1_000_000, system_tokens: 1_000, ..small() };
        let told = make(&bad, 1).unwrap_err().to_string();
        assert!(told.contains("some 24 GB") && told.contains("smaller --gsp-num-groups"), "{told}");
        let bad = SharedPrefixOptions { popularity: Popularity::Zipf(f64::NAN), ..small() };
        assert!(make(&bad, 1).unwrap_err().to_string().contains("--gsp-zipf-alpha"));
    }
}
