//! Simulated workers over sockets, in a thread of their own. Rule: they end with the value.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use milepost::clock::Clock;
use milepost::sim::{SimConfig, Worker};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// Longest wait for what a worker says of itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Some of them.
pub struct Workers {
    ports: Vec<u16>,
    all: Vec<Arc<Worker>>,
    stop: Arc<Notify>,
    // Dropped last: what serves runs in it.
    _runtime: Runtime,
}

impl Workers {
    /// So many, so many times as fast as full speed.
    pub fn start(count: usize, speedup: f64) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let stop = Arc::new(Notify::new());
        let (mut ports, mut all) = (Vec::new(), Vec::new());
        for seed in 1..=count as u64 {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
            ports.push(listener.local_addr()?.port());
            let config = SimConfig { speedup, seed, ..SimConfig::default() };
            let worker = runtime.block_on(async { Worker::start(config, Clock::system()) })?;
            all.push(Arc::clone(&worker));
            let stop = Arc::clone(&stop);
            runtime.spawn(async move { worker.serve(listener, async move { stop.notified().await }).await });
        }
        Ok(Self { ports, all, stop, _runtime: runtime })
    }

    /// Where they listen.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Tokens that each of them has made so far.
    pub fn generated_tokens(&self) -> Result<Vec<u64>, String> {
        self.ports
            .iter()
            .map(|port| generated_tokens(*port).map_err(|e| format!("worker {port}: {e}")))
            .collect()
    }

    /// Part of the engines' steps that ended too late.
    pub fn late_share(&self) -> f64 {
        let paces: Vec<_> = self.all.iter().map(|worker| worker.pace()).collect();
        let late: u64 = paces.iter().map(|pace| pace.late_steps).sum();
        late as f64 / paces.iter().map(|pace| pace.steps).sum::<u64>().max(1) as f64
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.notify_waiters();
    }
}

fn generated_tokens(port: u16) -> io::Result<u64> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(b"GET /milepost/sim HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut said = String::new();
    socket.read_to_string(&mut said)?;
    let object = said.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let object: serde_json::Value = serde_json::from_str(object)?;
    object["generated_tokens"].as_u64().ok_or_else(|| io::Error::other("it does not say what it generated"))
}
