//! Simulated workers that answer as the recorded ones did.
//!
//! Rule: of each worker five things are found, each with the way it was found, and each has a fallback that says so: the prefill
//! rate (`line` through uncached tokens and time), the length of a decode step (the same through context and time a token), the
//! largest batch, the KV cache (`cache`), and what a request waits beside all that (`settle`, which plays the recorded choices
//! and takes up what is left). Server stamps go before the router's. A worker with too few requests is fitted as all together. No
//! decode step is found from an answer that holds several: one step makes a token of each.
//! Deliberately not here: how good the fit is; that is printed beside every result.

mod cache;
mod line;
mod load;
mod settle;

use serde::Serialize;

use self::line::{Line, rate};
use self::load::Load;
use super::reading::Reading;
use super::rows::Row;
use crate::sim::Profile;

/// Fewest requests through which a line is drawn.
const FEWEST: usize = 16;
/// First tokens within this time of each other come of one step, microseconds.
const TOGETHER_US: f64 = 1_000.0;
/// Shortest decode step that is believed, microseconds.
const SHORTEST_STEP_US: f64 = 50.0;
/// Longest, microseconds.
const LONGEST_STEP_US: f64 = 10e6;
/// A wait in the server's queue of more than so many decode steps is one for a place in the batch.
const WAITED_STEPS: f64 = 4.0;

/// The simulated workers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fitted {
    /// One for each of [`Reading::seats`].
    pub workers: Vec<FittedWorker>,
}

/// A simulated worker, and how it was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FittedWorker {
    /// Its URL.
    pub url: String,
    /// What it does.
    pub profile: Profile,
    /// Requests that it was fitted to.
    pub requests: u64,
    /// What the prefill rate was found from.
    pub prefill_from: &'static str,
    /// What the decode step was found from.
    pub decode_from: &'static str,
    /// What the largest batch was found from.
    pub batch_from: &'static str,
    /// What the KV cache was found from.
    pub cache_from: &'static str,
}

/// Part of a fit, and what it was found from.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Found<T> {
    value: T,
    from: &'static str,
}

/// Finds the workers of a trace.
pub fn fit(reading: &Reading) -> Fitted {
    let all: Vec<&Row> = reading.rows.iter().filter(|row| row.recorded.ok).collect();
    let of = |worker: usize| -> Vec<&Row> {
        all.iter().copied().filter(|row| row.recorded.worker == worker).collect()
    };
    let by_worker: Vec<Vec<&Row>> = (0..reading.seats.len()).map(of).collect();
    let loads: Vec<Load> = by_worker.iter().map(|rows| Load::of(rows)).collect();
    let together = Pace::of(&by_worker.iter().zip(&loads).collect::<Vec<_>>());
    let workers = by_worker.iter().zip(&loads).enumerate().map(|(at, worker)| {
        let (rows, load) = worker;
        let pace = Pace::of(&[worker]).or_as(&together);
        let batch = batch(reading, at, rows, load, pace.decode.value.at_zero);
        let cache = cache::tokens(reading, at);
        FittedWorker {
            url: reading.seats[at].url.to_string(),
            profile: profile(&pace, batch.value, cache.value),
            requests: rows.len() as u64,
            prefill_from: pace.prefill.from,
            decode_from: pace.decode.from,
            batch_from: batch.from,
            cache_from: cache.from,
        }
    });
    let mut fitted = Fitted { workers: workers.collect() };
    settle::settle(reading, &mut fitted);
    fitted
}

fn profile(pace: &Pace, max_running_requests: usize, kv_tokens: u64) -> Profile {
    Profile {
        name: "fitted to a trace".to_owned(),
        step_floor_us: pace.decode.value.at_zero.clamp(SHORTEST_STEP_US, LONGEST_STEP_US),
        decode_sequence_us: 0.0,
        decode_context_token_ns: pace.decode.value.slope * 1e3,
        prefill_token_us: pace.prefill.value,
        prefill_pair_ns: 0.0,
        tokenize_us: 0.0,
        tokenize_byte_us: 0.0,
        kv_tokens,
        max_running_requests,
        context_tokens: kv_tokens.max(8),
        ..Profile::default()
    }
}

