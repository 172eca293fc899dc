//! The last step of the fit: what is left between the recorded answers and the same choices on the simulated workers.
//!
//! Rule: two numbers of each worker are moved, and only these: the length of its decode steps by the ratio of the median times from
//! first to last token, and the time before its queue by the difference of the median times to the first token. What waits in
//! the simulated queue then waits once. Deliberately not here: anything fitted to one request.

use super::line::median;
use super::{FEWEST, Fitted, LONGEST_STEP_US, SHORTEST_STEP_US};
use crate::replay::arm::{Arm, Outcome, Played, Unseen};
use crate::replay::reading::Reading;
use crate::replay::rows::Row;

/// Times that the recorded choices are played.
const ROUNDS: usize = 3;
/// Requests of each.
const REQUESTS: usize = 10_000;
/// Most that one round makes a step longer or shorter.
const MOST_RATIO: f64 = 2.0;

/// Moves the workers towards what was recorded.
pub(super) fn settle(reading: &Reading, fitted: &mut Fitted) {
    for _ in 0..ROUNDS {
        let played = Arm::recorded(reading, fitted).first(REQUESTS).play(&Unseen);
        for worker in 0..fitted.workers.len() {
            move_one(reading, &played, fitted, worker);
        }
    }
}

fn move_one(reading: &Reading, played: &Played, fitted: &mut Fitted, worker: usize) {
    let pairs = || {
        let of = |row: &Row| row.recorded.ok && row.recorded.worker == worker;
        reading.rows.iter().zip(&played.0).filter(move |(row, _)| of(row))
    };
    let answered = pairs().count();
    if answered < FEWEST {
        return;
    }
    let profile = &mut fitted.workers[worker].profile;
    // Medians of all and not of each pair: whose arrival meets which step is chance, here and there.
    let spans = |of: fn(&Row, &Outcome) -> Option<[f64; 2]>| {
        let [recorded, simulated] =
            [0, 1].map(|i| median(pairs().filter_map(|(row, o)| Some(of(row, o)?[i]))));
        recorded.zip(simulated)
    };
    let decoding = spans(|row, outcome| {
        let recorded = row.recorded.e2e_us - row.recorded.ttft_us?;
        (row.output_tokens > 1 && !row.recorded.is_sum)
            .then_some([recorded, outcome.e2e_us - outcome.ttft_us?])
    });
    if let Some((recorded, simulated)) = decoding.filter(|(_, simulated)| *simulated > 0.0) {
        let ratio = (recorded / simulated).clamp(1.0 / MOST_RATIO, MOST_RATIO);
        profile.step_floor_us = (profile.step_floor_us * ratio).clamp(SHORTEST_STEP_US, LONGEST_STEP_US);
        profile.decode_context_token_ns *= ratio;
    }
    let first = spans(|row, outcome| match row.recorded.ttft_us {
        Some(recorded) => Some([recorded, outcome.ttft_us?]),
        // One after the other the tokens of several answers would take longer than they did.
        None if row.recorded.is_sum => None,
        // Of a plain answer the whole time is all there is.
        None => Some([row.recorded.e2e_us, outcome.e2e_us]),
    });
    if let Some((recorded, simulated)) = first {
        profile.tokenize_us = (profile.tokenize_us + recorded - simulated).clamp(0.0, LONGEST_STEP_US);
    }
}
