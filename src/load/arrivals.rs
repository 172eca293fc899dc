//! The paced part of a run: each request leaves at its due time and comes back as what was seen of it.
//!
//! Rule: handing out arrivals waits for no answer; after a stop nothing more is written. Deliberately not here: what comes
//! before and after, see `run`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::client::{Client, Exchange, Outgoing};
use super::config::LoadConfig;
use super::failure::{Class, Failure};
use super::join;
use super::live::Histogram;
use super::pacer;
use super::plan::Planned;
use super::progress::{Standing, Stop};
use super::run::{RunContext, spare};
use super::schedule::Schedule;
use super::turns::{Maker, Turned, reply_text};
use crate::clock::{Clock, ClockSnapshot, Stamp};

/// Seconds between two snapshots of both clocks, as the router's.
const SNAPSHOT_SECONDS: u64 = 10;
/// A wall clock that moved by more than this in a second was stepped.
const STEP_NS: u64 = 1_000_000;

/// Events with tokens whose times are kept, of all requests together: 320 MB.
const MOST_TOKEN_TIMES: usize = 20_000_000;

/// What came of a load.
pub(super) struct Made {
    /// One entry for each planned request.
    pub seen: Vec<Seen>,
    /// Requests whose token times were dropped for lack of room.
    pub without_token_times: u64,
    /// Time in flight of all requests together, as this loop counts them.
    pub in_flight_ns: f64,
}

/// What the client knows of one planned request.
#[derive(Debug)]
pub(super) struct Seen {
    pub scheduled_ns: u64,
    pub dispatched_ns: Option<u64>,
    /// When the client was done with it.
    pub ended_ns: Option<u64>,
    pub exchange: Exchange,
    /// What was said up to it, where later turns say it again.
    pub said: Vec<String>,
}

/// All it takes to make the load.
pub(super) struct Load<'a> {
    pub config: &'a LoadConfig,
    pub context: &'a RunContext,
    pub client: &'a Arc<Client>,
    pub planned: &'a Arc<Vec<Planned>>,
    pub schedule: &'a Arc<Schedule>,
    pub start: Stamp,
    pub maker: &'a Maker,
}

/// A load in progress.
struct Underway {
    requests: JoinSet<(usize, Seen)>,
    /// Turns whose time has not come.
    thinking: JoinSet<Turned>,
    seen: Vec<Option<Seen>>,
    standing: Standing,
    places: Arc<Semaphore>,
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
        let most = self.config.max_concurrency.unwrap_or(Semaphore::MAX_PERMITS);
        let mut now = Underway {
            requests: JoinSet::new(),
            thinking: JoinSet::new(),
            seen: std::iter::repeat_with(|| None).take(self.planned.len()).collect(),
            standing: Standing { planned: self.planned.len(), ..Standing::default() },
            places: Arc::new(Semaphore::new(most)),
            ttft: Histogram::default(),
            token_times: 0,
            without_token_times: 0,
            in_flight_ns: 0.0,
            counted_ns: self.start.mono_ns,
            tending: JoinSet::new(),
        };
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut stopping = std::pin::pin!(stop.wait());
        let mut before = clock.snapshot();
        let (mut arrivals_left, mut stopped, mut ticks) = (true, false, 0_u64);
        while arrivals_left || !now.requests.is_empty() || !now.thinking.is_empty() {
            tokio::select! {
                biased;
                // Requests in flight see it too and end by themselves.
                () = stopping.as_mut(), if !stopped => {
                    (stopped, arrivals_left) = (true, false);
                    now.thinking.abort_all();
                }
                due = paced.next(), if arrivals_left => match due {
                    None => arrivals_left = false,
                    Some(index) => {
                        let plan = &self.planned[index];
                        let said = plan.question.iter().cloned().collect();
                        let scheduled_ns = self.start.mono_ns + self.schedule.at_ns[index];
                        self.send(Turned { index, scheduled_ns, made: None, said }, &mut now);
                    }
                },
                Some(turn) = now.thinking.join_next(), if !now.thinking.is_empty() => {
                    if let (Ok(turn), false) = (turn, stopped) {
                        self.send(turn, &mut now);
                    }
                }
                Some(ended) = now.requests.join_next(), if !now.requests.is_empty() => {
                    now.count(clock.mono_ns());
                    let ended = ended.ok();
                    if let (Some((index, seen)), false) = (&ended, stopped) {
                        self.follow(*index, seen, &mut now);
                    }
                    now.take(ended);
                }
                _ = tick.tick() => {
                    ticks += 1;
                    let looked = clock.snapshot();
                    watch(clocks, before, looked, ticks.is_multiple_of(SNAPSHOT_SECONDS));
                    before = looked;
                    self.tell(&mut now);
                    self.tend(&mut now, arrivals_left);
                }
            }
        }
        self.tell(&mut now);
        now.tending.shutdown().await;
        // Of a turn that never came only the beginning of its session is known.
        let scheduled_ns = |index: usize| {
            let mut first = index;
            while let Some(after) = &self.planned[first].after {
                first = after.prompt;
            }
            self.start.mono_ns + self.schedule.at_ns[first]
        };
        let Underway { without_token_times, in_flight_ns, .. } = now;
        let seen = now.seen.into_iter().enumerate();
        let seen = seen.map(|(i, one)| one.unwrap_or_else(|| never_sent(scheduled_ns(i)))).collect();
        Ok(Made { seen, without_token_times, in_flight_ns })
    }

    /// Lets the turns that waited for an answer be made and wait for their time. Without a good answer they never come.
    fn follow(&self, index: usize, seen: &Seen, now: &mut Underway) {
        let plan = &self.planned[index];
        if plan.followers.is_empty() || join::failure_of(&seen.exchange).is_some() {
            return;
        }
        let mut said = seen.said.clone();
        if plan.outgoing.keep_answer {
            let body = seen.exchange.body.clone().unwrap_or_default().freeze();
            let Some(text) = reply_text(self.config.backend, &body) else { return };
            said.push(text);
        }
        let ended_ns = seen.ended_ns.unwrap_or(self.start.mono_ns);
        for follower in &plan.followers {
            let next = (*follower, self.planned[*follower].clone());
            now.thinking.spawn(self.maker.clone().turn(next, said.clone(), ended_ns, self.start.mono_ns));
        }
    }

    fn send(&self, turn: Turned, now: &mut Underway) {
        let mono_ns = self.context.clock.mono_ns();
        now.count(mono_ns);
        // In flight since its due time: how late the pacer was is measured by itself.
        now.in_flight_ns += mono_ns.saturating_sub(turn.scheduled_ns) as f64;
        now.standing.due += 1;
        let arrival = Arrival {
            index: turn.index,
            scheduled_ns: turn.scheduled_ns,
            made: turn.made,
            said: turn.said,
            client: Arc::clone(self.client),
            place: queue(&now.places),
            planned: Arc::clone(self.planned),
            clock: self.context.clock.clone(),
            stop: self.context.stop.clone(),
        };
        now.requests.spawn(arrival.go());
    }

    fn tell(&self, now: &mut Underway) {
        let elapsed_ns = self.context.clock.mono_ns().saturating_sub(self.start.mono_ns);
        now.standing.elapsed_s = elapsed_ns as f64 / 1e9;
        let standing = &mut now.standing;
        let places = self.config.max_concurrency.unwrap_or(usize::MAX);
        standing.waiting = (standing.due - standing.ended).saturating_sub(places);
        let paced = self.config.arrivals.mean_per_s().is_some();
        standing.asked = paced.then(|| self.schedule.at_ns.partition_point(|at_ns| *at_ns <= elapsed_ns));
        standing.ttft_ms = now.ttft.percentile_ms(0.5).zip(now.ttft.percentile_ms(0.99));
        self.context.progress.standing(now.standing);
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
    /// Books the time since the last change. To be called before each.
    fn count(&mut self, mono_ns: u64) {
        let in_flight = (self.standing.due - self.standing.ended) as f64;
        self.in_flight_ns += in_flight * mono_ns.saturating_sub(self.counted_ns) as f64;
        self.counted_ns = self.counted_ns.max(mono_ns);
    }

    /// `None`: its task failed; the request stays without an entry.
    fn take(&mut self, ended: Option<(usize, Seen)>) {
        self.standing.ended += 1;
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
                        answer.token_times = Vec::new();
                        self.without_token_times += 1;
                    }
                }
                self.standing.failed += usize::from(join::failure_of(&seen.exchange).is_some());
                self.seen[index] = Some(seen);
            }
            None => self.standing.failed += 1,
        }
    }
}