/// How fast a worker is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pace {
    /// Microseconds a token to compute.
    prefill: Found<f64>,
    /// Microseconds of a step by tokens in the batch.
    decode: Found<Line>,
    is_whole: [bool; 2],
}

impl Pace {
    fn of(workers: &[(&Vec<&Row>, &Load)]) -> Self {
        let usual = Profile::default();
        let (mut found, mut decode_found) = (None, None);
        // Each is a part of what the other one is found from.
        for _ in 0..2 {
            found = prefill(workers, decode_found.map_or(0.0, |line: Found<Line>| line.value.at_zero));
            decode_found =
                decode(workers, found.map_or(usual.prefill_token_us, |found: Found<f64>| found.value));
        }
        let usual_decode = Line { slope: usual.decode_context_token_ns / 1e3, at_zero: usual.step_floor_us };
        Self {
            is_whole: [found.is_some(), decode_found.is_some()],
            prefill: found.unwrap_or(Found { value: usual.prefill_token_us, from: "default" }),
            decode: decode_found.unwrap_or(Found { value: usual_decode, from: "default" }),
        }
    }

    /// What was not found is as that of `together`.
    fn or_as(mut self, together: &Self) -> Self {
        let from = |from| if from == "default" { from } else { "all workers" };
        if !self.is_whole[0] {
            self.prefill = Found { from: from(together.prefill.from), ..together.prefill };
        }
        if !self.is_whole[1] {
            self.decode = Found { from: from(together.decode.from), ..together.decode };
        }
        self
    }
}

/// Tokens of its prompt that a worker had to compute.
fn uncached(row: &Row) -> f64 {
    let prompt = row.recorded.prompt_tokens.unwrap_or(row.prompt_tokens);
    prompt.saturating_sub(row.recorded.cached_tokens.unwrap_or(0)).max(1) as f64
}

/// Time of a prefill a token to compute; none is shorter than a step.
fn prefill(workers: &[(&Vec<&Row>, &Load)], step_us: f64) -> Option<Found<f64>> {
    let rows = || workers.iter().flat_map(|(rows, load)| rows.iter().map(move |row| (*row, *load)));
    // The server's own span begins after the queue. Requests of one prefill step have their first tokens together.
    let in_one_step = |row: &Row, load: &Load| {
        let first_us = row.at_us as f64 + row.recorded.ttft_us?;
        Some((load.prefilled(first_us - TOGETHER_US, first_us + TOGETHER_US), row.recorded.prefill_us?))
    };
    let by_server: Vec<_> = rows().filter_map(|(row, load)| in_one_step(row, load)).collect();
    let (points, from) = if by_server.len() >= FEWEST {
        (by_server, "server stamps")
    } else {
        (by_router(workers), "router TTFT")
    };
    let value = rate(points, step_us).filter(|rate| *rate > 0.0)?;
    Some(Found { value, from })
}

/// The router sees the wait for what others compute too.
fn by_router(workers: &[(&Vec<&Row>, &Load)]) -> Vec<(f64, f64)> {
    let rows = workers.iter().flat_map(|(rows, load)| rows.iter().zip(&load.waited_for_tokens));
    rows.filter_map(|(row, others)| Some((uncached(row) + others, row.recorded.ttft_us?))).collect()
}

