//! One run of one tool: its process is watched while it sends, and the server is asked what it saw.
//!
//! Rule: what a tool sends before the run proper (a probe, a warm-up) is not part of it, nor is the CPU that it needs to start
//! and to end: both are cut at the first arrival and the last answer. A run that did not send what it was asked for is no
//! number. Deliberately not here: which runs, and what is told of them.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use milepost::clock::Clock;

use crate::broken::Broken;
use crate::process::{self, Cpu, Process};
use crate::server::{Beat, Seen, Server};
use crate::tokenizer;
use crate::tools::{Call, Pace, Reported, Tool};

/// Looks at a tool's CPU.
const LOOK: Duration = Duration::from_millis(50);
/// A tool that runs so much longer than its load is ended.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is said of one begins so.
pub const NOT_ENDED: &str = "not ended";

/// Where everything runs.
pub struct Stage {
    server: Server,
    server_cores: Vec<usize>,
    tool_cores: Vec<usize>,
    folder: PathBuf,
    runs: usize,
    clock: Clock,
}

/// What a run was.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The requests of the run proper, by arrival.
    pub seen: Vec<Seen>,
    /// CPU of the tool from the first arrival to the last answer.
    pub cpu_ns: f64,
    /// What it says.
    pub reported: Reported,
    /// How it doubted its own run, where it does such a thing.
    pub doubt: Option<String>,
}

impl Outcome {
    /// Tokens that were sent.
    pub fn tokens(&self) -> u64 {
        self.seen.iter().map(|s| s.tokens).sum()
    }

    /// Arrival to first token as the server did it, mean and 99th percentile.
    pub fn true_ttft_ms(&self) -> (f64, f64) {
        let mut all: Vec<f64> =
            self.seen.iter().map(|s| s.first_token_ns.saturating_sub(s.arrived_ns) as f64 / 1e6).collect();
        all.sort_by(f64::total_cmp);
        let n = all.len().max(1);
        (all.iter().sum::<f64>() / n as f64, all.get((n - 1) * 99 / 100).copied().unwrap_or(0.0))
    }

    /// Most requests that were open at the same time.
    pub fn most_open(&self) -> usize {
        let begun = self.seen.iter().map(|s| (s.arrived_ns, 1));
        let mut edges: Vec<(u64, i64)> =
            begun.chain(self.seen.iter().map(|s| (s.ended_ns.max(s.arrived_ns), -1))).collect();
        edges.sort_unstable();
        let open = edges.iter().scan(0, |open, (_, by)| {
            *open += by;
            Some(*open)
        });
        open.max().unwrap_or(0) as usize
    }
}

