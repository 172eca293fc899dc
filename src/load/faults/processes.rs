//! Simulated workers as processes of their own: started, killed and started again at the same port.
//!
//! Rule: none outlives its owner. Each is ended by its id, and its standard input is a pipe whose other end closes with this
//! process however that ends, which a worker takes for the word to end. They are in a process group of their own, so that the
//! terminal's Ctrl-C does not take them from under the run. Deliberately not here: what they do wrong while they run (`switch`).

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use super::StopBy;

/// Longest wait for a worker to listen.
const UP: Duration = Duration::from_secs(30);
/// Longest wait for one that was asked to end; then it is killed.
const DOWN: Duration = Duration::from_secs(10);
/// Between two looks whether one has ended.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes of its errors that are kept.
const TOLD_BYTES: u64 = 4096;

/// How workers are started.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The program: this one.
    pub program: PathBuf,
    /// Flags of `milepost worker`, its port left out.
    pub flags: Vec<String>,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Process {
    recipe: Recipe,
    /// `http://host:port`, the same at each start.
    pub(super) url: String,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// The beginning of what it said on standard error.
    told: JoinHandle<String>,
}

impl Process {
    /// Starts one at a free port.
    pub(super) async fn start(recipe: &Recipe) -> Result<Self, String> {
        let (running, url) = Running::start(recipe, "0").await?;
        Ok(Self { recipe: recipe.clone(), url, running: Some(running) })
    }

    /// Starts it again where it was.
    pub(super) async fn start_again(&mut self) -> Result<(), String> {
        if self.running.is_some() {
            return Err("it runs".to_owned());
        }
        let port = self.url.rsplit(':').next().unwrap_or_default();
        let (running, url) = Running::start(&self.recipe, port).await?;
        self.running = Some(running);
        if url == self.url { Ok(()) } else { Err(format!("it listens at {url} now, not at {}", self.url)) }
    }

    /// Ends it, and returns when it has ended.
    pub(super) async fn stop(&mut self, by: StopBy) -> Result<(), String> {
        let Some(mut running) = self.running.take() else { return Err("it does not run".to_owned()) };
        if let Ok(Some(status)) = running.child.try_wait() {
            return Err(format!("it had ended before, with {status}: {}", running.last_words()));
        }
        if by == StopBy::Kill {
            return running
                .child
                .kill()
                .and_then(|()| running.child.wait())
                .map(drop)
                .map_err(|e| e.to_string());
        }
        kill_process(Pid::from_child(&running.child), Signal::TERM).map_err(|e| e.to_string())?;
        let ended = async {
            while let Ok(None) = running.child.try_wait() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let late = |_| format!("it had not ended {} s after SIGTERM and was killed", DOWN.as_secs());
        tokio::time::timeout(DOWN, ended).await.map_err(late)
    }
}

impl Running {
    /// Started and listening; at which URL.
    async fn start(recipe: &Recipe, port: &str) -> Result<(Self, String), String> {
        let mut command = Command::new(&recipe.program);
        command.args(["worker", "--end-with-stdin", "--allow-faults", "--port", port]).args(&recipe.flags);
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|e| format!("cannot start {}: {e}", recipe.program.display()))?;
        let (said, url) = oneshot::channel();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        std::thread::spawn(move || find_url(stdout, said));
        let told = std::thread::spawn(move || beginning(stderr));
        // Whatever comes: dropped, it is ended.
        let mut running = Self { child, told };
        match tokio::time::timeout(UP, url).await {
            Ok(Ok(url)) => Ok((running, url)),
            Ok(Err(_)) => Err(format!("a worker ended at its start: {}", running.last_words())),
            Err(_) => Err(format!("a worker did not listen in {} s: {}", UP.as_secs(), running.last_words())),
        }
    }

    /// Ends it and tells what it had said.
    fn last_words(&mut self) -> String {
        self.end();
        let told = std::mem::replace(&mut self.told, std::thread::spawn(String::new));
        told.join().unwrap_or_default().trim().to_owned()
    }

    fn end(&mut self) {
        // One that has ended is none that can be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads to the end, as a full pipe would hold the worker up.
fn find_url(stdout: Option<impl Read>, said: oneshot::Sender<String>) {
    let mut said = Some(said);
    let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
    for line in lines.map_while(Result::ok) {
        if let Some((_, rest)) = line.split_once(" on http://")
            && let Some(said) = said.take()
        {
            // Nobody waits for it any more where it came too late.
            let _ = said.send(format!("http://{}", rest.trim()));
        }
    }
}

fn beginning(stderr: Option<impl Read>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut told = Vec::new();
    // What cannot be read was not said.
    let _ = stderr.by_ref().take(TOLD_BYTES).read_to_end(&mut told);
    let _ = std::io::copy(&mut stderr, &mut std::io::sink());
    String::from_utf8_lossy(&told).into_owned()
}

/// Several, known by their numbers from 1.
#[derive(Debug)]
pub(super) struct Processes(Vec<Slot>);

#[derive(Debug)]
struct Slot {
    url: String,
    /// Absent while something is done to it.
    process: Mutex<Option<Process>>,
}

impl Processes {
    /// Starts so many.
    pub(super) async fn start(count: usize, recipe: &Recipe) -> Result<Self, String> {
        let mut slots = Vec::with_capacity(count);
        for _ in 0..count {
            let process = Process::start(recipe).await?;
            slots.push(Slot { url: process.url.clone(), process: Mutex::new(Some(process)) });
        }
        Ok(Self(slots))
    }

    /// Where they listen.
    pub(super) fn urls(&self) -> Vec<String> {
        self.0.iter().map(|slot| slot.url.clone()).collect()
    }

    /// Where one listens; `None`: there is none of this number.
    pub(super) fn url(&self, number: &str) -> Option<&str> {
        self.slot(number).map(|slot| slot.url.as_str())
    }

    fn slot(&self, number: &str) -> Option<&Slot> {
        self.0.get(number.parse::<usize>().ok()?.checked_sub(1)?)
    }

    /// Stops one, or starts it again.
    pub(super) async fn turn(&self, number: &str, stop: Option<StopBy>) -> Result<(), String> {
        let slot = self.slot(number).ok_or("no such process was started")?;
        let held = || slot.process.lock().unwrap_or_else(PoisonError::into_inner);
        let mut process = held().take().ok_or("something else is done to it")?;
        let done = match stop {
            Some(by) => process.stop(by).await,
            None => process.start_again().await,
        };
        *held() = Some(process);
        done
    }
}
