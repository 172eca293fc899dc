//! The paced part of a run: each request leaves at its due time and comes back as what was seen of it.
//!
//! Rule: handing out arrivals waits for no answer; after a stop nothing more is written. Deliberately not here: what comes
//! before and after, see `run`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::ahead::{self, Ahead};
use super::client::{Client, Exchange};
use super::config::LoadConfig;
use super::failure::{Class, Failure};
use super::join;
use super::live::Histogram;
use super::pacer;
use super::plan::Plan;
use super::progress::{Standing, Stop};
use super::run::{RunContext, spare};
use super::schedule::Schedule;
use super::spool::seen::{AllSeen, Seeing};
use super::turns::{Turned, reply_text, turn};
use crate::clock::{Clock, ClockSnapshot, Stamp};

/// Seconds between two snapshots of both clocks, as the router's.
const SNAPSHOT_SECONDS: u64 = 10;
/// A wall clock that moved by more than this in a second was stepped.
const STEP_NS: u64 = 1_000_000;

/// Events with tokens whose times are kept, of all requests together: 320 MB in memory, less in a scratch file.
const MOST_TOKEN_TIMES: usize = 20_000_000;

/// Why a request was never sent.
const ENDED: &str = "the run or its session ended before its turn";

/// Requests without a place that are taken from the pacer; those beyond are counted when they are, from their due time on.
const MOST_WAITING: usize = 4096;

/// What came of a load.
pub(super) struct Made {
    /// What was seen of each planned request.
    pub seen: AllSeen,
    /// Requests whose token times were dropped for lack of room.
    pub without_token_times: u64,
    /// Time in flight of all requests together, as this loop counts them.
    pub in_flight_ns: f64,
    /// Steps of the wall clock.
    pub steps: WallSteps,
}

/// Steps of the wall clock that were seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WallSteps {
    /// How many.
    pub count: u64,
    /// The first: when, on the monotonic clock, and by how much.
    pub first_ns: Option<(u64, i64)>,
}

/// What the client knows of one planned request.
#[derive(Debug)]
pub(super) struct Seen {
    pub scheduled_ns: u64,
    pub dispatched_ns: Option<u64>,
    /// When the client was done with it.
    pub ended_ns: Option<u64>,
    pub exchange: Exchange,
    /// Tokens that were counted in an answer whose token times were dropped for lack of room.
    pub count_kept: Option<u64>,
    /// What was said up to it, where later turns say it again.
    pub said: Vec<String>,
}

/// All it takes to make the load.
pub(super) struct Load<'a> {
    pub config: &'a LoadConfig,
    pub context: &'a RunContext,
    pub client: &'a Arc<Client>,
    pub plan: &'a Arc<Plan>,
    pub schedule: &'a Arc<Schedule>,
    pub start: Stamp,
}

/// A request that is due.
enum Due {
    /// One with a due time of its own: its body comes from [`Ahead`].
    Start(usize),
    Turn(Box<Turned>),
}

/// A load in progress.
struct Underway {
    requests: JoinSet<(usize, Box<Seen>)>,
    /// Due, and without a place under `--max-concurrency`. Places are given out in this order, so that prefix caches see the same
    /// one in every run; what waits here has no task and no body.
    waiting: VecDeque<Due>,
    /// Places left.
    places: usize,
    /// Turns whose time has not come.
    thinking: JoinSet<Turned>,
    seen: Seeing,
    standing: Standing,
    /// Requests taken from the pacer.
    starts: usize,
    ttft: Histogram,
    token_times: usize,
    without_token_times: u64,
    /// Time in flight of all requests together until `counted_ns`.
    in_flight_ns: f64,
    counted_ns: u64,
    /// Opens and closes idle connections.
    tending: JoinSet<()>,
}

