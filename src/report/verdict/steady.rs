//! Whether the run has a steady state: under a load that is even, neither latency nor concurrency may rise to the end.
//!
//! Rule: ten parts of the run, after a first tenth in which queues and batches fill; a trend is one that chance does not make
//! (Mann-Kendall) and that matters (Theil-Sen, against the median). Medians of parts, as single latencies hang together. A run
//! that saturates its server rises, and its percentiles are then a matter of how long it lasts. Only rises count: caches that
//! fill make a run faster, and that is no overload. Deliberately not here: what the server could take (`--find-rate`).

use super::moments::{Moments, Until};
use super::{Finding, Rating};
use crate::load::run::RunReport;
use crate::load::schedule::{Pace, Schedule};

/// How the names of these rules begin.
pub(super) const PREFIX: &str = "trend_";

/// Parts of a run.
const PARTS: u8 = 10;
/// Requests without which it is not judged: a median of a part takes five.
const FEWEST: usize = 56;
/// Share of the run that is left out at its beginning.
const FILLING: f64 = 0.1;
/// Standard normal quantile of one in two hundred, one-sided; ten rules in twenty runs should not cry wolf.
const CHANCE_Z: f64 = 2.576;
/// Rise from the first part to the last over the median of all: a quarter is beyond what parts differ by; as much as the median
/// itself is a queue that grows (from half of it to one and a half).
const RISE: (f64, f64) = (0.25, 1.0);
/// Smaller rises are no matter: a millisecond is what a timer's grid makes, a request is a request.
const LEAST_RISE_MS: f64 = 1.0;
const LEAST_RISE_REQUESTS: f64 = 1.0;
/// A quarter of the run may have this share more or fewer arrivals than the mean quarter, or four deviations of chance.
const UNEVEN: f64 = 0.25;

/// All trends of a run.
pub(super) fn trends_of(run: &RunReport, moments: Option<&Moments>) -> Vec<(&'static str, Finding)> {
    if run.faults.is_some() {
        let asked = "workers were made to fail: there is no steady state to have".to_owned();
        return vec![("trend_e2e", Finding::Unjudged(asked))];
    }
    let open = run.config.arrivals.mean_per_s().is_some();
    if !open && run.config.max_concurrency.is_none() {
        let burst = "all requests are due at once: there is no steady state to have".to_owned();
        return vec![("trend_e2e", Finding::Unjudged(burst))];
    }
    if open && !even(run) {
        return vec![("trend_e2e", Finding::Unjudged("the rate changes by plan".to_owned()))];
    }
    let Some(moments) = moments else { return Vec::new() };
    let mut out = Vec::new();
    let asked = [("trend_ttft", "TTFT", Until::FirstToken), ("trend_e2e", "E2E", Until::LastByte)];
    for (rule, name, until) in asked {
        if rule == "trend_e2e" || moments.streamed() {
            out.push((rule, latency(name, moments.latencies(until))));
        }
    }
    if open {
        out.push(("trend_concurrency", concurrency(&moments.spans().collect::<Vec<_>>())));
    }
    out
}

/// Arrivals at one rate, as asked for or, where nobody asked for any, as the schedule has it.
fn even(run: &RunReport) -> bool {
    match &run.config.arrivals.pace {
        Pace::Rate(_) => true,
        Pace::Stages(stages) => stages.is_even(),
        Pace::Saved(_) | Pace::Trace { .. } => evenly(&run.schedule),
    }
}

fn evenly(schedule: &Schedule) -> bool {
    let mut quarters = [0.0_f64; 4];
    let last_ns = schedule.last_ns().max(1);
    for at_ns in &schedule.at_ns {
        quarters[((u128::from(*at_ns) * 4 / u128::from(last_ns)) as usize).min(3)] += 1.0;
    }
    let mean = schedule.at_ns.len() as f64 / 4.0;
    quarters.iter().all(|count| (count - mean).abs() <= (UNEVEN * mean).max(4.0 * mean.sqrt()))
}

/// `samples`: when each began, and how long it took, ms.
fn latency(name: &str, mut samples: Vec<(i64, f64)>) -> Finding {
    if samples.len() < FEWEST {
        return Finding::Unjudged(format!("{} of {name}, a trend takes {FEWEST}", samples.len()));
    }
    samples.sort_by_key(|s| s.0);
    let settled = &samples[(samples.len() as f64 * FILLING) as usize..];
    let medians: Vec<f64> = (0..usize::from(PARTS))
        .map(|part| {
            let at = |part| settled.len() * part / usize::from(PARTS);
            median(settled[at(part)..at(part + 1)].iter().map(|s| s.1).collect())
        })
        .collect();
    judged(name, "ms", &medians, LEAST_RISE_MS)
}

/// Mean in flight in each part of the time of the arrivals.
fn concurrency(spans: &[(i64, i64)]) -> Finding {
    let arrivals_ns = spans.iter().map(|s| s.0).max().unwrap_or(0);
    let typical_ns = median(spans.iter().map(|(begin, end)| (end - begin) as f64).collect());
    if spans.len() < FEWEST {
        return Finding::Unjudged(format!("{} requests, a trend takes {FEWEST}", spans.len()));
    }
    if typical_ns > arrivals_ns as f64 / 2.0 {
        return Finding::Unjudged(format!(
            "requests arrive for {:.1} s and one lasts {:.1} s: too short for a steady state",
            arrivals_ns as f64 / 1e9,
            typical_ns / 1e9
        ));
    }
    // What is in flight cannot be steady before the first answers have ended.
    let begin_ns = (arrivals_ns as f64 * FILLING).max(typical_ns) as i64;
    let width_ns = ((arrivals_ns - begin_ns) / i64::from(PARTS)).max(1);
    let means: Vec<f64> = (0..i64::from(PARTS))
        .map(|part| {
            let (from, to) = (begin_ns + part * width_ns, begin_ns + (part + 1) * width_ns);
            let inside: i64 = spans.iter().map(|(begin, end)| (to.min(*end) - from.max(*begin)).max(0)).sum();
            inside as f64 / width_ns as f64
        })
        .collect();
    judged("concurrency", "", &means, LEAST_RISE_REQUESTS)
}

