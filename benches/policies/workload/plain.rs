//! No sharing at all: what a policy that looks for shared prefixes must not lose by.

use super::{Dice, Draft};
use crate::prompt::Piece;

pub const ABOUT: &str = "no two prompts alike; lengths log-normal, prompts with median 1,020 and answers with median 129 tokens \
    as in Azure's 2023 conversation trace, Poisson arrivals";

const PROMPT_MEDIAN_TOKENS: f64 = 1_020.0;
const PROMPT_SIGMA: f64 = 0.5;
const PROMPT_TOKENS: (f64, f64) = (16.0, 8_000.0);
const ANSWER_MEDIAN_TOKENS: f64 = 129.0;
const ANSWER_SIGMA: f64 = 0.9;
const ANSWER_TOKENS: (f64, f64) = (4.0, 1_000.0);
const MAX_NEW_TOKENS: u32 = 1_024;

pub(super) fn draw(dice: &mut Dice, requests: usize) -> Vec<Draft> {
    let mut at = 0.0;
    (0..requests)
        .map(|_| {
            at += dice.exponential(1.0);
            let prompt = dice.log_normal(PROMPT_MEDIAN_TOKENS, PROMPT_SIGMA);
            let answer = dice.log_normal(ANSWER_MEDIAN_TOKENS, ANSWER_SIGMA);
            let id = dice.name();
            Draft {
                pieces: vec![Piece::Text {
                    id,
                    tokens: prompt.clamp(PROMPT_TOKENS.0, PROMPT_TOKENS.1) as u32,
                }],
                output_tokens: answer.clamp(ANSWER_TOKENS.0, ANSWER_TOKENS.1) as u32,
                max_new_tokens: MAX_NEW_TOKENS,
                key: id,
                at: Some(at),
                think_ns: None,
            }
        })
        .collect()
}
