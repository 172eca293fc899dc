//! CPU of the proxy process per request and per streamed event, beside haproxy, nginx and sglang-router where installed.
//!
//! `cargo bench --bench end_to_end [-- --requests 20000 --rounds 3 --only haproxy,nginx]`: all peers in one run, interleaved, medians of the
//! rounds; the proxy is pinned to one core, worker and load to the others. CPU comes from `/proc/PID/stat`, all threads and
//! children, so it counts what the load costs the machine and not how fast the load was made. Deliberately not here:
//! latency.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench: it measures with `Instant`, and stops at the first surprise"
)]

#[path = "end_to_end/load.rs"]
mod load;
#[path = "end_to_end/peers.rs"]
mod peers;

use load::Case;
use peers::Peer;

const WARM_UP_REQUESTS: usize = 2_000;

fn main() {
    let option = |name: &str, default: usize| {
        let mut args = std::env::args().skip_while(|a| a != name);
        args.nth(1).map_or(default, |v| v.parse().unwrap())
    };
    let (requests, rounds) = (option("--requests", 20_000), option("--rounds", 3));
    leave_last_core();
    let worker = load::start_worker();
    let only: Vec<String> = std::env::args().skip_while(|a| a != "--only").skip(1).take(1).collect();
    let peers = Peer::installed(worker, only.first().map_or("", String::as_str));
    let cases = [
        Case::plain("120 B, 16 at once", 120, 16, requests),
        Case::plain("120 B, 4 at once", 120, 4, requests),
        Case::paced("120 B, 2000/s", 120, 2_000, requests / 2),
        Case::plain("4 KB, 16 at once", 4_096, 16, requests),
        Case::plain("64 KB, 16", 65_536, 16, requests / 4),
        Case::stream("SSE event", 64, requests / 64),
    ];
    for peer in &peers {
        load::run(&Case::plain("warm-up", 120, 16, WARM_UP_REQUESTS), peer.port());
    }
    let mut cells = vec![vec![Vec::new(); cases.len()]; peers.len()];
    for _ in 0..rounds {
        for (c, case) in cases.iter().enumerate() {
            for (p, peer) in peers.iter().enumerate() {
                let before_us = peer.cpu_us();
                let units = load::run(case, peer.port());
                let after_us = peer.cpu_us();
                cells[p][c].push([0, 1].map(|i| (after_us[i] - before_us[i]) as f64 / units as f64));
            }
        }
    }
    println!(
        "CPU of the proxy process, µs per request (last column: per streamed event), user + system, median of {rounds}"
    );
    print!("{:<28}", "");
    for case in &cases {
        print!("{:>18}", case.name);
    }
    println!();
    for (peer, row) in peers.iter().zip(&mut cells) {
        print!("{:<28}", peer.name);
        for samples in row {
            let [user, system] = median(samples);
            print!("{:>18}", format!("{:.1} ({user:.1}+{system:.1})", user + system));
        }
        println!();
    }
}

/// Keeps this process, worker and load, off the core that the proxies are pinned to.
fn leave_last_core() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut set = rustix::thread::CpuSet::new();
    (0..cores.saturating_sub(1).max(1)).for_each(|core| set.set(core));
    rustix::thread::sched_setaffinity(None, &set).unwrap();
}

fn median(samples: &mut [[f64; 2]]) -> [f64; 2] {
    samples.sort_by(|a, b| (a[0] + a[1]).total_cmp(&(b[0] + b[1])));
    samples[samples.len() / 2]
}
