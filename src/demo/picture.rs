//! Bars of text.
//!
//! Rule: bars of one picture have one scale that begins at 0, and each bar's number stands beside it. Deliberately not here:
//! colour.

use super::arm::Arm;
use super::table::line;

/// Cells of the longest bar of a picture with one bar a line.
const LONG: usize = 40;
/// Cells of the longest bar where each worker has one.
const SHORT: usize = 8;
/// Workers that fit beside each other.
const MOST_BESIDE: usize = 4;

/// Median TTFT of each policy.
pub fn ttft(out: &mut String, arms: &[Arm]) {
    let of = |arm: &Arm| arm.metrics.summary("ttft").map(|s| s.median);
    let longest = arms.iter().filter_map(of).fold(0.0, f64::max);
    line(out, format_args!("TTFT p50 (ms)"));
    for arm in arms {
        match of(arm) {
            Some(ms) => {
                line(out, format_args!("  {:<15} {} {ms:.1}", arm.policy, bar(ms, longest, LONG)));
            }
            None => line(out, format_args!("  {:<15} -", arm.policy)),
        }
    }
}

/// Share of the requests that each worker answered, for each policy.
pub fn shares(out: &mut String, arms: &[Arm]) {
    let shares: Vec<Vec<f64>> = arms.iter().map(shares_of).collect();
    let longest = shares.iter().flatten().copied().fold(0.0, f64::max);
    let workers = shares.first().map_or(0, Vec::len);
    let even = 100.0 / workers.max(1) as f64;
    line(out, format_args!("share of requests by worker (%, even is {even:.1})"));
    for (arm, shares) in arms.iter().zip(&shares) {
        for (i, beside) in shares.chunks(MOST_BESIDE).enumerate() {
            let name = if i == 0 { arm.policy.as_str() } else { "" };
            let bars: Vec<String> = beside
                .iter()
                .enumerate()
                .map(|(k, share)| {
                    let worker = i * MOST_BESIDE + k + 1;
                    let picture = bar(*share, longest, SHORT);
                    format!("w{worker} {picture}{} {share:>4.1}", " ".repeat(SHORT - picture.chars().count()))
                })
                .collect();
            line(out, format_args!("  {name:<15} {}", bars.join("  ")));
        }
    }
}

fn shares_of(arm: &Arm) -> Vec<f64> {
    let requests = arm.requests_by_worker();
    let all = requests.iter().sum::<u64>().max(1) as f64;
    requests.iter().map(|n| 100.0 * *n as f64 / all).collect()
}

/// A bar of `value` where `longest` has `cells` cells, to an eighth of a cell.
fn bar(value: f64, longest: f64, cells: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if longest <= 0.0 {
        return String::new();
    }
    let eighths = (value / longest * cells as f64 * 8.0).round().clamp(0.0, cells as f64 * 8.0) as usize;
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion() {
        assert_eq!(bar(10.0, 10.0, 4), "████");
        assert_eq!(bar(5.0, 10.0, 4), "██");
        assert_eq!(bar(1.0, 32.0, 4), "▏");
        assert_eq!(bar(0.0, 10.0, 4), "");
        assert_eq!(bar(1.0, 0.0, 4), "");
    }
}