/// Time of a decode step by tokens in the batch, without what prefills of others took meanwhile.
fn decode(workers: &[(&Vec<&Row>, &Load)], prefill_token_us: f64) -> Option<Found<Line>> {
    let mut points = Vec::new();
    for (rows, load) in workers {
        for row in rows.iter().filter(|row| !row.recorded.is_sum) {
            let Some(ttft_us) = row.recorded.ttft_us.filter(|_| row.output_tokens >= 8) else { continue };
            let steps = f64::from(row.output_tokens - 1);
            let (from, to) = (row.at_us as f64 + ttft_us, row.at_us as f64 + row.recorded.e2e_us);
            let all_us = to - from;
            let stalled_us = prefill_token_us * load.prefilled(from, to);
            let step_us = (all_us - stalled_us).max(all_us / 4.0) / steps;
            points.push((load.mean_context(from, to), step_us));
        }
    }
    if let Some(mut value) = Line::through(points.clone()) {
        if value.slope < 0.0 {
            value = Line { slope: 0.0, at_zero: line::median(points.iter().map(|point| point.1))? };
        }
        return Some(Found { value, from: "first to last token" });
    }
    // Without streams a token's time is that of the whole answer, of those that were quickest.
    let plain = |row: &&Row| row.recorded.ttft_us.is_none() && row.output_tokens >= 8 && !row.recorded.is_sum;
    let all = workers.iter().flat_map(|(rows, _)| rows.iter().copied()).filter(plain);
    let mut steps: Vec<f64> = all.map(|row| row.recorded.e2e_us / f64::from(row.output_tokens)).collect();
    if steps.len() < FEWEST {
        return None;
    }
    steps.sort_by(f64::total_cmp);
    let at_zero = steps[steps.len() / 4];
    Some(Found { value: Line { slope: 0.0, at_zero }, from: "whole answers" })
}

/// The largest batch: what the worker says, else the most that ran at one time if others waited meanwhile.
fn batch(reading: &Reading, worker: usize, rows: &[&Row], load: &Load, step_us: f64) -> Found<usize> {
    if let Some(told) = reading.seats[worker].max_running_requests.filter(|told| (1..1 << 20).contains(told))
    {
        return Found { value: told as usize, from: "told by the worker" };
    }
    let waited =
        rows.iter().filter(|row| row.recorded.queue_us.is_some_and(|us| us > WAITED_STEPS * step_us));
    let often = rows.len() / 20;
    if load.most_at_once > 0 && waited.count() > often {
        return Found { value: load.most_at_once, from: "most at once while others waited" };
    }
    Found { value: Profile::default().max_running_requests.max(load.most_at_once), from: "never full" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::tests::{read, trace};
    use crate::trace::record::{Record, RequestRecord};

    /// The first worker's decode step at no context, and what it was found from.
    fn step_us(change: impl Fn(&mut RequestRecord)) -> (f64, &'static str) {
        let mut lines = String::new();
        for line in trace("round_robin").lines() {
            let mut record: Record = serde_json::from_str(line).unwrap();
            if let Record::Request(request) = &mut record {
                change(request);
            }
            lines += &(serde_json::to_string(&record).unwrap() + "\n");
        }
        let reading = read(&lines);
        let rows: Vec<&Row> = reading.rows.iter().filter(|row| row.recorded.worker == 0).collect();
        let found = decode(&[(&rows, &Load::of(&rows))], 0.0).unwrap();
        (found.value.at_zero, found.from)
    }

    #[test]
    fn several_answers_in_one_make_no_decode_step_shorter() {
        let sum = |record: &mut RequestRecord| {
            if !(record.seq / 4).is_multiple_of(4) {
                let members = if (record.seq / 4).is_multiple_of(2) {
                    &mut record.prompts
                } else {
                    &mut record.samples
                };
                *members = Some(8);
                record.tokens.completion_tokens = record.tokens.completion_tokens.map(|made| made * 8);
            }
        };
        let plain = |record: &mut RequestRecord| (record.stream, record.first_token_ns) = (false, None);
        let (streams, from) = step_us(|_| ());
        let (streams_and_sums, from_too) = step_us(sum);
        assert_eq!((from, from_too), ("first to last token", from));
        assert!((streams_and_sums / streams - 1.0).abs() < 0.2, "{streams_and_sums} of {streams}");
        let (answers, from) = step_us(plain);
        let (answers_and_sums, from_too) = step_us(|record| {
            sum(record);
            plain(record);
        });
        assert_eq!((from, from_too), ("whole answers", from));
        assert!((answers_and_sums / answers - 1.0).abs() < 0.2, "{answers_and_sums} of {answers}");
    }
}
