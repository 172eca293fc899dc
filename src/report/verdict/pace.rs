//! Whether the load that was made is the load that was asked for: rate, lateness, shape; in a closed loop, full places.
//!
//! Rule: what was made is compared with the schedule, request by request, so that the luck of the seed is no finding. Rules of
//! rate and shape are for arrivals that have a rate; a closed loop at `inf` is judged by its places. Deliberately not here: the
//! schedule's own shape, which `load::schedule` is tested for.

use super::moments::Moments;
use super::{Finding, Rating};
use crate::load::run::RunReport;
use crate::report::stats::Samples;

/// Deviation of the rate: a hundredth moves no percentile that anyone reports; a twentieth is another load.
const RATE_OFF: (f64, f64) = (0.01, 0.05);
/// Of a shorter load a single late request makes another rate.
const SHORTEST_S: f64 = 1.0;
/// Ends that moved by less say nothing about the rate: one late request does that.
const MOVED_S: f64 = 0.01;
/// Lateness at p99, ms: ten are a step of a batch, which TTFT is compared by; a hundred are more than most TTFTs.
const LATE_MS: (f64, f64) = (10.0, 100.0);
/// A p99 of fewer is their maximum.
const FEWEST_FOR_P99: usize = 100;
/// Kolmogorov-Smirnov distance of the gaps made from those planned. Both are of one schedule, so that none of it is chance: a
/// grid of 1 ms at 1,000/s makes 0.3.
const GAPS_APART: (f64, f64) = (0.1, 0.25);
/// Coefficient of variation of gaps that are planned equal (0); a grid of 1 ms at 1,000/s makes 0.6.
const GAPS_VARY: (f64, f64) = (0.25, 1.0);
/// Gaps within this share of their mean are planned equal.
const EQUAL: f64 = 1e-6;
/// Index of dispersion made over planned (at least 1): half as much again is another burstiness.
const DISPERSION_OFF: (f64, f64) = (0.25, 1.0);
/// Arrivals in the mean window of the index.
const WINDOW: usize = 20;
/// Windows without which it is not taken.
const FEWEST_WINDOWS: usize = 10;
/// Share of the places of a closed loop that may be empty.
/// Never INVALID: latencies are right all the same, throughput is the client's.
const PLACES_EMPTY: f64 = 0.1;
/// What the client may need from one request of a place to the next, ms; short answers leave places empty for as long.
const TURN_MS: f64 = 2.0;

/// Due times and send times of what was sent, seconds, each in order; none where the arrivals have no rate.
fn sent(moments: &Moments) -> Option<(Vec<f64>, Vec<f64>)> {
    let seconds = |ns: i64| ns as f64 / 1e9;
    let both = moments.sent().map(|(due_ns, sent_ns)| (seconds(due_ns), seconds(sent_ns)));
    let (mut due, mut sent): (Vec<f64>, Vec<f64>) = both.unzip();
    due.sort_unstable_by(f64::total_cmp);
    sent.sort_unstable_by(f64::total_cmp);
    (sent.len() >= 2).then_some((due, sent))
}

/// What the rules found, in their order.
pub(super) fn findings(run: &RunReport, moments: Option<&Moments>) -> Vec<(&'static str, Finding)> {
    let asked_per_s = run.config.arrivals.mean_per_s();
    let places = run.config.max_concurrency;
    let sent = moments.and_then(sent);
    let mut out = Vec::new();
    if let Some(asked_per_s) = asked_per_s {
        out.push(("rate", rate_of(run, asked_per_s, sent.as_ref())));
    }
    // With places the wait for one is in it, which the rule of the rate tells.
    if asked_per_s.is_some() && places.is_none() {
        let late_ns = moments.into_iter().flat_map(Moments::sent).map(|(due_ns, sent_ns)| sent_ns - due_ns);
        out.push(("lateness", lateness(late_ns.map(|ns| ns as f64 / 1e6))));
        if let Some((due, sent)) = sent {
            let dispersion = dispersion(&due, &sent);
            // One after the other, as there may be millions.
            let planned = gaps(due);
            out.push(("gaps", gap_shape(planned, gaps(sent))));
            out.push(("dispersion", dispersion));
        }
    }
    if let (Some(places), Some(moments), None) = (places, moments, asked_per_s) {
        out.extend(places_of(moments, places, run.rows.len()).map(|found| ("places", found)));
    }
    out
}

