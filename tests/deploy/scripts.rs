//! The three scripts of `deploy/two-servers`, run as a user runs them, with simulated servers.
//!
//! Rule: after `stop.sh` nothing runs that `start.sh` started, and what it did not start runs on. Deliberately not here: SGLang.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::path;

/// Times that other ports are tried: one may be taken between the question and the start.
const TRIES: usize = 5;

/// A run of the scripts in a folder of its own; everything is stopped with it.
struct Run {
    folder: PathBuf,
    ports: [u16; 4],
}

impl Run {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("milepost-two-servers-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder, ports: free_ports() }
    }

    fn script(&self, name: &str, args: &[&str]) -> Output {
        let mut command = Command::new("bash");
        command.arg(path("deploy/two-servers").join(name)).args(args).current_dir(&self.folder);
        for (variable, port) in ["PORT_A", "PORT_B", "ROUTER_PORT", "METRICS_PORT"].iter().zip(self.ports) {
            command.env(variable, port.to_string());
        }
        command.env("SERVERS", "simulated").env("MODEL", "tried").env("RUN_DIR", self.folder.join("run"));
        command
            .env("MILEPOST", env!("CARGO_BIN_EXE_milepost"))
            .env("START_SECS", "60")
            .env("STOP_SECS", "60");
        command.env_remove("MILEPOST_FLAGS").env_remove("POLICY").output().expect("bash")
    }

    /// Starts all, with other ports where one was taken meanwhile.
    fn start(&mut self) -> Output {
        for _ in 1..TRIES {
            let ended = self.script("start.sh", &[]);
            let taken = ["is in use", "is taken"].iter().any(|words| said(&ended).contains(words));
            if ended.status.success() || !taken {
                return ended;
            }
            self.ports = free_ports();
        }
        self.script("start.sh", &[])
    }

    fn pid(&self, name: &str) -> u32 {
        let file = self.folder.join("run").join(format!("{name}.pid"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        text.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.script("stop.sh", &[]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_ports() -> [u16; 4] {
    let held = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

fn said(ended: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr))
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn two_servers_are_started_sent_load_and_stopped() {
    let mut run = Run::new("whole");
    let started = run.start();
    assert!(started.status.success(), "{}", said(&started));
    let pids = ["server-a", "server-b", "router"].map(|name| run.pid(name));
    assert!(pids.iter().all(|pid| is_there(*pid)), "{pids:?}");

    let again = run.script("start.sh", &[]);
    assert!(!again.status.success() && said(&again).contains("runs already"), "{}", said(&again));
    assert!(pids.iter().all(|pid| is_there(*pid)), "a second start ends nothing");

    let sent = run.script("send.sh", &["--gsp-prompts-per-group", "2", "--request-rate", "50"]);
    // So short a run on a busy machine may be SUSPECT or INVALID; its rows are there all the same.
    assert!(matches!(sent.status.code(), Some(0 | 3 | 4)), "{}", said(&sent));
    assert!(said(&sent).contains("the trace agrees with itself"), "{}", said(&sent));
    let rows = std::fs::read_to_string(run.folder.join("run/bench/latest/requests.csv")).unwrap();
    assert_eq!(rows.lines().count(), 1 + 16, "8 prefixes, 2 prompts each");
    assert!(rows.lines().skip(1).all(|row| row.split(',').nth(1) == Some("True")), "{rows}");

    let stopped = run.script("stop.sh", &[]);
    assert!(stopped.status.success(), "{}", said(&stopped));
    assert!(!pids.iter().any(|pid| is_there(*pid)), "{pids:?}: {}", said(&stopped));
    let again = run.script("stop.sh", &[]);
    assert!(again.status.success(), "stopping twice is no failure: {}", said(&again));
}

#[test]
fn a_taken_port_is_named_and_nothing_is_left_behind() {
    let mut run = Run::new("taken");
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    run.ports[1] = holder.local_addr().unwrap().port();
    let started = run.script("start.sh", &[]);
    assert!(!started.status.success());
    assert!(said(&started).contains("is in use: choose another"), "{}", said(&started));
    assert!(!run.folder.join("run/server-a.pid").exists());
    drop(holder);
}

#[test]
fn a_process_that_was_gone_at_once_is_not_waited_for() {
    let run = Run::new("gone");
    std::fs::create_dir_all(run.folder.join("run")).unwrap();
    let mut gone = Command::new("true").spawn().unwrap();
    let pid = gone.id();
    gone.wait().unwrap();
    // As `launch` writes it where the process has no start any more.
    std::fs::write(run.folder.join("run/router.pid"), format!("{pid} \n")).unwrap();
    let stopped = run.script("stop.sh", &[]);
    assert!(stopped.status.success(), "{}", said(&stopped));
    assert!(!run.folder.join("run/router.pid").exists(), "{}", said(&stopped));
}

#[test]
fn a_pid_that_belongs_to_somebody_else_by_now_is_left_alone() {
    let run = Run::new("reused");
    let mut other = Command::new("sleep").arg("600").spawn().unwrap();
    std::fs::create_dir_all(run.folder.join("run")).unwrap();
    // The number of a process that runs, and a start that is not its.
    std::fs::write(run.folder.join("run/router.pid"), format!("{} 1\n", other.id())).unwrap();
    let stopped = run.script("stop.sh", &[]);
    assert!(stopped.status.success(), "{}", said(&stopped));
    assert!(other.try_wait().unwrap().is_none(), "it was ended");
    other.kill().unwrap();
    other.wait().unwrap();
}