impl Load<'_> {
    /// Sends and waits. Adds a clock snapshot every 10 s, and two round a step of the wall clock.
    pub(super) async fn make(&self, clocks: &mut Vec<ClockSnapshot>) -> io::Result<Made> {
        let RunContext { clock, stop, .. } = self.context;
        let mut paced = pacer::start(Arc::clone(self.schedule), self.start.mono_ns, clock.clone())?;
        let mut bodies = Ahead::start(self.plan, self.schedule.at_ns.len(), clock)?;
        let places = self.config.max_concurrency.unwrap_or(usize::MAX);
        let seeing = Seeing::of(self.plan.prompts.len(), &self.context.keeping);
        let mut now = Underway::new(self.plan.prompts.len(), seeing, places, self.start.mono_ns);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut stopping = std::pin::pin!(stop.wait());
        let mut before = clock.snapshot();
        let (mut arrivals_left, mut stopped, mut ticks) = (true, false, 0_u64);
        let mut steps = WallSteps::default();
        while arrivals_left || !now.is_over() {
            tokio::select! {
                biased;
                // Requests in flight see it too and end by themselves.
                () = stopping.as_mut(), if !stopped => {
                    (stopped, arrivals_left) = (true, false);
                    now.thinking.abort_all();
                    self.give_up(&mut now);
                }
                body = bodies.next(), if now.wants_body() => self.send(Some(body), &mut now),
                due = paced.next(), if arrivals_left && now.waiting.len() < MOST_WAITING => match due {
                    None => arrivals_left = false,
                    Some(index) => {
                        now.starts += 1;
                        self.due(Due::Start(index), &mut now);
                    }
                },
                Some(turn) = now.thinking.join_next(), if !now.thinking.is_empty() => {
                    if let (Ok(turn), false) = (turn, stopped) {
                        self.due(Due::Turn(Box::new(turn)), &mut now);
                        self.send(None, &mut now);
                    }
                }
                Some(ended) = now.requests.join_next(), if !now.requests.is_empty() => {
                    now.count(clock.mono_ns());
                    let ended = ended.ok();
                    if let (Some((index, seen)), false) = (&ended, stopped) {
                        self.follow(*index, seen, &mut now);
                    }
                    now.take(ended);
                    self.send(None, &mut now);
                }
                _ = tick.tick() => {
                    ticks += 1;
                    let looked = clock.snapshot();
                    steps.take(watch(clocks, before, looked, ticks.is_multiple_of(SNAPSHOT_SECONDS)));
                    before = looked;
                    self.tell(&mut now);
                    self.tend(&mut now, arrivals_left);
                }
            }
        }
        steps.take(watch(clocks, before, clock.snapshot(), false));
        self.tell(&mut now);
        now.tending.shutdown().await;
        // Of a turn that never came only the beginning of its session is known.
        let scheduled_ns = |index: usize| {
            let mut first = index;
            while let Some(after) = self.plan.prompts.after(first) {
                first = after.prompt;
            }
            self.due_ns(first)
        };
        let Underway { without_token_times, in_flight_ns, .. } = now;
        let seen = now.seen.finish(|index| never_sent(scheduled_ns(index), ENDED));
        Ok(Made { seen, without_token_times, in_flight_ns, steps })
    }

    /// When a request that has a due time of its own is due.
    fn due_ns(&self, index: usize) -> u64 {
        self.start.mono_ns + self.schedule.at_ns[index]
    }

    /// Lets the turns that waited for an answer be made and wait for their time. Without a good answer they never come.
    fn follow(&self, index: usize, seen: &Seen, now: &mut Underway) {
        let followers = self.plan.followers(index);
        if followers.is_empty() || join::failure_of(&seen.exchange).is_some() {
            return;
        }
        let mut said = seen.said.clone();
        if self.plan.keeps_answer(index) {
            let body = seen.exchange.body.clone().unwrap_or_default().freeze();
            let Some(text) = reply_text(self.config.backend, &body) else { return };
            said.push(text);
        }
        let times_ns = (self.start.mono_ns, seen.ended_ns.unwrap_or(self.start.mono_ns));
        for follower in followers {
            let clock = self.context.clock.clone();
            now.thinking.spawn(turn(Arc::clone(self.plan), *follower, said.clone(), times_ns, clock));
        }
    }

    /// Takes a request into the queue for a place.
    fn due(&self, due: Due, now: &mut Underway) {
        let scheduled_ns = match &due {
            Due::Start(index) => self.due_ns(*index),
            Due::Turn(turn) => turn.scheduled_ns,
        };
        let mono_ns = self.context.clock.mono_ns();
        now.count(mono_ns);
        // In flight since its due time: how late the pacer was is measured by itself.
        now.in_flight_ns += mono_ns.saturating_sub(scheduled_ns) as f64;
        now.standing.due += 1;
        now.waiting.push_back(due);
    }

    /// Sends what is first in the queue: a start, whose body is here, and then the turns behind it. `None`: turns alone.
    fn send(&self, mut body: Option<ahead::Made>, now: &mut Underway) {
        while now.places > 0 {
            let turned = match now.waiting.pop_front() {
                Some(Due::Turn(turned)) => *turned,
                Some(Due::Start(index)) => {
                    let Some(body) = body.take() else {
                        now.waiting.push_front(Due::Start(index));
                        return;
                    };
                    let said = self.plan.prompts.question(index).cloned().into_iter().collect();
                    Turned { index, scheduled_ns: self.due_ns(index), body, said }
                }
                None => return,
            };
            now.places -= 1;
            let arrival = Arrival {
                turned,
                client: Arc::clone(self.client),
                plan: Arc::clone(self.plan),
                clock: self.context.clock.clone(),
                stop: self.context.stop.clone(),
            };
            pacer::begin(&mut now.requests, arrival.go());
        }
    }

    /// Ends what waits for a place.
    fn give_up(&self, now: &mut Underway) {
        now.count(self.context.clock.mono_ns());
        for due in std::mem::take(&mut now.waiting) {
            now.standing.ended += 1;
            now.standing.failed += 1;
            // A start that was not sent gets its entry at the end.
            if let Due::Turn(turn) = due {
                now.seen.put(turn.index, &never_sent(turn.scheduled_ns, ENDED));
            }
        }
    }

    fn tell(&self, now: &mut Underway) {
        let elapsed_ns = self.context.clock.mono_ns().saturating_sub(self.start.mono_ns);
        now.standing.elapsed_s = elapsed_ns as f64 / 1e9;
        let asked = self.schedule.at_ns.partition_point(|at_ns| *at_ns <= elapsed_ns);
        let with_pacer = asked.saturating_sub(now.starts);
        let mut standing = now.standing;
        standing.due += with_pacer;
        standing.waiting = now.waiting.len() + with_pacer;
        standing.asked = self.config.arrivals.mean_per_s().is_some().then_some(asked);
        standing.ttft_ms = now.ttft.percentile_ms(0.5).zip(now.ttft.percentile_ms(0.99));
        self.context.progress.standing(standing);
    }

    fn tend(&self, now: &mut Underway, arrivals_left: bool) {
        while now.tending.try_join_next().is_some() {}
        if now.tending.is_empty() {
            let client = Arc::clone(self.client);
            let spare = if arrivals_left { spare(&self.config.arrivals) } else { 0 };
            now.tending.spawn(async move { client.connections.tend(spare).await });
        }
    }
}

