//! A replay for programs (`--json`): everything that the table says, and the fitted workers whole.
//!
//! Deliberately not here: the trace's own records, which the trace has.

use serde::Serialize;

use super::Replay;
use super::figures::{Difference, Figures};
use super::fit::Fitted;

#[derive(Serialize)]
struct Page<'a> {
    exact: Option<Exact>,
    approximate: &'a [String],
    requests: u64,
    replayed: u64,
    recorded_policy: Option<String>,
    what_if: Option<WhatIf<'a>>,
}

#[derive(Serialize)]
struct Exact {
    decisions: u64,
    reproduced: u64,
    mismatch: Option<String>,
    hole_at_call: Option<u64>,
    hole: Option<String>,
    decisions_after_hole: u64,
    agreeing_after_hole: u64,
    decisions_not_tried: u64,
}

#[derive(Serialize)]
struct WhatIf<'a> {
    simulated_workers: &'a Fitted,
    recorded: &'a Figures,
    recorded_choices_simulated: &'a Figures,
    policies: Vec<Arm<'a>>,
}

#[derive(Serialize)]
struct Arm<'a> {
    policy: &'a str,
    recorded: bool,
    figures: &'a Figures,
    elsewhere: u64,
    largest_gains: &'a [Difference],
}

/// The page.
pub fn page(replay: &Replay) -> Result<String, serde_json::Error> {
    let exact = replay.reading.exact.as_ref().map(|verdict| Exact {
        decisions: verdict.decisions,
        reproduced: verdict.reproduced,
        mismatch: verdict.mismatch.as_ref().map(ToString::to_string),
        hole_at_call: verdict.hole.as_ref().map(|(n, _)| *n),
        hole: verdict.hole.as_ref().map(|(_, what)| what.clone()),
        decisions_after_hole: verdict.later,
        agreeing_after_hole: verdict.later_agreeing,
        decisions_not_tried: verdict.not_tried,
    });
    let what_if = replay.what_if.as_ref().map(|what_if| WhatIf {
        simulated_workers: &what_if.fitted,
        recorded: &what_if.recorded,
        recorded_choices_simulated: &what_if.again,
        policies: what_if
            .arms
            .iter()
            .map(|tried| Arm {
                policy: &tried.policy,
                recorded: tried.is_recorded,
                figures: &tried.figures,
                elsewhere: tried.elsewhere,
                largest_gains: &tried.gains,
            })
            .collect(),
    });
    let page = Page {
        exact,
        approximate: &replay.approximate,
        requests: replay.reading.requests,
        replayed: replay.reading.rows.len() as u64,
        recorded_policy: replay.reading.policy(),
        what_if,
    };
    let mut text = serde_json::to_string_pretty(&page)?;
    text.push('\n');
    Ok(text)
}
