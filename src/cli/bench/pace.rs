//! `milepost bench --pace-check`: how well this machine keeps a schedule, without a target.
//!
//! Rule: what is printed was measured just now. Deliberately not here: the measurement (`load::pace_check`).

use std::fmt::Write as _;

use crate::clock::Clock;
use crate::load::pace_check::{PaceCheck, check};
use crate::load::schedule::{Arrivals, Schedule};
use crate::report::stats::Samples;
use crate::stdio::tell_line;

/// Time of a check that is not given any.
const CHECK_S: f64 = 5.0;
/// Requests of a check at most.
const MOST_REQUESTS: usize = 2_000_000;
/// What a dedicated core keeps: below it lateness does not show in any figure of milliseconds.
const GOOD_P99_US: f64 = 100.0;
/// Beyond it latencies from the schedule are no longer the server's alone.
const BAD_P99_US: f64 = 1_000.0;

/// Keeps the schedule and says how it went.
pub(super) async fn pace_check(arrivals: &Arrivals, seed: u64) -> Result<String, String> {
    let per_second = arrivals.mean_per_s().unwrap_or(1.0);
    let schedule = if arrivals.ends_by_itself() {
        Schedule::new(arrivals, MOST_REQUESTS, seed)
    } else {
        let requests = (per_second * CHECK_S).ceil().max(2.0);
        Schedule::new(arrivals, (requests as usize).min(MOST_REQUESTS), seed)
    };
    tell_line(&format!(
        "keeping {} arrivals over {:.1} s ...",
        schedule.at_ns.len(),
        schedule.last_ns() as f64 / 1e9
    ));
    // As in a run, on a thread of the runtime.
    let checked = tokio::spawn(async move { check(schedule, &Clock::system()).await }).await;
    let check = checked
        .map_err(std::io::Error::from)
        .and_then(|check| check)
        .map_err(|e| format!("--pace-check: {e}"))?;
    table(arrivals, &check).ok_or_else(|| "--pace-check: no request is due".to_owned())
}

fn table(arrivals: &Arrivals, check: &PaceCheck) -> Option<String> {
    let requests = check.late_us.len();
    let late = check.late_us.iter().copied().collect::<Samples>().summary()?;
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // A string takes everything.
        let _ = writeln!(out, "{name:<36} {value:>12}");
    };
    line("Arrivals", arrivals.shape.to_string());
    line("Asked rate (req/s)", format!("{:.1}", arrivals.mean_per_s().unwrap_or(0.0)));
    line("Requests", requests.to_string());
    line("Schedule, first to last (s)", format!("{:.4}", check.planned_s));
    line("Kept in (s)", format!("{:.4}", check.took_s));
    line("Lateness p50 (ms)", format!("{:.4}", late.median / 1e3));
    line("Lateness p99 (ms)", format!("{:.4}", late.p99 / 1e3));
    line("Lateness p99.9 (ms)", format!("{:.4}", late.p999 / 1e3));
    line("Lateness max (ms)", format!("{:.4}", late.max / 1e3));
    line("CPU (cores)", format!("{:.2}", check.cpu_cores));
    let verdict = match late.p99 {
        ..GOOD_P99_US => "This machine keeps the schedule: its lateness shows in no figure of milliseconds.",
        ..BAD_P99_US => {
            "This machine keeps the schedule to a part of a millisecond: leave a core free for a better one."
        }
        _ => {
            "This machine does NOT keep the schedule: free a core, lower the rate, or use more than one client."
        }
    };
    let _ = writeln!(out, "\n{verdict}");
    let _ = writeln!(
        out,
        "Lateness is first write returned - scheduled; reading answers costs CPU that is not in this."
    );
    Some(out)
}
