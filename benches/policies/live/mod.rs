//! The port of sglang-router 0.3.2 beside the original: the same requests over sockets to two simulated workers, and in virtual
//! time to two of the same; the shares of the workers have to be alike.
//!
//! Rule: what is not installed is told and skipped, never passed over; a run in which the client or the router had no CPU left says
//! nothing and is told as invalid. Which of its workers the original takes for the first is its own matter (the order of a hash
//! map), so the larger share is compared with the larger. Deliberately not here: speed, which `end_to_end` measures.

mod client;
mod original;
mod workers;

use std::fmt::Write;

use milepost::sim::Profile;
use milepost::sim::engine::Load;

use crate::arms::{Arm, Ask, End, PEER, Router};
use crate::play::{Fleet, play};
use crate::progress;
use crate::sglang_router_032::Port032;
use crate::workload::Workload;

/// Workers of either.
const WORKERS: usize = 2;
/// Requests of a run, and how many a second at full speed.
const REQUESTS: usize = 1_000;
const RATE: f64 = 20.0;
/// Times as fast as full speed.
const SPEEDUP: f64 = 2.0;
/// Percentage points by which shares may differ.
const TOLERANCE: f64 = 3.0;
/// More CPU of a core than this and a run is no measurement.
const MOST_CPU: f64 = 0.70;

/// One policy, beside itself.
struct Compared {
    policy: &'static str,
    port: f64,
    original: f64,
    client_cpu: f64,
    router_cpu: f64,
    late: f64,
}

impl Compared {
    fn verdict(&self) -> &'static str {
        if self.client_cpu > MOST_CPU || self.router_cpu > MOST_CPU {
            "invalid: no CPU left"
        } else if (self.port - self.original).abs() <= TOLERANCE {
            "alike"
        } else {
            "**differ**"
        }
    }
}

/// The text for the page, or why there is none; and whether all agree.
pub fn check() -> Result<(String, bool), String> {
    let version = match original::version() {
        Some(version) if version == original::VERSION => version,
        found => {
            let found = found.unwrap_or_else(|| "none".to_owned());
            return Ok((
                format!(
                    "Skipped: it needs sglang-router {} in python3 (pip install sglang-router=={0}), found {found}.\n",
                    original::VERSION
                ),
                true,
            ));
        }
    };
    let workload = Workload::for_live_check(1, REQUESTS);
    let mut all = Vec::new();
    for policy in Port032::NAMES {
        progress::show(&format!("live: {policy}"));
        all.push(compare(policy, &workload)?);
    }
    progress::show("");
    let agree = all.iter().all(|compared| compared.verdict() == "alike");
    Ok((table(&version, &all), agree))
}

fn compare(policy: &'static str, workload: &Workload) -> Result<Compared, String> {
    let fleet = Fleet { profile: Profile::default(), workers: WORKERS };
    let name = format!("{PEER} {policy}");
    let arm =
        Arm::all().into_iter().find(|arm| arm.name == name).ok_or_else(|| format!("{name}: no such arm"))?;
    let mut port = Unpolled(arm.start(1, WORKERS)?);
    let played = play(workload, RATE, &fleet, &mut port);
    let mut counts = [0; WORKERS];
    played.rows.iter().for_each(|row| counts[row.worker] += 1);
    let workers = workers::Workers::start(WORKERS, SPEEDUP).map_err(|e| format!("workers: {e}"))?;
    let router = original::Original::start(policy, workers.ports())?;
    let sent = client::send(workload, RATE * SPEEDUP, &router, &workers)?;
    Ok(Compared {
        policy,
        port: larger_share(&counts),
        original: larger_share(&sent.by_worker),
        client_cpu: sent.client_cpu,
        router_cpu: sent.router_cpu,
        late: workers.late_share(),
    })
}

/// A port that hears of no loads: the original polls every 30 s, a run is shorter, and what was idle at its start says 0.
struct Unpolled(Box<dyn Router>);

impl Router for Unpolled {
    fn choose(&mut self, now_ns: u64, ask: &Ask<'_>) -> usize {
        self.0.choose(now_ns, ask)
    }

    fn first_token(&mut self, now_ns: u64, seq: u64, worker: usize, ttft_ns: u64) {
        self.0.first_token(now_ns, seq, worker, ttft_ns);
    }

    fn ended(&mut self, now_ns: u64, end: &End) {
        self.0.ended(now_ns, end);
    }

    fn poll_every_ns(&self) -> Option<u64> {
        None
    }

    fn loaded(&mut self, _now_ns: u64, _worker: usize, _load: &Load) {}
}

/// Percent.
fn larger_share(counts: &[u64]) -> f64 {
    let all: u64 = counts.iter().sum();
    counts.iter().max().copied().unwrap_or(0) as f64 * 100.0 / all.max(1) as f64
}

fn table(version: &str, all: &[Compared]) -> String {
    let mut out = format!(
        "`cargo bench --bench policies -- --live`: {REQUESTS} requests at {:.0}/s through sglang-router {version} over sockets to \
         {WORKERS} simulated workers at {SPEEDUP} times\nfull speed, and the same ones through the port in virtual time. Half of them \
         share a prefix with others. The larger share of\nthe two workers must be alike within {TOLERANCE} points; a run is invalid \
         with client or router above {:.0} % of a core.\n\n\
         | policy | port, % | original, % | | CPU of client, % | CPU of router, % | late steps, % |\n|---|--:|--:|---|--:|--:|--:|\n",
        RATE * SPEEDUP,
        MOST_CPU * 100.0
    );
    for compared in all {
        let _ = writeln!(
            out,
            "| `{}` | {:.1} | {:.1} | {} | {:.0} | {:.0} | {:.1} |",
            compared.policy,
            compared.port,
            compared.original,
            compared.verdict(),
            compared.client_cpu * 100.0,
            compared.router_cpu * 100.0,
            compared.late * 100.0
        );
    }
    out
}
