//! The binary as a child process whose lines can be waited for.
//!
//! Rule: a test waits for a line, never for a time; a child ends with its test. Deliberately not here: HTTP.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// Longest wait for one line; a test that needs it has failed. So long that no busy machine does.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A folder that goes away with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("milepost-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    pub fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(file), bytes).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a child ended and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pipe {
    Out,
    Err,
}

/// A running `milepost`.
pub struct Process {
    child: Child,
    lines: Receiver<(Pipe, String)>,
    ended: Ended,
}

impl Process {
    /// Starts `milepost ARGS` in `folder`; arguments are separated by white space.
    pub fn start(folder: &Path, args: &str) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_milepost")), folder, args)
    }

    /// As [`Self::start`], with so many open files allowed to begin with and so many that it may ask for.
    pub fn start_with_files(folder: &Path, soft: u32, hard: u32, args: &str) -> Self {
        Self::start_within(folder, &format!("ulimit -Sn {soft} && ulimit -Hn {hard}"), args)
    }

    /// As [`Self::start`], under the limits that these words of a shell set.
    pub fn start_within(folder: &Path, limits: &str, args: &str) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("{limits} && exec \"$0\" \"$@\"");
        shell.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_milepost"));
        Self::run(shell, folder, args)
    }

    fn run(mut command: Command, folder: &Path, args: &str) -> Self {
        command.current_dir(folder).args(args.split_whitespace());
        // What the machine has set is not the test's.
        command.env_remove("OPENAI_API_KEY").env_remove("MILEPOST_API_KEY").env_remove("SSL_CERT_FILE");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("milepost starts");
        let (sender, lines) = channel();
        follow(child.stdout.take().unwrap(), Pipe::Out, sender.clone());
        follow(child.stderr.take().unwrap(), Pipe::Err, sender);
        Self { child, lines, ended: Ended { code: None, stdout: String::new(), stderr: String::new() } }
    }

    /// The first line that holds `needle`, on either pipe; it may have come already.
    pub fn line(&mut self, needle: &str) -> String {
        let said = self.ended.stderr.lines().chain(self.ended.stdout.lines());
        if let Some(line) = said.into_iter().find(|l| l.contains(needle)) {
            return line.to_owned();
        }
        while let Some(line) = self.next(needle) {
            if line.contains(needle) {
                return line;
            }
        }
        panic!("ended without {needle:?}: {:?}", self.ended);
    }

    fn next(&mut self, waiting_for: &str) -> Option<String> {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        match self.lines.recv_timeout(PATIENCE) {
            Ok((pipe, line)) => {
                let text = if pipe == Pipe::Out { &mut self.ended.stdout } else { &mut self.ended.stderr };
                text.push_str(&line);
                text.push('\n');
                Some(line)
            }
            Err(Disconnected) => None,
            Err(Timeout) => panic!("no {waiting_for} in time: {:?}", self.ended),
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Handles on the processes that it has started and that run: whoever has the id of one later, this is the one.
    pub fn children(&self) -> Vec<OwnedFd> {
        let parent = self.pid().as_raw_nonzero().to_string();
        let child = |process: std::fs::DirEntry| {
            // One that is no process, or none any more, is nobody's child.
            let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
            let (state, above) = stat.rsplit_once(')')?.1.trim_start().split_once(' ')?;
            let is_own = above.split(' ').next() == Some(&*parent) && state != "Z";
            let pid = Pid::from_raw(stat.split(' ').next()?.parse().ok()?)?;
            is_own.then(|| pidfd_open(pid, PidfdFlags::empty()).ok()).flatten()
        };
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(child).collect()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub fn finish(mut self) -> Ended {
        while self.next("end").is_some() {}
        self.ended.code = self.child.wait().unwrap().code();
        let none = Ended { code: None, stdout: String::new(), stderr: String::new() };
        std::mem::replace(&mut self.ended, none)
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.finish()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns when the process of this handle has ended.
pub fn end_of(process: &OwnedFd) {
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    assert_eq!(poll(&mut ended, Some(&patience)), Ok(1), "it runs still");
}

fn follow(pipe: impl Read + Send + 'static, which: Pipe, sender: Sender<(Pipe, String)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            if sender.send((which, line)).is_err() {
                return;
            }
        }
    });
}

/// Runs `milepost ARGS` to its end.
pub fn milepost(folder: &Folder, args: &str) -> Ended {
    Process::start(&folder.0, args).finish()
}

/// A router on free ports, up and listening.
pub struct Router {
    pub process: Process,
    /// `host:port` of the router.
    pub address: String,
    /// `host:port` of `/metrics`.
    pub metrics: String,
}

impl Router {
    pub fn start(folder: &Folder, args: &str) -> Self {
        Self::of(Process::start(&folder.0, &Self::args(args)))
    }

    /// Its arguments.
    pub fn args(more: &str) -> String {
        format!("route --host 127.0.0.1 --port 0 --prometheus-host 127.0.0.1 --prometheus-port 0 {more}")
    }

    /// A process that is one, once it says where it is.
    pub fn of(mut process: Process) -> Self {
        let line = process.line("routing on http://");
        let (_, after) = line.split_once("routing on http://").unwrap();
        let address = after.split(',').next().unwrap().to_owned();
        let (_, metrics) = line.split_once("metrics http://").expect(&line);
        let metrics = metrics.trim_end_matches("/metrics").to_owned();
        Self { process, address, metrics }
    }
}

/// A simulated worker, up and listening; its URL.
pub fn worker(folder: &Folder, args: &str) -> (Process, String) {
    let mut process = Process::start(&folder.0, &format!("worker --port 0 {args}"));
    let line = process.line("SIMULATED SGLang worker");
    let at = line.find("http://").expect(&line);
    let url = line[at..].trim().to_owned();
    (process, url)
}
