//! Simulated engines in virtual time: arrivals, forward passes and their ends, event by event, without a clock or a socket.
//!
//! Rule: what happened by a moment is told before an arrival at it; at one moment, ends of steps come before polls, polls before
//! arrivals. The network and the choice of a worker take no time, so a latency is the engines' work alone. The same traffic
//! gives the same calls. Deliberately not here: who chooses and what is asked ([`Traffic`]), randomness.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use milepost_policies::ServerLoad;

use super::engine::{Engine, Job, Load, Progress, Step};
use super::profile::Profile;
use super::tokens::{Answer, Token};

/// Answers are told of at their first token and at their end alone.
const REPORT_EVERY: u32 = u32::MAX;

/// How often the engines are asked for their loads where a policy needs these.
pub const POLL_EVERY_NS: u64 = 1_000_000_000;

/// What comes to the engines, and what is told of it.
pub trait Traffic {
    /// A request arrives; `in_flight` are the requests at each worker. `None`: it goes nowhere.
    fn arrive(&mut self, now_ns: u64, request: usize, in_flight: &[u32]) -> Option<Placed>;

    /// Its first token is there.
    fn first_token(&mut self, now_ns: u64, request: usize, worker: usize);

    /// It has ended; the moment and the number of a request that follows it, if one does.
    fn ended(
        &mut self,
        now_ns: u64,
        request: usize,
        worker: usize,
        progress: &Progress,
    ) -> Option<(u64, usize)>;

    /// How often the engines are asked for their loads; `None`: never.
    fn poll_every_ns(&self) -> Option<u64> {
        None
    }

    /// What an engine says of its load, as it is at the end of the pass that runs.
    fn loaded(&mut self, _now_ns: u64, _worker: usize, _load: &Load) {}
}

/// A request that goes to a worker.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The worker's number.
    pub worker: usize,
    /// The prompt; never empty, and with the answer no longer than the worker's KV cache.
    pub prompt: Arc<[Token]>,
    /// Length of its text, in bytes.
    pub prompt_bytes: usize,
    /// The words of the answer.
    pub answer: Answer,
    /// Tokens of the answer, at least 1.
    pub output_tokens: u32,
    /// Tokens that the request allows.
    pub max_new_tokens: u32,
}

/// What a server says of itself; the size of its largest batch is not asked for.
impl From<&Load> for ServerLoad {
    fn from(load: &Load) -> Self {
        Self {
            queue_depth: Some(load.waiting as u32),
            running: Some(load.running as u32),
            kv_usage: Some(load.used_tokens as f64 / load.capacity_tokens.max(1) as f64),
            throughput_tokens_per_s: Some(load.tokens_per_s),
            max_running_requests: None,
        }
    }
}

/// What happens next, in its order at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    StepEnd(usize),
    Wake(usize),
    Poll,
    Arrival(usize),
}

#[derive(Debug)]
struct Seat {
    profile: Profile,
    engine: Engine,
    step: Option<Step>,
}

struct Fleet<'a, T> {
    traffic: &'a mut T,
    seats: Vec<Seat>,
    due: BinaryHeap<Reverse<(u64, Due)>>,
    in_flight: Vec<u32>,
    /// Requests that have not ended, those to arrive included.
    open: usize,
}

/// Plays `arrivals`, a moment and a request's number each, and what follows them, on a worker of each profile.
pub fn play<T: Traffic>(
    profiles: impl IntoIterator<Item = Profile>,
    arrivals: impl IntoIterator<Item = (u64, usize)>,
    traffic: &mut T,
) {
    let seat =
        |profile: Profile| Seat { engine: Engine::new(profile.clone(), 1.0, None), profile, step: None };
    let seats: Vec<Seat> = profiles.into_iter().map(seat).collect();
    let due: BinaryHeap<_> = arrivals.into_iter().map(|(at, n)| Reverse((at, Due::Arrival(n)))).collect();
    let mut fleet = Fleet { traffic, in_flight: vec![0; seats.len()], seats, open: due.len(), due };
    fleet.schedule_poll(0);
    while fleet.open > 0
        && let Some(Reverse((now_ns, due))) = fleet.due.pop()
    {
        match due {
            Due::StepEnd(worker) => fleet.end_step(worker, now_ns),
            Due::Wake(worker) => fleet.start_step(worker, now_ns),
            Due::Poll => fleet.poll(now_ns),
            Due::Arrival(request) => fleet.arrive(request, now_ns),
        }
    }
}

