//! The clients of the live check: each request at its moment, on a connection of its own, in one thread.

use std::net::SocketAddr;
use std::time::Duration;

use milepost::clock::Clock;
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::original::Original;
use super::workers::Workers;
use crate::prompt;
use crate::workload::{OUTPUT_TOKENS, Workload};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
const ANSWERED: &[u8] = b"HTTP/1.1 200";

/// What was seen.
pub struct Sent {
    /// Requests that each worker answered.
    pub by_worker: Vec<u64>,
    /// Of a core, 0 to 1.
    pub client_cpu: f64,
    /// Of a core.
    pub router_cpu: f64,
}

/// Sends all of a workload at `rate` requests a second.
pub fn send(workload: &Workload, rate: f64, router: &Original, workers: &Workers) -> Result<Sent, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let bodies: Vec<(f64, String)> = workload
        .requests
        .iter()
        .filter_map(|request| {
            let mut text = String::new();
            prompt::text(&prompt::tokens(&request.pieces), &mut text);
            let tokens = request.output_tokens;
            let body = format!(
                "{{\"text\":\"{text}\",\"sampling_params\":{{\"max_new_tokens\":{tokens},\"ignore_eos\":true}}}}"
            );
            Some((request.at? / rate, body))
        })
        .collect();
    let clock = Clock::system();
    let (began_ns, client_ns, router_s) = (clock.mono_ns(), own_cpu_ns(), router.cpu_s());
    let before = workers.generated_tokens()?;
    runtime.block_on(all(bodies, router.address))?;
    let took_s = (clock.mono_ns() - began_ns) as f64 / 1e9;
    let after = workers.generated_tokens()?;
    let requests = |(before, after): (&u64, &u64)| (after - before) / u64::from(OUTPUT_TOKENS);
    Ok(Sent {
        by_worker: before.iter().zip(&after).map(requests).collect(),
        client_cpu: (own_cpu_ns() - client_ns) as f64 / 1e9 / took_s,
        router_cpu: (router.cpu_s() - router_s) / took_s,
    })
}

async fn all(bodies: Vec<(f64, String)>, address: SocketAddr) -> Result<(), String> {
    let start = tokio::time::Instant::now();
    let mut answers = JoinSet::new();
    for (at_s, body) in bodies {
        tokio::time::sleep_until(start + Duration::from_secs_f64(at_s)).await;
        answers.spawn(tokio::time::timeout(PATIENCE, one(address, body)));
    }
    while let Some(answer) = answers.join_next().await {
        let answer = answer.map_err(|e| e.to_string())?;
        answer.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))??;
    }
    Ok(())
}

async fn one(address: SocketAddr, body: String) -> Result<(), String> {
    let exchange = async {
        let mut socket = TcpStream::connect(address).await?;
        let head = format!(
            "POST /generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all((head + body.as_str()).as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = exchange.await.map_err(|e| e.to_string())?;
    let head = answer.get(..ANSWERED.len()).unwrap_or(&answer);
    if head == ANSWERED { Ok(()) } else { Err(format!("not answered: {}", String::from_utf8_lossy(head))) }
}

fn own_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