fn judged(name: &str, unit: &str, parts: &[f64], smallest: f64) -> Finding {
    let (first, last) = (parts[0], parts[parts.len() - 1]);
    let gap = if unit.is_empty() { "" } else { " " };
    let seen =
        format!("{name} {first:.1} to {last:.1}{gap}{unit} from the first tenth of the run to the last");
    let rise = theil_sen(parts) * (parts.len() - 1) as f64;
    if rise < smallest || mann_kendall_z(parts) < CHANCE_Z {
        return Finding::Judged(Rating::Valid, format!("no trend: {seen}"));
    }
    let middle = median(parts.to_vec());
    let share = if middle > 0.0 { rise / middle } else { f64::INFINITY };
    let text = if share > RISE.1 {
        format!("saturated, no steady state: {seen}; its percentiles depend on how long it lasts")
    } else {
        format!("rises: {seen}; run longer to see whether it levels off")
    };
    Finding::above(share, RISE.0, RISE.1, text)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// Differences of all pairs, later less earlier, with how far apart they are.
fn pairs(values: &[f64]) -> impl Iterator<Item = (f64, f64)> + '_ {
    let later = move |i: usize| values.iter().enumerate().skip(i + 1);
    values.iter().enumerate().flat_map(move |(i, a)| later(i).map(move |(j, b)| (b - a, (j - i) as f64)))
}

/// Median slope of all pairs: the rise from one part to the next.
fn theil_sen(values: &[f64]) -> f64 {
    median(pairs(values).map(|(rise, apart)| rise / apart).collect())
}

/// Rises less falls of all pairs, in standard deviations of what chance makes.
fn mann_kendall_z(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let balance: f64 = pairs(values)
        .map(|(rise, _)| {
            if rise > 0.0 {
                1.0
            } else if rise < 0.0 {
                -1.0
            } else {
                0.0
            }
        })
        .sum();
    let deviation = (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    (balance - balance.signum()) / deviation
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One server of 50 ms a request and arrivals every `gap_ms`: begin and latency of each request.
    fn queue(gap_ms: f64, requests: usize) -> Vec<(i64, f64)> {
        let mut free_ms = 0.0_f64;
        (0..requests)
            .map(|i| {
                let at_ms = i as f64 * gap_ms;
                free_ms = free_ms.max(at_ms) + 50.0;
                ((at_ms * 1e6) as i64, free_ms - at_ms)
            })
            .collect()
    }

    #[test]
    fn a_queue_that_grows_is_invalid_and_one_that_does_not_is_valid() {
        assert_eq!(latency("E2E", queue(60.0, 500)).rating(), Some(Rating::Valid));
        let grows = latency("E2E", queue(40.0, 500));
        assert_eq!(grows.rating(), Some(Rating::Invalid));
        assert!(matches!(&grows, Finding::Judged(_, text) if text.starts_with("saturated")), "{grows:?}");
        assert_eq!(latency("E2E", queue(40.0, 50)).rating(), None);
    }

    #[test]
    fn a_slow_rise_is_suspect_and_a_fall_is_not() {
        let of = |slope: f64| {
            latency("TTFT", (0..500).map(|i| (i, 100.0 + slope * i as f64 + (i % 7) as f64)).collect())
        };
        assert_eq!(of(0.0).rating(), Some(Rating::Valid));
        assert_eq!(of(0.1).rating(), Some(Rating::Suspect));
        assert_eq!(of(-0.1).rating(), Some(Rating::Valid));
    }

    #[test]
    fn concurrency_is_judged_where_answers_end_within_the_arrivals() {
        let spans = |gap_ms, n| -> Vec<(i64, i64)> {
            queue(gap_ms, n).into_iter().map(|(at, ms)| (at, at + (ms * 1e6) as i64)).collect()
        };
        assert_eq!(concurrency(&spans(60.0, 500)).rating(), Some(Rating::Valid));
        assert!(concurrency(&spans(30.0, 500)).rating() >= Some(Rating::Suspect));
        let long: Vec<(i64, i64)> = (0..100).map(|i| (i * 1_000, i * 1_000 + 900_000)).collect();
        assert_eq!(concurrency(&long).rating(), None);
    }

    #[test]
    fn a_ramp_is_no_even_load() {
        let at = |f: fn(f64) -> f64| Schedule {
            at_ns: (0..1000).map(|i| (f(f64::from(i) / 1000.0) * 1e9) as u64).collect(),
            ..Schedule::default()
        };
        assert!(evenly(&at(|x| x)));
        assert!(!evenly(&at(f64::sqrt)));
    }

    /// Chance alone, many times: how often it is taken for a trend.
    #[test]
    fn noise_is_rarely_a_trend() {
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let wolves = (0..2000)
            .filter(|_| {
                let samples = (0..200).map(|i| (i, 20.0 + 200.0 * noise().powi(4))).collect();
                latency("TTFT", samples).rating() != Some(Rating::Valid)
            })
            .count();
        assert!(wolves < 20, "{wolves} of 2000");
    }
}
