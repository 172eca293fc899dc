//! One run: a workload, a fleet of simulated engines and somebody who chooses, event by event in virtual time.
//!
//! Rule: what happened by a moment is told before a choice at it; at one moment, ends of steps come before polls, polls before
//! arrivals. The network and the decision take no time, so a latency is the fleet's work alone. Deliberately not here: real
//! time, randomness, and what is made of the rows (`figures`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use milepost::sim::Profile;
use milepost::sim::engine::{Engine, Job, Step};

use crate::arms::{Ask, End, Router};
use crate::prompt;
use crate::workload::Workload;

/// Answers are read at their first token and at their end; the engine need not tell of those between.
const REPORT_EVERY: u32 = u32::MAX;

/// What became of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Reached the router.
    pub arrived_ns: u64,
    /// Its first token.
    pub first_token_ns: u64,
    /// Its last token.
    pub ended_ns: u64,
    /// Who answered.
    pub worker: usize,
    /// Tokens of its prompt that were cached there.
    pub cached_tokens: u32,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Played {
    /// By place in the workload.
    pub rows: Vec<Row>,
    /// Last arrival of those that follow nothing.
    pub span_ns: u64,
}

/// A fleet to be played on.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Of each worker.
    pub profile: Profile,
    /// How many.
    pub workers: usize,
}

/// What happens next; the order at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    StepEnd(usize),
    Wake(usize),
    Poll,
    Arrival(usize),
}

struct Seat {
    engine: Engine,
    step: Option<Step>,
}

struct Game<'a> {
    workload: &'a Workload,
    router: &'a mut dyn Router,
    profile: &'a Profile,
    seats: Vec<Seat>,
    due: BinaryHeap<Reverse<(u64, Due)>>,
    rows: Vec<Row>,
    in_flight: Vec<u32>,
    left: usize,
}

/// Plays all of a workload at `rate` requests a second.
pub fn play(workload: &Workload, rate: f64, fleet: &Fleet, router: &mut dyn Router) -> Played {
    let unit_ns = 1e9 / rate;
    let seat = |_| Seat { engine: Engine::new(fleet.profile.clone(), 1.0, None), step: None };
    let mut game = Game {
        workload,
        router,
        profile: &fleet.profile,
        seats: (0..fleet.workers).map(seat).collect(),
        due: BinaryHeap::new(),
        rows: vec![Row::default(); workload.requests.len()],
        in_flight: vec![0; fleet.workers],
        left: workload.requests.len(),
    };
    for (place, request) in workload.requests.iter().enumerate() {
        if let Some(at) = request.at {
            game.due.push(Reverse(((at * unit_ns) as u64, Due::Arrival(place))));
        }
    }
    if let Some(every_ns) = game.router.poll_every_ns() {
        game.due.push(Reverse((every_ns, Due::Poll)));
    }
    while game.left > 0
        && let Some(Reverse((now_ns, due))) = game.due.pop()
    {
        match due {
            Due::StepEnd(worker) => game.end_step(worker, now_ns),
            Due::Wake(worker) => game.start_step(worker, now_ns),
            Due::Poll => game.poll(now_ns),
            Due::Arrival(place) => game.arrive(place, now_ns),
        }
    }
    Played { rows: game.rows, span_ns: (workload.span * unit_ns) as u64 }
}

impl Game<'_> {
    fn arrive(&mut self, place: usize, now_ns: u64) {
        let request = &self.workload.requests[place];
        let tokens = prompt::tokens(&request.pieces);
        let ask = Ask { seq: place as u64 + 1, request, tokens: &tokens, in_flight: &self.in_flight };
        let worker = self.router.choose(now_ns, &ask);
        self.in_flight[worker] += 1;
        self.rows[place] = Row { arrived_ns: now_ns, worker, ..Row::default() };
        let tokenize_ns = self.profile.tokenize_ns(tokens.len() * prompt::BYTES_PER_TOKEN) as u64;
        let queued_at_ns = now_ns + tokenize_ns;
        let seat = &mut self.seats[worker];
        seat.engine.submit(Job {
            id: place as u64,
            prompt: tokens.into(),
            answer: prompt::answer(place as u64),
            output_tokens: request.output_tokens,
            max_new_tokens: request.max_new_tokens,
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
            let (place, progress) = (event.id as usize, &event.progress);
            let (row, seq) = (&mut self.rows[place], event.id + 1);
            if progress.tokens == 1 && row.first_token_ns == 0 {
                row.first_token_ns = now_ns;
                self.router.first_token(now_ns, seq, worker, now_ns - row.arrived_ns);
            }
            if progress.end.is_none() {
                continue;
            }
            (row.ended_ns, row.cached_tokens) = (now_ns, progress.cached_tokens);
            self.in_flight[worker] -= 1;
            self.left -= 1;
            let request = &self.workload.requests[place];
            let end = End {
                seq,
                worker,
                latency_ns: now_ns - row.arrived_ns,
                prompt_tokens: request.prompt_tokens,
                completion_tokens: progress.tokens,
                cached_tokens: progress.cached_tokens,
            };
            self.router.ended(now_ns, &end);
            if let Some(next) = request.next {
                self.due.push(Reverse((now_ns + next.think_ns, Due::Arrival(next.request))));
            }
        }
        self.start_step(worker, now_ns);
    }

    fn poll(&mut self, now_ns: u64) {
        for (worker, seat) in self.seats.iter().enumerate() {
            self.router.loaded(now_ns, worker, &seat.engine.load());
        }
        if let Some(every_ns) = self.router.poll_every_ns() {
            self.due.push(Reverse((now_ns + every_ns, Due::Poll)));
        }
    }
}