fn rate_of(run: &RunReport, asked_per_s: f64, sent: Option<&(Vec<f64>, Vec<f64>)>) -> Finding {
    let Some((due, sent)) = sent else {
        return Finding::Unjudged("fewer than two requests were sent".to_owned());
    };
    let span = |times: &[f64]| times[times.len() - 1] - times[0];
    let found = rate(asked_per_s, due.len(), (span(due), span(sent)), run.config.max_concurrency);
    match found {
        Finding::Judged(rating, text) if !run.schedule.waits.is_empty() => {
            Finding::Judged(rating, format!("{text} (asked: sessions; planned and made: their requests)"))
        }
        found => found,
    }
}

/// `spans_s`: from the first request to the last, as planned and as made.
fn rate(asked_per_s: f64, requests: usize, spans_s: (f64, f64), places: Option<usize>) -> Finding {
    let (planned_s, took_s) = spans_s;
    let per_s = |span_s: f64| if span_s > 0.0 { (requests - 1) as f64 / span_s } else { f64::INFINITY };
    let text = format!(
        "asked {asked_per_s:.2}/s, planned {:.2}/s with this seed, made {:.2}/s",
        per_s(planned_s),
        per_s(took_s)
    );
    if planned_s.max(took_s) < SHORTEST_S {
        return Finding::Unjudged(format!("{text}; a rate takes {SHORTEST_S} s"));
    }
    if (took_s - planned_s).abs() <= MOVED_S {
        return Finding::Judged(Rating::Valid, text);
    }
    let off = if took_s > 0.0 { (planned_s / took_s - 1.0).abs() } else { f64::INFINITY };
    let why = match places {
        Some(places) => {
            format!("{text}; --max-concurrency {places} held requests back: this is a closed loop")
        }
        None if off > RATE_OFF.0 => format!("{text}; free the client's machine or use several clients"),
        None => text,
    };
    Finding::above(off, RATE_OFF.0, RATE_OFF.1, why)
}

fn lateness(late_ms: impl Iterator<Item = f64>) -> Finding {
    let late_ms: Samples = late_ms.collect();
    let requests = late_ms.len();
    match late_ms.summary() {
        Some(late) if requests >= FEWEST_FOR_P99 => {
            let text = format!(
                "sent - scheduled: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
                late.median, late.p99, late.max
            );
            Finding::above(late.p99, LATE_MS.0, LATE_MS.1, text)
        }
        _ => Finding::Unjudged(format!("{requests} requests were sent, a p99 takes {FEWEST_FOR_P99}")),
    }
}

/// In the place of the times themselves.
fn gaps(mut times: Vec<f64>) -> Vec<f64> {
    for at in 1..times.len() {
        times[at - 1] = times[at] - times[at - 1];
    }
    times.pop();
    times
}

/// Mean and coefficient of variation.
fn spread(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    (mean, if mean > 0.0 { variance.sqrt() / mean } else { 0.0 })
}

/// Gaps of the schedule and gaps that were made.
fn gap_shape(planned: Vec<f64>, made: Vec<f64>) -> Finding {
    if planned.len() < FEWEST_FOR_P99 {
        return Finding::Unjudged(format!("{} gaps, a shape takes {FEWEST_FOR_P99}", planned.len()));
    }
    let (mean, varies) = spread(&planned);
    if mean <= 0.0 {
        return Finding::Unjudged("all requests are due at one moment".to_owned());
    }
    if varies < EQUAL {
        let varies = spread(&made).1;
        let text = format!("gaps planned equal vary by {varies:.3} of their mean");
        return Finding::above(varies, GAPS_VARY.0, GAPS_VARY.1, text);
    }
    let apart = kolmogorov_smirnov(planned, made);
    let text = format!("distribution of gaps {apart:.3} from the planned one (Kolmogorov-Smirnov)");
    Finding::above(apart, GAPS_APART.0, GAPS_APART.1, text)
}

