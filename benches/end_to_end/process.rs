//! Processes: started on given cores, read from `/proc`, ended by their ids whatever happens.
//!
//! Rule: a child lives no longer than the bench, be it a panic or Ctrl-C: the value kills it when dropped, and a second signal
//! kills all of them at once. CPU is the sum over threads of what the scheduler counted, in nanoseconds. Deliberately not here:
//! which programs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use tokio::signal::unix::{SignalKind, signal};

use crate::broken::Broken;

/// Somebody wants the bench to end.
static STOP: AtomicBool = AtomicBool::new(false);
/// Children that run.
static CHILDREN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// An error once the bench is to end.
pub fn check() -> Result<(), Broken> {
    if STOP.load(Ordering::Relaxed) { Err(Broken::Interrupted) } else { Ok(()) }
}

/// Watches for SIGINT and SIGTERM: the first ends the bench in order, the second at once.
pub fn watch_signals() -> io::Result<()> {
    std::thread::Builder::new().name("signals".to_owned()).spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! {
                    biased;
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if STOP.swap(true, Ordering::Relaxed) {
                    children().iter().for_each(|pid| kill_tree(*pid));
                    std::process::exit(130);
                }
                eprintln!("\nending; once more to end at once");
            }
        });
    })?;
    Ok(())
}

/// Raises the limit of open files to what this user may have, for this process and its children; what it is then.
pub fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // A refusal leaves the old limit, which is what is then told.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    (if raised { maximum } else { current }).unwrap_or(u64::MAX)
}

/// Moves the calling thread, and what it starts from now on, to these cores.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// CPU of the calling thread so far.
pub fn own_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// CPU of a process tree so far, by thread.
#[derive(Clone, Debug, Default)]
pub struct Cpu(BTreeMap<u32, u64>);

impl Cpu {
    /// Nanoseconds used since `before`; of threads that have ended meanwhile nothing is known.
    pub fn since(&self, before: &Self) -> u64 {
        let used = |(thread, ns): (&u32, &u64)| ns.saturating_sub(before.0.get(thread).copied().unwrap_or(0));
        self.0.iter().map(used).sum()
    }
}

/// Memory of a process tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident.
    pub rss_kib: u64,
    /// Resident, each shared page in as many parts as it has users.
    pub pss_kib: u64,
}

/// A child process and its children.
pub struct Process {
    child: Child,
    errors: PathBuf,
}

impl Process {
    /// Starts it on these cores; `home` are those of the calling thread. What it writes to standard error goes to `errors`.
    pub fn start(mut command: Command, cores: &[usize], home: &[usize], errors: PathBuf) -> io::Result<Self> {
        let file = fs::File::create(&errors)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        pin(cores)?;
        let started = command.spawn();
        pin(home)?;
        let child = started?;
        children().push(child.id());
        Ok(Self { child, errors })
    }

    /// Why it runs no longer, if so: the last line that it wrote.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let said = fs::read_to_string(&self.errors).unwrap_or_default();
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        Some(format!("{status}: {}", last.chars().take(200).collect::<String>()))
    }

    /// CPU so far.
    pub fn cpu(&self) -> Cpu {
        let mut cpu = Cpu::default();
        for pid in tree(self.child.id()) {
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let thread = task.file_name().to_str().and_then(|name| name.parse().ok());
                let ns = first_number(&task.path().join("schedstat"));
                cpu.0.extend(thread.map(|thread| (thread, ns)));
            }
        }
        cpu
    }

    /// Memory now.
    pub fn memory(&self) -> Memory {
        tree(self.child.id()).into_iter().fold(Memory::default(), |sum, pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let field = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
            };
            Memory { rss_kib: sum.rss_kib + field("Rss:"), pss_kib: sum.pss_kib + field("Pss:") }
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = self.child.id();
        kill_tree(pid);
        let _ = self.child.wait();
        children().retain(|child| *child != pid);
    }
}

fn children() -> std::sync::MutexGuard<'static, Vec<u32>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kill_tree(pid: u32) {
    // Read first: a master's workers are nobody's children once it has gone.
    for pid in tree(pid).into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// A process and all below it.
fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        at += 1;
    }
    found
}

fn first_number(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