impl Stage {
    /// The server runs on `server_cores`, tools on `tool_cores`; with two cores both have both, unless a run says otherwise.
    pub fn new() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let all: Vec<usize> = (0..cores).collect();
        let (server_cores, tool_cores) = if cores < 4 {
            (all.clone(), all.clone())
        } else {
            let (first, rest) = all.split_at(cores / 4);
            (first.to_vec(), rest.to_vec())
        };
        let folder = std::env::temp_dir().join(format!("milepost-load-generators-{}", std::process::id()));
        tokenizer::write(&folder.join("tokenizer"))?;
        let server = Server::start(&server_cores, &all)?;
        Ok(Self { server, server_cores, tool_cores, folder, runs: 0, clock: Clock::system() })
    }

    /// Which cores have what, in words.
    pub fn told(&self) -> String {
        if self.server_cores == self.tool_cores {
            "server and tool share all cores".to_owned()
        } else {
            format!(
                "server on {} cores, tools on the other {}",
                self.server_cores.len(),
                self.tool_cores.len()
            )
        }
    }

    /// Makes a run; `one_core`: the tool has the last core and nothing else.
    pub fn run(
        &mut self,
        tool: Tool,
        (pace, requests, tokens): (Pace, usize, u64),
        beat: Beat,
        one_core: bool,
    ) -> Result<Outcome, Broken> {
        let broken = |e: io::Error| Broken::invalid(e.to_string());
        self.runs += 1;
        let folder = self.folder.join(format!("run{}", self.runs));
        fs::create_dir_all(&folder).map_err(broken)?;
        self.server.keep(beat);
        self.server.take();
        let url = format!("http://{}", self.server.address);
        let call = Call { url, folder: folder.clone(), pace, requests, tokens };
        let all: Vec<usize> = self.server_cores.iter().chain(&self.tool_cores).copied().collect();
        let last: Vec<usize> = all.iter().copied().max().into_iter().collect();
        let cores = if one_core { &last } else { &self.tool_cores };
        let command = tool.command(&call, &self.folder.join("tokenizer"));
        let errors = folder.join("errors");
        let mut process = Process::start(command, cores, &all, errors).map_err(broken)?;
        let (used, said) = self.watch(&mut process, call_s(&call, beat))?;
        let doubt = tool.doubt(&said)?;
        let mut seen = self.server.take();
        let extra = seen
            .len()
            .checked_sub(requests)
            .ok_or_else(|| Broken::invalid(format!("sent {} of {requests} requests", seen.len())))?;
        // What came before was a probe or a warm-up.
        seen.drain(..extra);
        if let Some(cut) = seen.iter().filter(|s| s.ended_ns == 0).count().checked_sub(1) {
            return Err(Broken::invalid(format!("left {} answers before their end", cut + 1)));
        }
        let from_ns = seen.first().map_or(0, |s| s.arrived_ns);
        let to_ns = seen.iter().map(|s| s.ended_ns).max().unwrap_or(0);
        let cpu_ns = at(&used, to_ns) - at(&used, from_ns);
        let outcome = Outcome { seen, cpu_ns, reported: tool.reported(&folder), doubt };
        // A run's files are of no more use, and many of them are large.
        let _ = fs::remove_dir_all(&folder);
        Ok(outcome)
    }

    /// Waits for the tool's end; its CPU by moment, and how it ended.
    fn watch(&self, process: &mut Process, load: Duration) -> Result<(Vec<(u64, f64)>, String), Broken> {
        let began_ns = self.clock.mono_ns();
        let none = Cpu::default();
        let (mut used, mut last, mut sum_ns) = (Vec::new(), none, 0.0);
        loop {
            process::check()?;
            let now = process.cpu();
            // Summed look by look, as a thread that has ended is seen no more.
            sum_ns += now.since(&last) as f64;
            last = now;
            used.push((self.clock.mono_ns(), sum_ns));
            if let Some(said) = process.ended() {
                return Ok((used, said));
            }
            if self.clock.mono_ns() - began_ns > (load + PATIENCE).as_nanos() as u64 {
                return Err(Broken::invalid(format!("{NOT_ENDED} after {} s", (load + PATIENCE).as_secs())));
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What is left of it is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// How long the load lasts if it is made as asked.
fn call_s(call: &Call, beat: Beat) -> Duration {
    let each = beat.first + beat.gap * call.tokens as u32;
    match call.pace {
        Pace::Rate(per_s, _) => Duration::from_secs_f64(call.requests as f64 / per_s) + each,
        Pace::Closed(places) => each * call.requests.div_ceil(places.max(1)) as u32,
    }
}

/// The value at a moment, on the line between its neighbours.
fn at(line: &[(u64, f64)], moment_ns: u64) -> f64 {
    let next = line.partition_point(|(at, _)| *at < moment_ns);
    let (Some(&(to, b)), Some(&(from, a))) = (line.get(next), next.checked_sub(1).and_then(|n| line.get(n)))
    else {
        return line.get(next).or(line.last()).map_or(0.0, |(_, value)| *value);
    };
    a + (b - a) * (moment_ns - from) as f64 / (to - from).max(1) as f64
}
