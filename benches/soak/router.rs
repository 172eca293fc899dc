//! The router under test: a child process, what the system says of it, and its end.
//!
//! Rule: only this child is ever signalled, and it ends with the value that started it. Its settings have every limit and
//! every way to get over a fault switched on, each short enough to be met in a run. Deliberately not here: what is asked of
//! it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::ticks::cpu_s;

/// Longest wait for the first line, and for the end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Largest request body that the router takes.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// Its settings besides addresses, files and the seed.
const FLAGS: &str = "--policy cache_aware --allow-policy-header \
    --max-concurrent-requests 28 --queue-size 6 --queue-timeout-secs 1 \
    --request-timeout-secs 6 --max-payload-size 1048576 --max-buffered-request-bytes 33554432 \
    --retry-initial-backoff-ms 20 --retry-max-backoff-ms 400 \
    --cb-failure-threshold 5 --cb-success-threshold 2 --cb-timeout-duration-secs 2 \
    --health-check-interval-secs 2 --health-check-timeout-secs 1 \
    --health-failure-threshold 2 --health-success-threshold 1 \
    --shutdown-grace-period-secs 20";

/// The child.
#[derive(Debug)]
pub struct Router {
    child: Child,
    /// Where clients go.
    pub at: SocketAddr,
    /// Where `/metrics` is.
    pub metrics_at: SocketAddr,
    /// Its trace.
    pub trace: PathBuf,
    log: PathBuf,
}

/// What `/proc` says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Resident memory, MiB.
    pub rss_mib: f64,
    /// Open descriptors.
    pub fds: usize,
    /// Threads.
    pub threads: u64,
    /// User and system time so far, seconds.
    pub cpu_s: f64,
}

impl Router {
    /// Starts it with these workers; `folder` takes its trace and its log.
    pub async fn start(folder: &Path, seed: u64, workers: &[&str]) -> Result<Self, String> {
        let (trace, log) = (folder.join("trace.jsonl"), folder.join("router.log"));
        let file = |path: &Path| File::create(path).map_err(|error| format!("{}: {error}", path.display()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
        command.args(["route", "--host", "127.0.0.1", "--port", "0"]);
        command.args(["--prometheus-host", "127.0.0.1", "--prometheus-port", "0"]);
        command
            .args(FLAGS.split_whitespace())
            .arg("--seed")
            .arg(seed.to_string())
            .arg("--trace-log")
            .arg(&trace);
        command.arg("--worker-urls").args(workers);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file(&log)?);
        let child = command.spawn().map_err(|error| format!("the router does not start: {error}"))?;
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut router = Self { child, at: nowhere, metrics_at: nowhere, trace, log };
        let found = router.look_for(|router| addresses(&router.said())).await;
        (router.at, router.metrics_at) =
            found.ok_or_else(|| format!("the router does not say where it is: {}", router.said()))?;
        Ok(router)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What the system says of it; `None` once it has ended.
    pub fn figures(&self) -> Option<Figures> {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = std::fs::read_to_string(proc.join("status")).ok()?;
        let value = |name: &str| {
            status.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        };
        Some(Figures {
            rss_mib: value("VmRSS:")? as f64 / 1024.0,
            threads: value("Threads:")?,
            fds: std::fs::read_dir(proc.join("fd")).ok()?.count(),
            cpu_s: cpu_s(&std::fs::read_to_string(proc.join("stat")).ok()?),
        })
    }

    /// SIGTERM; its exit code, or why there is none.
    pub async fn stop(&mut self) -> Result<i32, String> {
        let pid = Pid::from_child(&self.child);
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("it had ended before it was stopped: {status}"));
        }
        kill_process(pid, Signal::TERM).map_err(|error| format!("SIGTERM: {error}"))?;
        let ended = self.look_for(|router| router.child.try_wait().ok().flatten()).await;
        let status = ended.ok_or_else(|| format!("it had not ended {PATIENCE:?} after SIGTERM"))?;
        status.code().ok_or_else(|| format!("it was ended by a signal: {status}"))
    }

    async fn look_for<T>(&mut self, mut look: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
            if let Some(found) = look(self) {
                return Some(found);
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From the line that says where it routes.
fn addresses(said: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line = said.lines().find(|line| line.contains("routing on "))?;
    let after = |mark: &str, end: &[char]| line.split_once(mark)?.1.split(end).next()?.parse().ok();
    Some((after("routing on http://", &[','])?, after("metrics http://", &['/'])?))
}
