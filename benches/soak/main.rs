//! A soak: the release router among workers that fail and clients that leave, for half an hour; then its books are audited.
//!
//! `cargo bench --bench soak -- --minutes 30 --seed 1`. Every kind of fault and of client at once is what no single test has,
//! and what grows or goes missing slowly shows in no short one. The verdict: each request that was sent has one record which
//! says what its client saw, requests = records + lost with none lost, everything is given back, memory is flat, and the
//! process ends with 0 on SIGTERM without a panic. Exit code 0 if all of it is true, 1 if not, 2 for a wrong argument.
//! It is a bench target because cargo then builds the router as it is released and hands its path over, and because it takes
//! too long to be a test. The rules by which it judges have tests (`tests/soak_rules.rs`). Deliberately not here: speed.

mod agree;
mod answers;
mod audit;
mod dice;
mod flat;
mod ledger;
mod line;
mod operator;
mod options;
mod page;
mod router;
mod seen;
mod settle;
mod stage;
mod ticks;
mod visits;
mod watch;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::audit::Audit;
use crate::dice::Dice;
use crate::flat::Sample;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::page::Page;
use crate::router::Router;
use crate::stage::Stage;
use crate::worker::Worker;

/// Connections at a time; most wait for their turn.
const VISITORS: u64 = 128;
/// Longest wait for the last clients: longer than any visit.
const LAST_CLIENTS: Duration = Duration::from_secs(180);
/// Streams that are under way when the router is stopped.
const LAST_STREAMS: u64 = 16;
/// Most looks whether they are, and the time between two.
const LOOKS: u32 = 250;
const LOOK: Duration = Duration::from_millis(20);
/// Offenders that are named.
const NAMED: usize = 10;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let judged = match runtime {
        Ok(runtime) => runtime.block_on(soak(&options)),
        Err(error) => Err(format!("cannot start the runtime: {error}")),
    };
    match judged {
        Ok(offences) if offences.is_empty() => {
            println!("PASSED");
            ExitCode::SUCCESS
        }
        Ok(offences) => {
            println!("FAILED: {} offences, the first {NAMED}:", offences.len());
            offences.iter().take(NAMED).for_each(|offence| println!("  {offence}"));
            ExitCode::FAILURE
        }
        Err(why) => {
            println!("FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The whole run: what is wrong, or why there was none.
async fn soak(options: &Options) -> Result<Vec<String>, String> {
    let folder = Folder::create(options)?;
    let ledger = Arc::new(Ledger::default());
    let workers = (0..options.workers).map(|n| Worker::start(n, options.seed, &ledger));
    let workers: Vec<Arc<Worker>> = workers.collect::<Result<_, _>>()?;
    let urls: Vec<&str> = workers.iter().map(|worker| worker.url.as_str()).collect();
    let mut router = Router::start(&folder.path, options.seed, &urls).await?;
    // Its first checks come and go.
    let (_, busy) = settle::settle(&router, &workers, usize::MAX).await;
    let idle = router.figures().ok_or("the router is gone before the load")?;
    println!(
        "soak: seed {}, {} minutes, {} requests/s, {} workers; router pid {} at {}, idle {:.1} MiB, {} descriptors",
        options.seed,
        options.minutes,
        options.rate,
        options.workers,
        router.pid(),
        router.at,
        idle.rss_mib,
        idle.fds
    );
    let stage = Stage::new(router.at, &ledger, options.seed, options.rate);
    let samples = load(options, &stage, &router, &workers).await;
    let (page, held) = settle::settle(&router, &workers, idle.fds).await;
    let stopped_from = ledger.tally().asked as usize;
    let code = stop_amid_streams(options, &stage, &mut router, &page).await;
    let audit = audit::audit(&router.trace, &ledger, &page, stopped_from);
    let mut offences = told(&router, code);
    offences.extend(busy.into_iter().chain(held).chain(memory(&samples)));
    summary(&audit, &page);
    offences.extend(audit.offences);
    Ok(offences)
}

/// The load, for its time and until its last client has ended.
async fn load(
    options: &Options,
    stage: &Arc<Stage>,
    router: &Router,
    workers: &[Arc<Worker>],
) -> Vec<Sample> {
    let mut clients = JoinSet::new();
    for visitor in 0..VISITORS {
        clients.spawn(visits::come_and_go(Arc::clone(stage), Dice::of(options.seed, visitor)));
    }
    let dice = Dice::of(options.seed, VISITORS);
    clients.spawn(operator::operate(Arc::clone(stage), workers.to_vec(), dice));
    let samples = watch::watch(router, &stage.ledger, Duration::from_secs_f64(options.minutes * 60.0)).await;
    stage.close();
    let last = tokio::time::timeout(LAST_CLIENTS, async {
        while let Some(ended) = clients.join_next().await {
            if let Err(error) = ended {
                stage.ledger.complain(format!("a client of the soak's own failed: {error}"));
            }
        }
    });
    if last.await.is_err() {
        stage.ledger.complain(format!("{} clients had not ended after {LAST_CLIENTS:?}", clients.len()));
        clients.shutdown().await;
    }
    samples
}

/// SIGTERM while streams are under way: they end as they would have, and then the process does.
async fn stop_amid_streams(
    options: &Options,
    stage: &Arc<Stage>,
    router: &mut Router,
    page: &Page,
) -> Result<i32, String> {
    let mut clients = JoinSet::new();
    for n in 0..LAST_STREAMS {
        let dice = Dice::of(options.seed, VISITORS + 1 + n);
        clients.spawn(visits::linger(Arc::clone(stage), dice));
    }
    let accepted = |page: &Page| page.sum("smg_http_requests_total", "");
    let due = accepted(page) + LAST_STREAMS.cast_signed();
    for _ in 0..LOOKS {
        // The router has taken up all of them, or it would owe them nothing.
        if let Ok(page) = Page::fetch(router.metrics_at).await
            && accepted(&page) >= due
        {
            println!("SIGTERM amid {} streams", page.sum("milepost_requests_in_flight", ""));
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let code = router.stop().await;
    while clients.join_next().await.is_some() {}
    code
}

/// What the process said and how it ended.
fn told(router: &Router, code: Result<i32, String>) -> Vec<String> {
    let said = router.said();
    let mut offences: Vec<String> = said
        .lines()
        .filter(|line| line.contains("panicked"))
        .map(|line| format!("in the log: {line}"))
        .collect();
    match code {
        Ok(0) => println!("exit code 0 on SIGTERM, {} lines of log, no panic in them", said.lines().count()),
        Ok(code) => offences.push(format!("exit code {code} on SIGTERM")),
        Err(why) => offences.push(why),
    }
    offences
}

fn memory(samples: &[Sample]) -> Option<String> {
    let Some(flat) = flat::judge(samples) else {
        println!("memory: not judged, the run is too short");
        return None;
    };
    let said = format!(
        "memory after warm-up: median {:.1} MiB in the first third, {:.1} in the last; \
         slope {:+.1} MiB/h, {:+.1} MiB in all; tolerance {:.1} MiB",
        flat.first_mib, flat.last_mib, flat.slope_mib_per_h, flat.line_growth_mib, flat.tolerance_mib
    );
    println!("{said}");
    (!flat.holds()).then(|| format!("not flat: {said}"))
}

fn summary(audit: &Audit, page: &Page) {
    let Audit { sent, records, lost, connections, breakers_opened, outcomes, visits, .. } = audit;
    let requests = page.sum("smg_http_requests_total", "");
    println!(
        "requests {requests} and {LAST_STREAMS} more through the stop (sent {sent}) = records {records} + lost {lost}; \
         {connections} connection records"
    );
    println!("outcomes: {}", counts(outcomes));
    println!("clients:  {}", counts(visits));
    let retries = page.sum("smg_worker_retries_total", "");
    let turned_away = page.sum("smg_http_rate_limit_total", "rejected");
    println!(
        "router:   {retries} retries, {breakers_opened} breakers opened, {turned_away} turned away by the limits"
    );
}

fn counts(of: &std::collections::BTreeMap<&str, u64>) -> String {
    of.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

/// Where the files are; deleted in the end unless they are to be kept.
struct Folder {
    path: PathBuf,
    is_kept: bool,
}

impl Folder {
    fn create(options: &Options) -> Result<Self, String> {
        let name = format!("milepost-soak-{}", std::process::id());
        let path = options.keep.clone().unwrap_or_else(|| std::env::temp_dir().join(name));
        let made = std::fs::create_dir_all(&path);
        made.map_err(|error| format!("{}: {error}", path.display()))?;
        let is_kept = options.keep.is_some();
        let trace: &Path = &path.join("trace.jsonl");
        if trace.exists() {
            return Err(format!("{} is there already, and a trace is appended to", trace.display()));
        }
        Ok(Self { path, is_kept })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be deleted is in the folder for such files.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