/// Largest distance of two distributions.
fn kolmogorov_smirnov(mut a: Vec<f64>, mut b: Vec<f64>) -> f64 {
    a.sort_unstable_by(f64::total_cmp);
    b.sort_unstable_by(f64::total_cmp);
    let share = |upto: usize, of: &[f64]| upto as f64 / of.len() as f64;
    let (mut in_a, mut in_b, mut apart) = (0, 0, 0.0_f64);
    while let Some(next) = a.get(in_a).into_iter().chain(b.get(in_b)).copied().min_by(f64::total_cmp) {
        let past =
            |from: usize, of: &[f64]| of[from..].iter().take_while(|v| v.total_cmp(&next).is_le()).count();
        in_a += past(in_a, &a);
        in_b += past(in_b, &b);
        apart = apart.max((share(in_a, &a) - share(in_b, &b)).abs());
    }
    apart
}

fn dispersion(due: &[f64], sent: &[f64]) -> Finding {
    let windows = due.len() / WINDOW;
    if windows < FEWEST_WINDOWS {
        let fewest = WINDOW * FEWEST_WINDOWS;
        return Finding::Unjudged(format!("{} requests, an index of dispersion takes {fewest}", due.len()));
    }
    let (planned, made) = (index_of_dispersion(due, windows), index_of_dispersion(sent, windows));
    let text = format!("index of dispersion of the counts {made:.2}, planned {planned:.2}");
    Finding::above((made - planned).abs() / planned.max(1.0), DISPERSION_OFF.0, DISPERSION_OFF.1, text)
}

/// Variance over mean of the counts in equal windows: 1 for Poisson, 0 for constant.
fn index_of_dispersion(times: &[f64], windows: usize) -> f64 {
    let (first, last) = (times[0], times[times.len() - 1]);
    let width = (last - first) / windows as f64;
    let mut counts = vec![0.0_f64; windows];
    for time in times {
        let window = if width > 0.0 { ((time - first) / width) as usize } else { 0 };
        counts[window.min(windows - 1)] += 1.0;
    }
    let mean = times.len() as f64 / windows as f64;
    counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / (windows - 1) as f64 / mean
}

/// A closed loop at `inf`: while requests are left, as many are in flight as there are places.
fn places_of(moments: &Moments, places: usize, requests: usize) -> Option<Finding> {
    if requests < 2 * places {
        return None;
    }
    let spans: Vec<(i64, i64)> = moments.spans().collect();
    let first_ns = spans.iter().map(|s| s.0).min()?;
    let last_ns = spans.iter().map(|s| s.0).max()?;
    let busy_ns: i64 = spans.iter().map(|(begin, end)| end.min(&last_ns) - begin).sum();
    let requests = (spans.len() - places.min(spans.len() - 1)) as f64;
    (last_ns > first_ns)
        .then(|| full_places(busy_ns as f64 / 1e6, (last_ns - first_ns) as f64 / 1e6, places, requests))
}

