//! sglang-router itself: found, started, asked for its CPU, and ended by its id whatever happens.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What the port is of.
pub const VERSION: &str = "0.3.2";
const PYTHON: &str = "python3";
/// Longest wait until it serves: it imports Python first, and asks its workers.
const LOOKS: u32 = 300;
const LOOK: Duration = Duration::from_millis(200);
const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The version that is installed.
pub fn version() -> Option<String> {
    let script = "import importlib.metadata as m; print(m.version('sglang-router'))";
    let output = Command::new(PYTHON).args(["-c", script]).stderr(Stdio::null()).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    Some(said.trim().to_owned()).filter(|version| !version.is_empty())
}

/// A router that serves.
pub struct Original {
    child: Child,
    /// Where.
    pub address: SocketAddr,
}

impl Original {
    /// Starts it before these workers and waits until it has both.
    pub fn start(policy: &str, workers: &[u16]) -> Result<Self, String> {
        let (port, metrics) = (free_port()?, free_port()?);
        let urls = workers.iter().map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new(PYTHON);
        command.args(["-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--log-level", "error"]);
        command.args(["--port", &port.to_string(), "--policy", policy, "--disable-health-check"]);
        command.args(["--prometheus-host", "127.0.0.1", "--prometheus-port", &metrics.to_string()]);
        command.arg("--worker-urls").args(urls);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|e| format!("{PYTHON}: {e}"))?;
        let mut router = Self { child, address: (LOCALHOST, port).into() };
        for _ in 0..LOOKS {
            if let Ok(Some(status)) = router.child.try_wait() {
                return Err(format!("sglang-router did not start: {status}"));
            }
            if router.knows(workers.len()) {
                return Ok(router);
            }
            std::thread::sleep(LOOK);
        }
        Err("sglang-router did not answer within a minute".to_owned())
    }

    /// Whether `GET /workers` lists so many.
    fn knows(&self, workers: usize) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut socket = TcpStream::connect_timeout(&self.address, LOOK)?;
            socket.set_read_timeout(Some(LOOK * 10))?;
            socket.write_all(b"GET /workers HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
            let mut said = String::new();
            socket.read_to_string(&mut said)?;
            Ok(said)
        };
        ask().is_ok_and(|said| said.matches("\"url\":").count() == workers)
    }

    /// CPU of its threads so far, as the scheduler counted it, seconds.
    pub fn cpu_s(&self) -> f64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let ran_ns = |thread: fs::DirEntry| {
            let counted = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            counted.split_whitespace().next()?.parse::<u64>().ok()
        };
        threads.filter_map(ran_ns).sum::<u64>() as f64 / 1e9
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16, String> {
    let port = || TcpListener::bind((LOCALHOST, 0))?.local_addr();
    port().map(|address| address.port()).map_err(|e: std::io::Error| e.to_string())
}