impl Underway {
    fn new(planned: usize, seen: Seeing, places: usize, start_ns: u64) -> Self {
        Self {
            requests: JoinSet::new(),
            waiting: VecDeque::new(),
            places,
            thinking: JoinSet::new(),
            seen,
            standing: Standing { planned, ..Standing::default() },
            starts: 0,
            ttft: Histogram::default(),
            token_times: 0,
            without_token_times: 0,
            in_flight_ns: 0.0,
            counted_ns: start_ns,
            tending: JoinSet::new(),
        }
    }

    /// Nothing is due, on its way or thought about.
    fn is_over(&self) -> bool {
        self.requests.is_empty() && self.thinking.is_empty() && self.waiting.is_empty()
    }

    /// A start is first in the queue, and there is a place for it.
    fn wants_body(&self) -> bool {
        self.places > 0 && matches!(self.waiting.front(), Some(Due::Start(_)))
    }

    /// Books the time since the last change. To be called before each.
    fn count(&mut self, mono_ns: u64) {
        let in_flight = (self.standing.due - self.standing.ended) as f64;
        self.in_flight_ns += in_flight * mono_ns.saturating_sub(self.counted_ns) as f64;
        self.counted_ns = self.counted_ns.max(mono_ns);
    }

    /// `None`: its task failed; the request stays without an entry.
    fn take(&mut self, ended: Option<(usize, Box<Seen>)>) {
        self.standing.ended += 1;
        self.places += 1;
        match ended {
            Some((index, mut seen)) => {
                seen.exchange.body = None;
                let Exchange { stamps, answer, .. } = &mut seen.exchange;
                if let Some(answer) = answer {
                    if let (Some(begun_ns), Some(first_ns)) = (stamps.write_begun_ns, answer.first_token_ns) {
                        self.ttft.add(first_ns.saturating_sub(begun_ns));
                    }
                    self.token_times += answer.token_times.len();
                    if self.token_times > MOST_TOKEN_TIMES {
                        // The count may be all there is: some servers tell none.
                        let times = std::mem::take(&mut answer.token_times);
                        seen.count_kept = times.last().map(|last| last.tokens.into());
                        self.without_token_times += 1;
                    }
                }
                self.standing.failed += usize::from(join::failure_of(&seen.exchange).is_some());
                self.seen.put(index, &seen);
            }
            None => self.standing.failed += 1,
        }
    }
}