impl<T: Traffic> Fleet<'_, T> {
    fn arrive(&mut self, request: usize, now_ns: u64) {
        let placed = self.traffic.arrive(now_ns, request, &self.in_flight);
        let Some(placed) = placed.filter(|placed| placed.worker < self.seats.len()) else {
            self.open -= 1;
            return;
        };
        let worker = placed.worker;
        self.in_flight[worker] += 1;
        let seat = &mut self.seats[worker];
        let queued_at_ns = now_ns + seat.profile.tokenize_ns(placed.prompt_bytes) as u64;
        seat.engine.submit(Job {
            id: request as u64,
            prompt: placed.prompt,
            answer: placed.answer,
            output_tokens: placed.output_tokens.max(1),
            max_new_tokens: placed.max_new_tokens,
            report_every: REPORT_EVERY,
            queued_at_ns,
        });
        if seat.step.is_none() {
            self.due.push(Reverse((queued_at_ns, Due::Wake(worker))));
        }
    }

    fn start_step(&mut self, worker: usize, now_ns: u64) {
        let seat = &mut self.seats[worker];
        if seat.step.is_some() {
            return;
        }
        // Without a limit of the queue nothing is refused.
        seat.engine.receive(now_ns);
        seat.step = seat.engine.step(now_ns);
        if let Some(step) = &seat.step {
            self.due.push(Reverse((now_ns + step.duration_ns, Due::StepEnd(worker))));
        } else if let Some(at_ns) = seat.engine.next_ns() {
            self.due.push(Reverse((at_ns.max(now_ns), Due::Wake(worker))));
        }
    }

    fn end_step(&mut self, worker: usize, now_ns: u64) {
        let step = self.seats[worker].step.take();
        for event in step.iter().flat_map(|step| &step.events) {
            let (request, progress) = (event.id as usize, &event.progress);
            // One that was retracted has its first token behind it.
            if progress.tokens == 1 && progress.first_token_ns == Some(now_ns) {
                self.traffic.first_token(now_ns, request, worker);
            }
            if progress.end.is_none() {
                continue;
            }
            self.in_flight[worker] -= 1;
            match self.traffic.ended(now_ns, request, worker, progress) {
                Some((at_ns, next)) => self.due.push(Reverse((at_ns.max(now_ns), Due::Arrival(next)))),
                None => self.open -= 1,
            }
        }
        self.start_step(worker, now_ns);
    }

    fn poll(&mut self, now_ns: u64) {
        for (worker, seat) in self.seats.iter().enumerate() {
            self.traffic.loaded(now_ns, worker, &seat.engine.load());
        }
        self.schedule_poll(now_ns);
    }

    fn schedule_poll(&mut self, now_ns: u64) {
        if let Some(every_ns) = self.traffic.poll_every_ns() {
            self.due.push(Reverse((now_ns + every_ns.max(1), Due::Poll)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes turns; every request is followed by another one until there were so many.
    #[derive(Default)]
    struct Turns {
        told: Vec<String>,
        left: usize,
    }

    impl Traffic for Turns {
        fn arrive(&mut self, now_ns: u64, request: usize, in_flight: &[u32]) -> Option<Placed> {
            self.told.push(format!("{} ms: {request} arrives, {in_flight:?}", now_ns / 1_000_000));
            (request != 7).then(|| Placed {
                worker: request % in_flight.len(),
                prompt: (0..100).collect(),
                prompt_bytes: 400,
                answer: Answer::new(1, &[1], 0),
                output_tokens: 2,
                max_new_tokens: 2,
            })
        }

        fn first_token(&mut self, now_ns: u64, request: usize, worker: usize) {
            self.told.push(format!("{} ms: first of {request} at {worker}", now_ns / 1_000_000));
        }

        fn ended(
            &mut self,
            now_ns: u64,
            request: usize,
            _: usize,
            progress: &Progress,
        ) -> Option<(u64, usize)> {
            self.told.push(format!(
                "{} ms: {request} ended, {} cached",
                now_ns / 1_000_000,
                progress.cached_tokens
            ));
            self.left = self.left.checked_sub(1)?;
            Some((now_ns + 1_000_000, request + 2))
        }

        fn poll_every_ns(&self) -> Option<u64> {
            Some(10_000_000)
        }

        fn loaded(&mut self, now_ns: u64, worker: usize, load: &Load) {
            self.told.push(format!("{} ms: {worker} runs {}", now_ns / 1_000_000, load.running));
        }
    }

    #[test]
    fn what_arrives_is_answered_in_virtual_time_and_told_in_order() {
        let mut turns = Turns { left: 1, ..Turns::default() };
        play(vec![Profile::default(); 2], [(0, 0), (0, 1), (2_000_000, 7)], &mut turns);
        assert_eq!(
            turns.told,
            [
                "0 ms: 0 arrives, [0, 0]",
                "0 ms: 1 arrives, [1, 0]",
                "2 ms: 7 arrives, [1, 1]",
                "8 ms: first of 0 at 0",
                "8 ms: first of 1 at 1",
                "10 ms: 0 runs 0",
                "10 ms: 1 runs 0",
                "15 ms: 0 ended, 0 cached",
                "15 ms: 1 ended, 0 cached",
                "16 ms: 2 arrives, [0, 0]",
                "20 ms: 0 runs 1",
                "20 ms: 1 runs 0",
                "24 ms: first of 2 at 0",
                "30 ms: 0 runs 0",
                "30 ms: 1 runs 0",
                "31 ms: 2 ended, 99 cached",
            ]
        );
    }
}