fn full_places(busy_ms: f64, all_ms: f64, places: usize, requests: f64) -> Finding {
    let (mean, empty_ms) = (busy_ms / all_ms, all_ms * places as f64 - busy_ms);
    let text = format!("closed loop: {mean:.2} of {places} places in use until the last request went out");
    let off = if empty_ms / requests > TURN_MS { 1.0 - mean / places as f64 } else { 0.0 };
    Finding::above(off, PLACES_EMPTY, f64::INFINITY, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_was_not_made_is_told_and_a_late_last_request_is_not() {
        let of = |took_s, places| rate(100.0, 1001, (10.0, took_s), places).rating();
        assert_eq!(of(10.009, None), Some(Rating::Valid));
        assert_eq!(of(10.09, None), Some(Rating::Valid));
        assert_eq!(of(10.2, None), Some(Rating::Suspect));
        assert_eq!(of(15.0, None), Some(Rating::Invalid));
        assert_eq!(rate(100.0, 12, (0.12, 0.2), None).rating(), None);
        let Finding::Judged(_, text) = rate(100.0, 1001, (10.0, 15.0), Some(8)) else { panic!() };
        assert!(text.contains("made 66.67/s") && text.contains("--max-concurrency 8"), "{text}");
    }

    #[test]
    fn lateness_is_judged_by_its_p99() {
        let of = |late_ms: f64, n: usize| {
            lateness((0..n).map(|i| if i * 50 < n { late_ms } else { 0.05 })).rating()
        };
        assert_eq!(of(9.0, 1000), Some(Rating::Valid));
        assert_eq!(of(20.0, 1000), Some(Rating::Suspect));
        assert_eq!(of(200.0, 1000), Some(Rating::Invalid));
        assert_eq!(of(200.0, 99), None);
    }

    /// What the tools make that wait on a timer of 1 ms: right in the mean, wrong in shape.
    #[test]
    fn a_grid_of_a_millisecond_is_seen_in_the_gaps() {
        let mut state = 7_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut at = 0.0;
        let due: Vec<f64> = (0..4000)
            .map(|_| {
                at += -(1.0 - uniform()).ln() / 1000.0;
                at
            })
            .collect();
        let close: Vec<f64> = due.iter().map(|t| t + 20e-6).collect();
        let grid: Vec<f64> = due.iter().map(|t| (t * 1000.0).ceil() / 1000.0).collect();
        assert_eq!(gap_shape(gaps(due.clone()), gaps(close)).rating(), Some(Rating::Valid));
        assert_eq!(gap_shape(gaps(due), gaps(grid)).rating(), Some(Rating::Invalid));
        let even: Vec<f64> = (0..1000).map(|i| f64::from(i) / 700.0).collect();
        let grid: Vec<f64> = even.iter().map(|t| (t * 1000.0).ceil() / 1000.0).collect();
        assert_eq!(gap_shape(gaps(even.clone()), gaps(even.clone())).rating(), Some(Rating::Valid));
        assert_eq!(gap_shape(gaps(even.clone()), gaps(grid.clone())).rating(), Some(Rating::Suspect));
        assert_eq!(gap_shape(gaps(even[..50].to_vec()), gaps(grid[..50].to_vec())).rating(), None);
    }

    /// By counting, at every value; some are in both, some are there twice.
    #[test]
    fn distributions_are_as_far_apart_as_counting_says() {
        let a: Vec<f64> = (0..300).map(|i| f64::from(i * 7919 % 101)).collect();
        let b: Vec<f64> = (0..200).map(|i| f64::from(i * 104_729 % 149) + 0.5 * f64::from(i % 2)).collect();
        let share = |of: &[f64], x: f64| of.iter().filter(|v| **v <= x).count() as f64 / of.len() as f64;
        let apart = a.iter().chain(&b).map(|x| (share(&a, *x) - share(&b, *x)).abs()).fold(0.0, f64::max);
        assert!(apart > 0.1);
        assert!((kolmogorov_smirnov(a, b) - apart).abs() < 1e-15, "{apart}");
    }

    #[test]
    fn bunched_arrivals_are_more_dispersed_than_planned() {
        let even: Vec<f64> = (0..1000).map(f64::from).collect();
        let bunched: Vec<f64> = (0..1000).map(|i| f64::from(i / 40 * 40)).collect();
        assert_eq!(dispersion(&even, &even).rating(), Some(Rating::Valid));
        assert_eq!(dispersion(&even, &bunched).rating(), Some(Rating::Invalid));
        assert_eq!(dispersion(&even[..150], &even[..150]).rating(), None);
    }

    #[test]
    fn a_closed_loop_keeps_its_places_full() {
        let of = |mean: f64, requests| full_places(mean * 10_000.0, 10_000.0, 8, requests).rating();
        assert_eq!(of(7.9, 1000.0), Some(Rating::Valid));
        assert_eq!(of(4.0, 1000.0), Some(Rating::Suspect));
        assert_eq!(of(4.0, 100_000.0), Some(Rating::Valid), "0.4 ms a request is the client's turn");
    }
}
