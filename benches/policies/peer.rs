//! The port of sglang-router 0.3.2 as an arm: it is given text and loads as that router has them.
//!
//! Rule: its tree has the whole text, its `cache_aware` the requests in flight, and its `power_of_two` the tokens that a poll of
//! the servers gave half a minute ago at worst. Deliberately not here: decisions (`policies/benches/sglang_router_032`).

use milepost::sim::engine::Load;

use crate::arms::{Ask, End, Router, time};
use crate::prompt;
use crate::sglang_router_032::{POLL_INTERVAL_US, Port032, Thresholds, Worker};

/// See the module.
pub struct Peer {
    port: Port032,
    polls: bool,
    text: String,
    shown: Vec<Worker>,
}

impl Peer {
    /// The policy with this name.
    pub fn start(name: &str, seed: u64) -> Result<Self, String> {
        let port = Port032::named(name, seed, Thresholds::default());
        let port = port.ok_or_else(|| format!("{name}: not ported"))?;
        let polls = matches!(port, Port032::PowerOfTwo(_));
        Ok(Self { port, polls, text: String::new(), shown: Vec::new() })
    }
}

impl Router for Peer {
    fn choose(&mut self, now_ns: u64, ask: &Ask<'_>) -> usize {
        if matches!(self.port, Port032::CacheAware(_)) {
            prompt::text(ask.tokens, &mut self.text);
        }
        self.shown.clear();
        let worker = |(place, load): (usize, &u32)| Worker {
            url: place as u64,
            load: u64::from(*load),
            available: true,
        };
        self.shown.extend(ask.in_flight.iter().enumerate().map(worker));
        // All are available, so one is chosen.
        self.port.choose(time(now_ns), &self.text, &self.shown).map_or(0, |choice| choice.index)
    }

    fn first_token(&mut self, _now_ns: u64, _seq: u64, _worker: usize, _ttft_ns: u64) {}

    fn ended(&mut self, _now_ns: u64, _end: &End) {}

    fn poll_every_ns(&self) -> Option<u64> {
        self.polls.then_some(POLL_INTERVAL_US * 1_000)
    }

    /// `/get_load` tells tokens in use and waiting.
    fn loaded(&mut self, _now_ns: u64, worker: usize, load: &Load) {
        if let Port032::PowerOfTwo(policy) = &mut self.port {
            policy.polled(worker as u64, Some((load.used_tokens + load.waiting_tokens).cast_signed()));
        }
    }
}
