//! What came of a run, in figures, and where two runs differ.
//!
//! Rule: the same requests count in every run, those with a recorded first token for TTFT; a figure without a sample is `None`.
//! Deliberately not here: printing.

use serde::Serialize;

use super::arm::Played;
use super::reading::Reading;
use crate::report::stats::{Samples, Summary};

/// The figures of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Requests that went to a worker.
    pub requests: u64,
    /// Requests for which nobody was chosen.
    pub refused: u64,
    /// Median time from the choice to the first token, milliseconds.
    pub ttft_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub ttft_p99_ms: Option<f64>,
    /// Median time from the choice to the end, milliseconds.
    pub e2e_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub e2e_p99_ms: Option<f64>,
    /// Part of the prompt tokens that came from a cache, 0 to 1.
    pub hit_share: Option<f64>,
    /// Requests of the busiest worker over the mean of all.
    pub max_over_mean_requests: Option<f64>,
    /// The same of the prompt tokens that had to be computed.
    pub max_over_mean_tokens: Option<f64>,
    /// Requests of each worker.
    pub by_worker: Vec<u64>,
}

/// A request that would have gone elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Its number in the run.
    pub seq: u64,
    /// Where it went, a URL.
    pub recorded: String,
    /// Where it would have gone, a URL.
    pub chosen: String,
    /// TTFT that was recorded, milliseconds.
    pub recorded_ttft_ms: Option<f64>,
    /// TTFT on the simulated worker where it went, milliseconds.
    pub simulated_ttft_ms: f64,
    /// TTFT on the simulated worker where it would have gone, milliseconds.
    pub chosen_ttft_ms: f64,
    /// What it would have saved, milliseconds.
    pub saved_ms: f64,
}

impl Figures {
    /// Those of a run.
    pub fn of(reading: &Reading, played: &Played) -> Self {
        let has_ttft = reading.rows.iter().any(|row| row.recorded.ttft_us.is_some());
        let rows = || reading.rows.iter().zip(&played.0);
        let went = || rows().filter(|(_, outcome)| outcome.worker.is_some());
        let timed = went().filter(|(row, _)| !has_ttft || row.recorded.ttft_us.is_some());
        let ttft = summary(timed.filter_map(|(_, outcome)| outcome.ttft_us));
        let e2e = summary(went().map(|(_, outcome)| outcome.e2e_us));
        let told = || went().filter_map(|(row, outcome)| Some((row.prompt_tokens, outcome.cached_tokens?)));
        let (prompt, cached) = told().fold((0, 0), |(p, c), (prompt, cached)| (p + prompt, c + cached));
        let (mut requests, mut tokens) = (vec![0_u64; reading.seats.len()], vec![0_u64; reading.seats.len()]);
        for (row, outcome) in rows() {
            if let Some(worker) = outcome.worker {
                requests[worker] += 1;
                tokens[worker] += row.prompt_tokens.saturating_sub(outcome.cached_tokens.unwrap_or(0));
            }
        }
        let ms = |us: f64| us / 1e3;
        Self {
            requests: went().count() as u64,
            refused: rows().count() as u64 - went().count() as u64,
            ttft_p50_ms: ttft.map(|s| ms(s.median)),
            ttft_p99_ms: ttft.map(|s| ms(s.p99)),
            e2e_p50_ms: e2e.map(|s| ms(s.median)),
            e2e_p99_ms: e2e.map(|s| ms(s.p99)),
            hit_share: (prompt > 0).then(|| cached as f64 / prompt as f64),
            max_over_mean_requests: max_over_mean(&requests),
            max_over_mean_tokens: max_over_mean(&tokens),
            by_worker: requests,
        }
    }
}

fn summary(values: impl Iterator<Item = f64>) -> Option<Summary> {
    values.collect::<Samples>().summary()
}

fn max_over_mean(values: &[u64]) -> Option<f64> {
    let (most, all) = (values.iter().max()?, values.iter().sum::<u64>());
    (all > 0).then(|| *most as f64 * values.len() as f64 / all as f64)
}

/// Requests that a run sent elsewhere than they went.
pub fn elsewhere(reading: &Reading, played: &Played) -> u64 {
    let pairs = reading.rows.iter().zip(&played.0);
    pairs.filter(|(row, outcome)| outcome.worker != Some(row.recorded.worker)).count() as u64
}

/// Those of them that would have gained most beside `again`, the recorded choices on the same simulated workers.
pub fn gains(reading: &Reading, again: &Played, played: &Played, most: usize) -> Vec<Difference> {
    let url = |worker: usize| reading.seats[worker].url.to_string();
    let mut gains: Vec<Difference> = reading
        .rows
        .iter()
        .zip(again.0.iter().zip(&played.0))
        .filter_map(|(row, (before, after))| {
            let chosen = after.worker.filter(|worker| *worker != row.recorded.worker)?;
            let (simulated, would) = (before.ttft_us? / 1e3, after.ttft_us? / 1e3);
            (simulated > would).then(|| Difference {
                seq: row.seq,
                recorded: url(row.recorded.worker),
                chosen: url(chosen),
                recorded_ttft_ms: row.recorded.ttft_us.map(|us| us / 1e3),
                simulated_ttft_ms: simulated,
                chosen_ttft_ms: would,
                saved_ms: simulated - would,
            })
        })
        .collect();
    gains.sort_by(|a, b| b.saved_ms.total_cmp(&a.saved_ms).then(a.seq.cmp(&b.seq)));
    gains.truncate(most);
    gains
}
