//! Chats of several turns: each begins with all that was said before, and comes when its user has read the answer.

use super::{Dice, Draft};
use crate::prompt::Piece;

pub const ABOUT: &str = "conversations of 2 to 8 turns under one of four system prompts of 500 tokens; each turn begins with all \
    that was said before and adds 50 to 450 tokens, answers of 50 to 350, 5 s (exponential) of thought after each; \
    conversations begin as Poisson arrivals";

const SYSTEM_PROMPTS: u32 = 4;
const SYSTEM_TOKENS: u32 = 500;
const TURNS: (u32, u32) = (2, 8);
const SAYS_TOKENS: (u32, u32) = (50, 450);
const ANSWER_TOKENS: (u32, u32) = (50, 350);
const MAX_NEW_TOKENS: u32 = 512;
const THINK_S: f64 = 5.0;

pub(super) fn draw(dice: &mut Dice, requests: usize) -> Vec<Draft> {
    let systems: Vec<u64> = (0..SYSTEM_PROMPTS).map(|_| dice.name()).collect();
    let mean_turns = f64::from(TURNS.0 + TURNS.1) / 2.0;
    let mut drafts: Vec<Draft> = Vec::with_capacity(requests + TURNS.1 as usize);
    let mut at = 0.0;
    while drafts.len() < requests {
        at += dice.exponential(mean_turns);
        let key = dice.name();
        let system = systems[dice.between(0, SYSTEM_PROMPTS - 1) as usize];
        let mut said = vec![Piece::Text { id: system, tokens: SYSTEM_TOKENS }];
        let turns = dice.between(TURNS.0, TURNS.1);
        for turn in 0..turns {
            said.push(Piece::Text { id: dice.name(), tokens: dice.between(SAYS_TOKENS.0, SAYS_TOKENS.1) });
            let output_tokens = dice.between(ANSWER_TOKENS.0, ANSWER_TOKENS.1);
            let think_ns = (dice.exponential(THINK_S) * 1e9) as u64;
            drafts.push(Draft {
                pieces: said.clone(),
                output_tokens,
                max_new_tokens: MAX_NEW_TOKENS,
                key,
                at: (turn == 0).then_some(at),
                think_ns: (turn + 1 < turns).then_some(think_ns),
            });
            said.push(Piece::answer_of(drafts.len() - 1, output_tokens));
        }
    }
    drafts
}
