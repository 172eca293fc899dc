//! A router as a process: which one, how it is started, what it said, how it ends.
//!
//! Rule: only loopback, no fixed port; a process ends with the value that started it. Deliberately not here: what is asked
//! of it.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything; a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a state that another process changes.
pub const LOOK: Duration = Duration::from_millis(10);

/// The release that the table describes.
const PEER_VERSION: &str = "0.3.2";

/// Which router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `milepost route`.
    Milepost,
    /// `python -m sglang_router.launch_router`.
    SglangRouter,
}

/// The Python that has sglang-router; `MILEPOST_PEER_PYTHON` names another.
fn python() -> String {
    std::env::var("MILEPOST_PEER_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// `milepost COMMAND`.
pub fn milepost(command: &str) -> Command {
    let mut milepost = Command::new(env!("CARGO_BIN_EXE_milepost"));
    milepost.arg(command);
    milepost
}

/// Ok where sglang-router 0.3.2 can be run, else the reason. Looked up once.
pub fn peer() -> Result<(), &'static str> {
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let program = "import importlib.metadata as m, sglang_router; print(m.version('sglang-router'))";
        let python = python();
        let ran = Command::new(&python).args(["-c", program]).stdin(Stdio::null()).output();
        let ran = ran.map_err(|e| format!("{python}: {e}"))?;
        match String::from_utf8_lossy(&ran.stdout).trim() {
            PEER_VERSION => Ok(()),
            "" => Err(format!("{python} has no sglang-router ({PEER_VERSION} is described here)")),
            other => Err(format!("{python} has sglang-router {other}, {PEER_VERSION} is described here")),
        }
    });
    found.as_ref().copied().map_err(String::as_str)
}

/// A port of the loopback address that nobody else is given while this value lives, and that one process may listen on.
pub struct Port {
    _held: OwnedFd,
    /// Its number.
    pub number: u16,
}

impl Port {
    /// Takes a free one.
    pub fn free() -> Self {
        let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        // Both sides with this option: bound here, listened on there.
        sockopt::set_socket_reuseaddr(&held, true).unwrap();
        bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        let name: SocketAddr = getsockname(&held).unwrap().try_into().unwrap();
        Self { _held: held, number: name.port() }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// A running router.
pub struct Process {
    child: Mutex<Child>,
    pid: Pid,
    said: Arc<Mutex<String>>,
    readers: [JoinHandle<()>; 2],
    /// Where it serves.
    pub port: Port,
    /// Where its metrics are.
    pub metrics: Port,
}

impl Process {
    /// Starts a router with addresses of its own and these flags; it may not listen yet.
    pub fn start(subject: Subject, flags: &[String]) -> Self {
        let (port, metrics) = (Port::free(), Port::free());
        let mut command = match subject {
            Subject::Milepost => milepost("route"),
            Subject::SglangRouter => {
                let mut command = Command::new(python());
                command.args(["-m", "sglang_router.launch_router"]);
                command
            }
        };
        command.args(["--host", "127.0.0.1", "--prometheus-host", "127.0.0.1"]);
        command.args(["--port", &port.number.to_string()]);
        command.args(["--prometheus-port", &metrics.number.to_string()]).args(flags);
        Self::spawn(command, port, metrics)
    }

    /// Starts a command that listens on these ports.
    pub fn spawn(mut command: Command, port: Port, metrics: Port) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
        let said = Arc::new(Mutex::new(String::new()));
        let readers = [
            follow(child.stdout.take().unwrap(), Arc::clone(&said)),
            follow(child.stderr.take().unwrap(), Arc::clone(&said)),
        ];
        let pid = Pid::from_child(&child);
        Self { child: Mutex::new(child), pid, said, readers, port, metrics }
    }

    /// All it said so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Its exit code once it has ended and all it said is read; a signal is its negative number.
    pub fn ended(&self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.lock().unwrap().try_wait().unwrap()?;
        if !self.readers.iter().all(JoinHandle::is_finished) {
            return None;
        }
        Some(status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)))
    }

    /// Waits until it has ended by itself.
    pub fn end(&self) -> i32 {
        until("the process has ended", || self.ended())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn follow(pipe: impl Read + Send + 'static, said: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            let mut said = said.lock().unwrap();
            said.push_str(&line);
            said.push('\n');
        }
    })
}

/// Looks until there is something, at most [`PATIENCE`].
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looks = PATIENCE.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(LOOK);
    }
    panic!("waited in vain until {what}");
}

/// Looks for something that may never come: long enough for what comes at once, short enough for a test.
pub fn look_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..150 {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::sleep(LOOK);
    }
    None
}
