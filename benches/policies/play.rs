//! One run: a workload, a fleet of simulated engines and somebody who chooses, in virtual time.
//!
//! Rule: everything that happens to a request is written into its row and told to the router. Deliberately not here: the order
//! of events (`milepost::sim::virtual_fleet`), randomness, and what is made of the rows (`figures`).

use milepost::sim::Profile;
use milepost::sim::engine::{Load, Progress};
use milepost::sim::virtual_fleet::{self, Placed, Traffic};

use crate::arms::{Ask, End, Router};
use crate::prompt;
use crate::workload::Workload;

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

/// The workload's requests, as they come to the fleet; what they are told of goes to the router and into the rows.
struct Game<'a> {
    workload: &'a Workload,
    router: &'a mut dyn Router,
    rows: Vec<Row>,
}

/// Plays all of a workload at `rate` requests a second.
pub fn play(workload: &Workload, rate: f64, fleet: &Fleet, router: &mut dyn Router) -> Played {
    let unit_ns = 1e9 / rate;
    let arrivals = workload.requests.iter().enumerate();
    let arrivals = arrivals.filter_map(|(place, request)| Some(((request.at? * unit_ns) as u64, place)));
    let mut game = Game { workload, router, rows: vec![Row::default(); workload.requests.len()] };
    virtual_fleet::play(vec![fleet.profile.clone(); fleet.workers], arrivals, &mut game);
    Played { rows: game.rows, span_ns: (workload.span * unit_ns) as u64 }
}

impl Traffic for Game<'_> {
    fn arrive(&mut self, now_ns: u64, place: usize, in_flight: &[u32]) -> Option<Placed> {
        let request = &self.workload.requests[place];
        let tokens = prompt::tokens(&request.pieces);
        let ask = Ask { seq: place as u64 + 1, request, tokens: &tokens, in_flight };
        let worker = self.router.choose(now_ns, &ask);
        self.rows[place] = Row { arrived_ns: now_ns, worker, ..Row::default() };
        Some(Placed {
            worker,
            prompt_bytes: tokens.len() * prompt::BYTES_PER_TOKEN,
            prompt: tokens.into(),
            answer: prompt::answer(place as u64),
            output_tokens: request.output_tokens,
            max_new_tokens: request.max_new_tokens,
        })
    }

    fn first_token(&mut self, now_ns: u64, place: usize, worker: usize) {
        let row = &mut self.rows[place];
        row.first_token_ns = now_ns;
        self.router.first_token(now_ns, place as u64 + 1, worker, now_ns - row.arrived_ns);
    }

    fn ended(
        &mut self,
        now_ns: u64,
        place: usize,
        worker: usize,
        progress: &Progress,
    ) -> Option<(u64, usize)> {
        let (row, request) = (&mut self.rows[place], &self.workload.requests[place]);
        (row.ended_ns, row.cached_tokens) = (now_ns, progress.cached_tokens);
        let end = End {
            seq: place as u64 + 1,
            worker,
            latency_ns: now_ns - row.arrived_ns,
            prompt_tokens: request.prompt_tokens,
            completion_tokens: progress.tokens,
            cached_tokens: progress.cached_tokens,
        };
        self.router.ended(now_ns, &end);
        request.next.map(|next| (now_ns + next.think_ns, next.request))
    }

    fn poll_every_ns(&self) -> Option<u64> {
        self.router.poll_every_ns()
    }

    fn loaded(&mut self, now_ns: u64, worker: usize, load: &Load) {
        self.router.loaded(now_ns, worker, load);
    }
}
