//! The proxies that are compared, and how each is started.
//!
//! Rule: what is not installed is named and left out, never a silent gap. Each runs on one core, with settings that make it
//! fast at this work and change nothing else. Deliberately not here: what is measured.

mod programs;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::load::{Broken, Case, Load, Pace};
use crate::process::{Cpu, Process};

/// Longest wait for a proxy to answer; sglang-router imports Python first.
const START_PAUSES: u32 = 600;
/// Between two questions whether it answers.
const START_PAUSE: Duration = Duration::from_millis(100);
/// Ports may be taken between the moment they were found free and the start.
const START_TRIES: u32 = 3;

/// A row of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// No proxy.
    Direct,
    /// haproxy.
    Haproxy,
    /// nginx.
    Nginx,
    /// sglang-router with a policy.
    SglangRouter(&'static str),
    /// smg, its successor, with a policy.
    Smg(&'static str),
    /// This router with a policy, with a trace or without.
    Milepost(&'static str, Tracing),
}

/// How a router of ours traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// What its row says of it.
    pub title: &'static str,
    /// The flags that ask for it; its paths are in the router's folder.
    pub flags: &'static [&'static str],
}

impl Tracing {
    /// Not at all.
    pub const OFF: Self = Self { title: "no trace", flags: &[] };
    /// Among the flags: a collector's URL. The first worker is one too, as it answers whatever it is sent.
    pub const COLLECTOR: &str = "COLLECTOR";
    /// As whoever asks for a trace gets it.
    pub const FILE: Self = Self { title: "trace", flags: &["--trace-log", programs::TRACE] };

    /// The router keeps its files small itself.
    fn is_limited(self) -> bool {
        self.flags.contains(&"--trace-max-size")
    }
}

impl Peer {
    /// What a user gets who asks for a trace: the row that counts.
    pub const HEADLINE: Self = Self::Milepost("cache_aware", Tracing::FILE);

    /// In the order of the tables.
    pub const ALL: [Self; 11] = [
        Self::Direct,
        Self::HEADLINE,
        Self::Milepost("cache_aware", Tracing::OFF),
        Self::Milepost("round_robin", Tracing::FILE),
        Self::Milepost("round_robin", Tracing::OFF),
        Self::Haproxy,
        Self::Nginx,
        Self::SglangRouter("round_robin"),
        Self::SglangRouter("cache_aware"),
        Self::Smg("round_robin"),
        Self::Smg("cache_aware"),
    ];

    /// The name of its row.
    pub fn name(self) -> String {
        match self {
            Self::Direct => "direct".to_owned(),
            Self::Haproxy => "haproxy".to_owned(),
            Self::Nginx => "nginx".to_owned(),
            Self::SglangRouter(policy) => format!("sglang-router {policy}"),
            Self::Smg(policy) => format!("smg {policy}"),
            Self::Milepost(policy, tracing) => format!("milepost {policy}, {}", tracing.title),
        }
    }

    /// Those of `only` (words, all if none) that are there, and why others are not. Direct is always there.
    pub fn chosen(only: &[String]) -> (Vec<Self>, Vec<String>) {
        let wanted =
            |peer: &Self| only.is_empty() || only.iter().any(|word| peer.name().contains(word.as_str()));
        let mut missing = Vec::new();
        let chosen = Self::ALL.into_iter().filter(|peer| *peer == Self::Direct || wanted(peer));
        let chosen = chosen.filter(|peer| match programs::why_missing(*peer) {
            Some(why) => {
                missing.push(format!("{}: left out, {why}", peer.name()));
                false
            }
            None => true,
        });
        (chosen.collect(), missing)
    }

    /// What is compared, one line a program.
    pub fn versions(peers: &[Self]) -> Vec<String> {
        let mut lines: Vec<String> = peers.iter().filter_map(|peer| programs::version(*peer)).collect();
        lines.dedup();
        lines
    }
}

/// Where proxies run and what is behind them.
pub struct Stage {
    /// Configuration files, traces, what they say on standard error. Removed at the end.
    folder: PathBuf,
    /// Cores of the machine.
    pub cores: usize,
    /// Cores of a proxy.
    pub proxy_cores: Vec<usize>,
    /// The load's core.
    pub load_cores: Vec<usize>,
    started: u32,
}

