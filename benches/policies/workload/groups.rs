//! Groups of requests with a long common prefix: tenants with their own instructions, or documents that many ask about.

use super::{Dice, Draft, Kind};
use crate::prompt::Piece;

pub const ABOUT_BALANCED: &str = "150 groups, each with a prefix of 6,000 tokens of its own and questions of 1,200 \
    (the shape of llm-d's published comparison), answers of 50 to 350, Poisson arrivals, each group as likely";
pub const ABOUT_ZIPF: &str = "the same, group *k* asked for in proportion to 1/*k*: the first gets 18 % of all requests, \
    more than one of eight workers' share";
pub const ABOUT_SHIFT: &str =
    "the same as zipf; half-way 150 new groups take the places of the old ones at once";

/// Groups at a time.
const GROUPS: usize = 150;
const PREFIX_TOKENS: u32 = 6_000;
const QUESTION_TOKENS: u32 = 1_200;
const ANSWER_TOKENS: (u32, u32) = (50, 350);
const MAX_NEW_TOKENS: u32 = 512;

pub(super) fn draw(kind: Kind, dice: &mut Dice, requests: usize) -> Vec<Draft> {
    let weight = |group: usize| if kind == Kind::Balanced { 1.0 } else { 1.0 / (group + 1) as f64 };
    let mut sum = 0.0;
    let sums: Vec<f64> = (0..GROUPS)
        .map(|group| {
            sum += weight(group);
            sum
        })
        .collect();
    let mut names = |_| -> Vec<u64> { (0..GROUPS).map(|_| dice.name()).collect() };
    let halves = [names(0), names(1)];
    let mut at = 0.0;
    (0..requests)
        .map(|place| {
            at += dice.exponential(1.0);
            let half = usize::from(kind == Kind::ColdShift && place >= requests / 2);
            let group = halves[half][dice.place(&sums)];
            Draft {
                pieces: vec![
                    Piece::Text { id: group, tokens: PREFIX_TOKENS },
                    Piece::Text { id: dice.name(), tokens: QUESTION_TOKENS },
                ],
                output_tokens: dice.between(ANSWER_TOKENS.0, ANSWER_TOKENS.1),
                max_new_tokens: MAX_NEW_TOKENS,
                key: group,
                at: Some(at),
                think_ns: None,
            }
        })
        .collect()
}

/// Groups of the check beside the original router, and what their requests have.
const LIVE_GROUPS: u32 = 300;
const LIVE_PREFIX_TOKENS: u32 = 200;
const LIVE_QUESTION_TOKENS: u32 = 100;
/// Tokens of each answer there.
pub const OUTPUT_TOKENS: u32 = 8;

/// Half of the requests in groups, half like no other.
pub(super) fn draw_for_live_check(dice: &mut Dice, requests: usize) -> Vec<Draft> {
    let groups: Vec<u64> = (0..LIVE_GROUPS).map(|_| dice.name()).collect();
    let mut at = 0.0;
    (0..requests)
        .map(|_| {
            at += dice.exponential(1.0);
            let group = groups[dice.between(0, LIVE_GROUPS - 1) as usize];
            let prefix = if dice.share() < 0.5 { group } else { dice.name() };
            Draft {
                pieces: vec![
                    Piece::Text { id: prefix, tokens: LIVE_PREFIX_TOKENS },
                    Piece::Text { id: dice.name(), tokens: LIVE_QUESTION_TOKENS },
                ],
                output_tokens: OUTPUT_TOKENS,
                max_new_tokens: OUTPUT_TOKENS,
                key: prefix,
                at: Some(at),
                think_ns: None,
            }
        })
        .collect()
}