impl WallSteps {
    fn take(&mut self, step_ns: Option<(u64, i64)>) {
        self.count += u64::from(step_ns.is_some());
        self.first_ns = self.first_ns.or(step_ns);
    }

    /// What a reader of the figures has to know; `start_ns` is the zero of their times.
    pub(super) fn note(&self, start_ns: u64) -> Option<String> {
        let (at_ns, by_ns) = self.first_ns?;
        let seconds = at_ns.saturating_sub(start_ns) as f64 / 1e9;
        let more =
            if self.count > 1 { format!(", and {} times more", self.count - 1) } else { String::new() };
        Some(format!(
            "the wall clock was stepped by {:+.3} ms about {seconds:.1} s into the run{more}: no latency rests on it; times of day do, and \
             servers' stamps of about that second are in doubt",
            by_ns as f64 / 1e6
        ))
    }
}

/// Keeps a snapshot where one is due, and both sides of a step, so that no more than its second is in doubt; the step, if there
/// was one.
fn watch(
    clocks: &mut Vec<ClockSnapshot>,
    before: ClockSnapshot,
    looked: ClockSnapshot,
    due: bool,
) -> Option<(u64, i64)> {
    let wall_ns = looked.unix_ns.wrapping_sub(before.unix_ns);
    let moved_ns = wall_ns.wrapping_sub(looked.mono_ns.wrapping_sub(before.mono_ns)).cast_signed();
    let stepped = moved_ns.unsigned_abs() > STEP_NS;
    if stepped {
        clocks.push(before);
    }
    if stepped || due {
        clocks.push(looked);
    }
    stepped.then_some((looked.mono_ns, moved_ns))
}

/// What is seen of a request that never left.
pub(super) fn never_sent(scheduled_ns: u64, why: &str) -> Seen {
    let failure = Some(Failure::new(Class::NotSent, why));
    Seen {
        scheduled_ns,
        dispatched_ns: None,
        ended_ns: None,
        exchange: Exchange { failure, ..Exchange::default() },
        count_kept: None,
        said: Vec::new(),
    }
}

/// One request from its place to its end.
struct Arrival {
    turned: Turned,
    client: Arc<Client>,
    plan: Arc<Plan>,
    clock: Clock,
    stop: Stop,
}

impl Arrival {
    async fn go(self) -> (usize, Box<Seen>) {
        let Turned { index, scheduled_ns, body, said } = self.turned;
        let outgoing = body.and_then(|body| self.plan.outgoing(index, body));
        let outgoing = match outgoing {
            // Stopped between its place and its task.
            _ if self.stop.is_set() => return (index, Box::new(never_sent(scheduled_ns, ENDED))),
            Ok(outgoing) => outgoing,
            // It was made once, of a turn the same shape: there is no memory or no thread.
            Err(why) => return (index, Box::new(never_sent(scheduled_ns, &why))),
        };
        let dispatched_ns = Some(self.clock.mono_ns());
        let exchange = self.client.exchange(&outgoing, self.stop.wait()).await;
        let ended_ns = Some(self.clock.mono_ns());
        (index, Box::new(Seen { scheduled_ns, dispatched_ns, ended_ns, exchange, count_kept: None, said }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::spool::Keeping;
    use crate::wire::answer::{Answer, TokenTime};

    #[test]
    fn tokens_are_counted_where_there_is_no_room_for_their_times() {
        let mut now = Underway::new(2, Seeing::of(2, &Keeping::default()), 2, 0);
        now.token_times = MOST_TOKEN_TIMES - 2;
        for index in 0..2 {
            let token_times = [1, 2].map(|n| TokenTime { at_ns: n.into(), tokens: n, member: 0 }).to_vec();
            let mut seen = never_sent(0, ENDED);
            seen.exchange.answer = Some(Answer { token_times, ..Answer::default() });
            now.take(Some((index, Box::new(seen))));
        }
        let seen = now.seen.finish(|_| never_sent(0, ENDED));
        let kept = |seen: Seen| (seen.exchange.answer.unwrap().token_times.len(), seen.count_kept);
        assert_eq!(seen.iter().map(kept).collect::<Vec<_>>(), [(2, None), (0, Some(2))]);
        assert_eq!(now.without_token_times, 1);
    }
}