impl Stage {
    /// The last core for the proxies, the first for the load, which is one thread.
    pub fn new() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("milepost-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self { folder, cores, proxy_cores: vec![cores - 1], load_cores: vec![0], started: 0 })
    }

    /// For whatever is to be removed at the end.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same, for proxies on other cores.
    pub fn on_cores(&mut self, proxy_cores: Vec<usize>) {
        self.proxy_cores = proxy_cores;
    }

    /// Starts a proxy before the first `workers` workers of the load, and waits for it to answer.
    pub fn start(&mut self, peer: Peer, load: &mut Load, workers: usize) -> Result<Running, Broken> {
        if peer == Peer::Direct {
            return Ok(Running {
                peer,
                name: peer.name(),
                port: load.ports()[0],
                process: None,
                folder: PathBuf::new(),
            });
        }
        let ports = load.ports()[..workers].to_vec();
        self.start_before(peer, load, &ports)
    }

    /// The same before workers on these ports of 127.0.0.1, which need not be the load's.
    pub fn start_before(&mut self, peer: Peer, load: &mut Load, workers: &[u16]) -> Result<Running, Broken> {
        let mut last = Broken::invalid("not started");
        for _ in 0..START_TRIES {
            match self.start_once(peer, load, workers) {
                Err(Broken::Invalid(why)) => last = Broken::Invalid(format!("did not start: {why}")),
                other => return other,
            }
        }
        Err(last)
    }

    fn start_once(&mut self, peer: Peer, load: &mut Load, workers: &[u16]) -> Result<Running, Broken> {
        self.started += 1;
        let folder = self.folder.join(self.started.to_string());
        let broken = |e: io::Error| Broken::invalid(e.to_string());
        fs::create_dir_all(&folder).map_err(broken)?;
        let port = free_port().map_err(broken)?;
        let command = programs::command(peer, &folder, port, workers).map_err(broken)?;
        let process = Process::start(command, &self.proxy_cores, &self.load_cores, folder.join("errors"));
        let mut process = process.map_err(broken)?;
        let is_scripted = workers.iter().all(|worker| load.ports().contains(worker));
        let probe = Case { is_scripted, ..Case::plain("probe", "", 120, Pace::Closed(1), 1) };
        let mut why = Broken::invalid("no answer");
        for _ in 0..START_PAUSES {
            match load.run(&probe, port) {
                Ok(_) => {
                    let name = match workers.len() {
                        1 => peer.name(),
                        workers => format!("{}, {workers} workers", peer.name()),
                    };
                    return Ok(Running { peer, name, port, process: Some(process), folder });
                }
                Err(Broken::Interrupted) => return Err(Broken::Interrupted),
                Err(invalid) => why = invalid,
            }
            if let Some(said) = process.ended() {
                return Err(Broken::Invalid(said));
            }
            load.serve(START_PAUSE)?;
        }
        Err(Broken::Invalid(format!("no answer in 60 s: {why}")))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What is left of it is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A proxy that answers.
pub struct Running {
    /// Which.
    pub peer: Peer,
    /// Its name, with the size of the fleet where that is more than one.
    pub name: String,
    /// Where.
    pub port: u16,
    /// `None`: direct.
    pub process: Option<Process>,
    folder: PathBuf,
}

impl Running {
    /// CPU so far; nothing of what is no proxy.
    pub fn cpu(&self) -> Cpu {
        self.process.as_ref().map(Process::cpu).unwrap_or_default()
    }

    /// Its trace, if it is one of ours that writes a file.
    pub fn trace(&self) -> Option<PathBuf> {
        let ours = matches!(self.peer, Peer::Milepost(..)).then(|| self.folder.join(programs::TRACE));
        ours.filter(|path| path.exists())
    }

    /// Empties the trace, which would otherwise grow by a megabyte a thousand requests.
    pub fn empty_trace(&self) {
        if matches!(self.peer, Peer::Milepost(_, tracing) if tracing.is_limited()) {
            return;
        }
        let file = self.trace().and_then(|path| fs::File::options().write(true).open(path).ok());
        // Should it fail, the file only grows.
        let _ = file.map(|file| file.set_len(0));
    }
}

/// A port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)
}