/// Keeps a snapshot where one is due, and both sides of a step, so that no more than its second is in doubt.
fn watch(clocks: &mut Vec<ClockSnapshot>, before: ClockSnapshot, looked: ClockSnapshot, due: bool) {
    let wall_ns = looked.unix_ns.wrapping_sub(before.unix_ns);
    let moved_ns = wall_ns.cast_signed().abs_diff(looked.mono_ns.wrapping_sub(before.mono_ns).cast_signed());
    let stepped = moved_ns > STEP_NS;
    if stepped {
        clocks.push(before);
    }
    if stepped || due {
        clocks.push(looked);
    }
}

fn never_sent(scheduled_ns: u64) -> Seen {
    let failure = Some(Failure::new(Class::NotSent, "the run or its session ended before its turn"));
    Seen {
        scheduled_ns,
        dispatched_ns: None,
        ended_ns: None,
        exchange: Exchange { failure, ..Exchange::default() },
        said: Vec::new(),
    }
}

type Place = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// A place in the queue for `--max-concurrency`. Places go out in the order of the first poll, so that is done here, in the
/// order of the schedule: of spawned tasks the runtime would take any first, and prefix caches would see another order in
/// every run. Unconstrained, as a poll beyond tokio's budget would not queue.
fn queue(places: &Arc<Semaphore>) -> Place {
    let mut place = Box::pin(tokio::task::unconstrained(Arc::clone(places).acquire_owned()));
    match place.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(place) => Box::pin(std::future::ready(place)),
        Poll::Pending => place,
    }
}

/// One request from its due time to its end.
struct Arrival {
    index: usize,
    scheduled_ns: u64,
    /// Of a turn that says what was answered: its request.
    made: Option<Result<Outgoing, String>>,
    said: Vec<String>,
    client: Arc<Client>,
    place: Place,
    planned: Arc<Vec<Planned>>,
    clock: Clock,
    stop: Stop,
}

impl Arrival {
    async fn go(self) -> (usize, Seen) {
        let place = tokio::select! {
            biased;
            () = self.stop.wait() => None,
            place = self.place => place.ok(),
        };
        // The stop may have freed the place before its word reached this task.
        if place.is_none() || self.stop.is_set() {
            return (self.index, never_sent(self.scheduled_ns));
        }
        let dispatched_ns = Some(self.clock.mono_ns());
        let outgoing = match &self.made {
            None => &self.planned[self.index].outgoing,
            Some(Ok(made)) => made,
            // The same shape was made for the first turn.
            Some(Err(_)) => return (self.index, never_sent(self.scheduled_ns)),
        };
        let exchange = self.client.exchange(outgoing, self.stop.wait()).await;
        let ended_ns = Some(self.clock.mono_ns());
        drop(place);
        (
            self.index,
            Seen { scheduled_ns: self.scheduled_ns, dispatched_ns, ended_ns, exchange, said: self.said },
        )
    }
}
