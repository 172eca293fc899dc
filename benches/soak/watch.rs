//! Looks at the router once a second, and a line every ten.
//!
//! Deliberately not here: judgement (`flat`, `settle`, `audit`).

use std::time::Duration;

use tokio::time::Instant;

use crate::flat::Sample;
use crate::ledger::Ledger;
use crate::router::{Figures, Router};

/// Between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Samples to a line.
const SAMPLES_A_LINE: u32 = 10;
/// Largest trace: a run that would write more ends early, and says so.
const MAX_TRACE_BYTES: u64 = 2_000_000_000;

/// Names of the columns.
pub const HEADING: &str = "     s  requests        ok     4xx     5xx  broken    left  open  RSS MiB  fds  threads  CPU %  trace MB";

/// Watches for `how_long`, or until the router or the disk's share has ended; the samples.
pub async fn watch(router: &Router, ledger: &Ledger, how_long: Duration) -> Vec<Sample> {
    let began = Instant::now();
    let mut samples = Vec::new();
    let mut before = (0.0, router.figures().unwrap_or_default().cpu_s);
    println!("{HEADING}");
    for n in 1.. {
        tokio::time::sleep_until(began + SAMPLE_EVERY * n).await;
        let at_s = began.elapsed().as_secs_f64();
        let Some(figures) = router.figures() else {
            ledger.complain(format!("the router was gone after {at_s:.0} s"));
            break;
        };
        samples.push(Sample { at_s, rss_mib: figures.rss_mib });
        let trace_bytes = std::fs::metadata(&router.trace).map_or(0, |file| file.len());
        if n % SAMPLES_A_LINE == 0 {
            line(ledger, at_s, figures, before, trace_bytes);
            before = (at_s, figures.cpu_s);
        }
        if trace_bytes > MAX_TRACE_BYTES {
            ledger.complain(format!("the trace has {MAX_TRACE_BYTES} bytes after {at_s:.0} s: less --rate"));
            break;
        }
        if began.elapsed() >= how_long {
            break;
        }
    }
    samples
}

fn line(ledger: &Ledger, at_s: f64, figures: Figures, before: (f64, f64), trace_bytes: u64) {
    let tally = ledger.tally();
    let Figures { rss_mib, fds, threads, cpu_s } = figures;
    let cpu_percent = 100.0 * (cpu_s - before.1) / (at_s - before.0);
    println!(
        "{at_s:>6.0} {:>9} {:>9} {:>7} {:>7} {:>7} {:>7} {:>5} {rss_mib:>8.1} {fds:>4} {threads:>8} {cpu_percent:>6.1} {:>9.1}",
        tally.asked,
        tally.ok,
        tally.client_errors,
        tally.server_errors,
        tally.broken,
        tally.left,
        tally.open(),
        trace_bytes as f64 / 1e6,
    );
}
