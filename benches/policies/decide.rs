//! How long a decision takes: the one part of the page that is a time of this machine.
//!
//! Rule: all that the router does under its lock for a prompt of which most is known: look-up, views, policy, index and counts
//! afterwards. The quickest of some rounds, as what else runs only ever adds. Deliberately not here: hashing the prompt, which
//! is done before the lock.

use std::collections::VecDeque;
use std::fmt::Write;

use milepost::clock::Clock;
use milepost_policies::{Chooser, Eligible, Event, PolicyId, PromptHashes, RequestView, Time, WorkerId};

use crate::arms::{Arm, chooser};

const FLEETS: [usize; 3] = [8, 64, 512];
const PROMPT_BYTES: usize = 10_000;
/// Bytes that all prompts of a group share.
const SHARED_BYTES: usize = 8_000;
const GROUPS: usize = 16;
const PROMPTS: usize = 256;
const ROUNDS: usize = 9;
/// Requests in flight while it is measured.
const IN_FLIGHT: usize = 64;

/// What one arm needs at one size of the fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// The arm's name.
    pub arm: String,
    /// Size of the fleet.
    pub workers: usize,
    /// Microseconds.
    pub us: f64,
}

/// Each of our arms at each size.
pub fn measure(arms: &[Arm]) -> Result<Vec<Decided>, String> {
    let prompts: Vec<PromptHashes> = (0..PROMPTS).map(|n| PromptHashes::of(&prompt(n))).collect();
    let mut all = Vec::new();
    for arm in arms {
        for workers in FLEETS {
            if let Some(policy) = arm.policy(1)? {
                let us = Bench { chooser: chooser(policy, workers), prompts: &prompts, workers }.us();
                all.push(Decided { arm: arm.name.clone(), workers, us });
            }
        }
    }
    Ok(all)
}

fn prompt(n: usize) -> Vec<u8> {
    let mut text = format!("group {} ", n % GROUPS).repeat(SHARED_BYTES / 8).into_bytes();
    text.truncate(SHARED_BYTES);
    text.extend(format!("question {n} ").repeat(PROMPT_BYTES / 8).into_bytes());
    text.truncate(PROMPT_BYTES);
    text
}

struct Bench<'a> {
    chooser: Chooser,
    prompts: &'a [PromptHashes],
    workers: usize,
}

impl Bench<'_> {
    fn us(&mut self) -> f64 {
        let clock = Clock::system();
        let mut eligible: Vec<Eligible> = (0..self.workers)
            .map(|position| Eligible { position: position as u32, in_flight_requests: 0 })
            .collect();
        let mut under_way: VecDeque<(u64, usize)> = VecDeque::new();
        let (mut seq, mut quickest) = (0_u64, f64::INFINITY);
        for _ in 0..ROUNDS {
            let mut took_ns = 0;
            for prompt in self.prompts {
                seq += 1;
                let now = Time { us: seq * 1_000 };
                if under_way.len() >= IN_FLIGHT
                    && let Some((seq, worker)) = under_way.pop_front()
                {
                    eligible[worker].in_flight_requests -= 1;
                    self.end(now, seq, worker);
                }
                let request = RequestView {
                    seq,
                    prompt: Some(prompt),
                    prompt_bytes: PROMPT_BYTES as u64,
                    max_new_tokens: Some(256),
                    routing_key: Some("a tenant"),
                    stream: true,
                    ..RequestView::default()
                };
                let began_ns = clock.mono_ns();
                let chosen = self.chooser.choose(now, PolicyId::default(), &request, &eligible);
                took_ns += clock.mono_ns() - began_ns;
                if let Some(worker) = chosen {
                    eligible[worker].in_flight_requests += 1;
                    under_way.push_back((seq, worker));
                }
            }
            quickest = quickest.min(took_ns as f64 / self.prompts.len() as f64 / 1e3);
        }
        quickest
    }

    fn end(&mut self, now: Time, seq: u64, worker: usize) {
        let worker = WorkerId(worker as u32);
        self.chooser.observe(now, &Event::FirstToken { seq, worker, ttft_us: 50_000 });
        let ended = Event::Ended {
            seq,
            worker,
            latency_us: 64_000,
            ok: true,
            prompt_tokens: Some(2_500),
            completion_tokens: Some(2),
            cached_tokens: Some(2_000),
        };
        self.chooser.observe(now, &ended);
    }
}

/// The table; these numbers differ from run to run.
pub fn table(decided: &[Decided]) -> String {
    let mut out = "| arm, µs | 8 workers | 64 | 512 |\n|---|--:|--:|--:|\n".to_owned();
    for row in decided.chunks(FLEETS.len()) {
        let cells: Vec<String> = row.iter().map(|decided| format!("{:.2}", decided.us)).collect();
        let _ = writeln!(out, "| `{}` | {} |", row[0].arm, cells.join(" | "));
    }
    out
}
