//! What a run says: latencies, hits, balance, and whether it was in a steady state.
//!
//! Rule: only requests that arrived after the warm-up and before the last arrival of the schedule count, and all of them do.
//! A run without steady state has no latency worth telling, as it would be longer in a longer run. Deliberately not here: means over seeds.

use std::ops::Range;

use crate::bound::{least_ttft_ns, pooled};
use crate::play::{Fleet, Played, Row};
use crate::workload::Workload;

/// Part of the schedule that is not counted: caches fill and batches grow.
pub const WARM_UP: f64 = 0.3;
/// The number in flight may grow by this part of the requests that arrive between the two looks, and no more.
pub const GROWTH: f64 = 0.03;
/// Requests in the system and rate × time in it may differ by this part.
pub const LITTLE: f64 = 0.10;

/// Of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Median time to the first token, ms.
    pub ttft_p50_ms: f64,
    /// 99th percentile of the same, ms.
    pub ttft_p99_ms: f64,
    /// Median time to the last token, ms.
    pub e2e_p50_ms: f64,
    /// 99th percentile of the same, ms.
    pub e2e_p99_ms: f64,
    /// Part of the prompt tokens that were cached.
    pub hit_share: f64,
    /// The same in a cache that never forgets and that all workers share.
    pub possible_share: f64,
    /// 99th percentile of the time to the first token if nobody waited and every cache had everything, ms.
    pub least_ttft_p99_ms: f64,
    /// Requests of the busiest worker, by the mean of all.
    pub requests_imbalance: f64,
    /// Tokens computed (prompt tokens that were not cached, and answers) by the busiest worker, by the mean of all.
    pub tokens_imbalance: f64,
    /// Generated tokens a second.
    pub tokens_per_s: f64,
    /// Whether the number in flight kept still and agrees with Little's law.
    pub is_steady: bool,
    /// Mean number of requests in flight.
    pub in_flight: f64,
}

/// The time in which arrivals count.
fn window(played: &Played) -> Range<f64> {
    let span_ns = played.span_ns as f64;
    span_ns * WARM_UP..span_ns
}

/// Looks at a run on this fleet.
pub fn figures(workload: &Workload, played: &Played, fleet: &Fleet) -> Figures {
    let Range { start: from_ns, end: to_ns } = window(played);
    let workers = fleet.workers;
    let counts = |row: &Row| window(played).contains(&(row.arrived_ns as f64));
    let rows = played.rows.iter().zip(&workload.requests).filter(|(row, _)| counts(row));
    let (mut ttft, mut e2e, mut least_ttft) = (Vec::new(), Vec::new(), Vec::new());
    let (mut prompt, mut cached, mut possible, mut answered) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (mut requests, mut tokens) = (vec![0_u64; workers], vec![0_u64; workers]);
    for (row, request) in rows {
        ttft.push((row.first_token_ns - row.arrived_ns) as f64 / 1e6);
        e2e.push((row.ended_ns - row.arrived_ns) as f64 / 1e6);
        least_ttft.push(least_ttft_ns(request, &fleet.profile) / 1e6);
        prompt += u64::from(request.prompt_tokens);
        cached += u64::from(row.cached_tokens);
        possible += u64::from(request.possible_tokens);
        answered += u64::from(request.output_tokens);
        requests[row.worker] += 1;
        tokens[row.worker] += u64::from(request.prompt_tokens - row.cached_tokens + request.output_tokens);
    }
    let (in_flight, is_steady) = steady(played, from_ns, to_ns);
    let share = |part: u64| part as f64 / prompt.max(1) as f64;
    Figures {
        ttft_p50_ms: percentile(&mut ttft, 0.50),
        ttft_p99_ms: percentile(&mut ttft, 0.99),
        e2e_p50_ms: percentile(&mut e2e, 0.50),
        e2e_p99_ms: percentile(&mut e2e, 0.99),
        least_ttft_p99_ms: percentile(&mut least_ttft, 0.99),
        hit_share: share(cached),
        possible_share: share(possible),
        requests_imbalance: max_by_mean(&requests),
        tokens_imbalance: max_by_mean(&tokens),
        tokens_per_s: answered as f64 * 1e9 / (to_ns - from_ns).max(1.0),
        is_steady,
        in_flight,
    }
}

/// Part of the prompt tokens that one cache of the fleet's size would have had.
pub fn pooled_share(workload: &Workload, played: &Played, fleet: &Fleet) -> f64 {
    let cached = pooled(workload, played, fleet);
    let rows = played.rows.iter().zip(&workload.requests).zip(cached);
    let counted = rows.filter(|((row, _), _)| window(played).contains(&(row.arrived_ns as f64)));
    let (hits, all) = counted.fold((0_u64, 0_u64), |(hits, all), ((_, request), cached)| {
        (hits + u64::from(cached), all + u64::from(request.prompt_tokens))
    });
    hits as f64 / all.max(1) as f64
}

/// Mean number in flight, and whether the run is in a steady state: it grows by at most [`GROWTH`] of what arrives from the
/// third quarter to the fourth, and is the rate of arrivals times the mean time in the system within [`LITTLE`].
fn steady(played: &Played, from_ns: f64, to_ns: f64) -> (f64, bool) {
    let span_ns = played.span_ns as f64;
    let third = in_flight(played, span_ns * 0.50, span_ns * 0.75);
    let fourth = in_flight(played, span_ns * 0.75, span_ns);
    let quarter = played.rows.iter().filter(|row| row.arrived_ns as f64 >= span_ns * 0.75);
    let arrived = quarter.filter(|row| (row.arrived_ns as f64) < span_ns).count() as f64;
    let grows = fourth - third > GROWTH * arrived;
    let mean = in_flight(played, from_ns, to_ns);
    let counted = played.rows.iter().filter(|row| (from_ns..to_ns).contains(&(row.arrived_ns as f64)));
    let stays_ns: f64 = counted.map(|row| (row.ended_ns - row.arrived_ns) as f64).sum();
    let by_rate = stays_ns / (to_ns - from_ns).max(1.0);
    let agrees = (by_rate - mean).abs() <= LITTLE * mean.max(1.0);
    (mean, !grows && agrees)
}

/// Mean number in flight between two moments.
fn in_flight(played: &Played, from_ns: f64, to_ns: f64) -> f64 {
    let part = |(from, to): (u64, u64)| ((to as f64).min(to_ns) - (from as f64).max(from_ns)).max(0.0);
    let inside: f64 = played.rows.iter().map(|row| part((row.arrived_ns, row.ended_ns))).sum();
    inside / (to_ns - from_ns).max(1.0)
}

/// The least value that `share` of them do not exceed; 0 of none.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len()) - 1;
    *values.select_nth_unstable_by(rank, f64::total_cmp).1
}

fn max_by_mean(counts: &[u64]) -> f64 {
    let mean = counts.iter().sum::<u64>() as f64 / counts.len().max(1) as f64;
    counts.iter().max().copied().unwrap_or(0) as f64 / mean.max(1.0)
}
