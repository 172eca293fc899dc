//! How many requests a second an arm can take: the highest rate at which a run is in a steady state.
//!
//! Rule: found by halving the interval between a rate that is steady and one that is not, until they are within [`CLOSE`] of
//! each other; the steady one is the answer. Deliberately not here: what steady is (`figures`).

use crate::arms::Arm;
use crate::figures::figures;
use crate::play::{Fleet, play};
use crate::workload::Workload;

/// First steps, until one rate is steady and another is not.
const STRIDE: f64 = 1.4;
/// The two are as near as that in the end.
pub const CLOSE: f64 = 1.03;
/// Of the search for an interval: from a thousandth of the guess to a thousand times it.
const MOST_STRIDES: u32 = 20;

/// Requests a second.
pub fn capacity(arm: &Arm, workload: &Workload, fleet: &Fleet, guess: f64) -> Result<f64, String> {
    let is_steady = |rate: f64| -> Result<bool, String> {
        let mut router = arm.start(1, fleet.workers)?;
        let played = play(workload, rate, fleet, &mut *router);
        Ok(figures(workload, &played, fleet).is_steady)
    };
    let (mut steady, mut not) = (None, None);
    let mut rate = guess;
    for _ in 0..MOST_STRIDES {
        if is_steady(rate)? {
            steady = Some(rate);
            rate *= STRIDE;
        } else {
            not = Some(rate);
            rate /= STRIDE;
        }
        if steady.is_some() && not.is_some() {
            break;
        }
    }
    let (Some(mut steady), Some(mut not)) = (steady, not) else {
        return Err(format!(
            "{}: no rate between steady and not within a factor of a thousand of {guess:.1}/s",
            arm.name
        ));
    };
    while not / steady > CLOSE {
        let middle = (steady * not).sqrt();
        if is_steady(middle)? {
            steady = middle;
        } else {
            not = middle;
        }
    }
    Ok(steady)
}

/// Where to begin: what the fleet could take if half of what can be cached were, and its batches held 32.
pub fn guess(workload: &Workload, fleet: &Fleet) -> f64 {
    let requests = workload.requests.iter();
    let cost_us: f64 = requests
        .map(|request| {
            let new = f64::from(request.prompt_tokens - request.possible_tokens / 2);
            let context = f64::from(request.prompt_tokens);
            let profile = &fleet.profile;
            let prefill_us = new * profile.prefill_token_us + profile.prefill_pair_ns * new * context / 2e3;
            let token_us = profile.step_floor_us / 32.0 + profile.decode_context_token_ns * context / 1e3;
            prefill_us + token_us * f64::from(request.output_tokens)
        })
        .sum();
    fleet.workers as f64 * 1e6 * workload.requests.len() as f64 / cost_us.max(1.0)
}
