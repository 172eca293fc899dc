//! A run from beginning to end: prompts, warm-up, probe, the paced load, the join.
//!
//! Rule: an arrival waits for nothing but its due time (and, where asked for, a place under `--max-concurrency`, which then
//! shows in every latency from schedule). Every planned request becomes a row, sent or not. Deliberately not here: files.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::arrivals::{Load, Made};
use super::client::{Client, Limits, Outgoing};
use super::config::{LoadConfig, MOST_REQUESTS};
use super::connections::{CONNECT_TIMEOUT, Connections, Handshakes};
use super::dataset::{DatasetError, Opened, Prompt, Prompts, reuse, sessions};
use super::descriptors;
use super::failure::Class;
use super::faults::{Conducted, Conductor, Phases};
use super::join::{self, Joined};
use super::plan::{Maker, Plan};
use super::probe::{self, ServerInfo};
use super::progress::{Progress, Stop};
use super::rows::Rows;
use super::schedule::{Arrivals, Pace, Rate, Schedule};
use super::spool::Keeping;
use super::traced::{TraceError, Tracing};
use crate::clock::{Clock, Stamp, process_cpu_ns};
use crate::net::Connector;
use crate::net::descriptors::raise;
use crate::net::dialer::Dialer;

/// From planning to the first arrival: time for the pacer's thread to start.
const LEAD_NS: u64 = 20_000_000;
/// What asks for a number of prompts.
const NUMBER_FLAG: &str = "--num-prompts (1000 if not given)";
/// Connections opened ahead at most.
const MOST_SPARE: usize = 64;

/// What a run stands in: time, network, who is told, who stops it.
#[derive(Clone)]
pub struct RunContext {
    /// Where time comes from.
    pub clock: Clock,
    /// How connections are made.
    pub connector: Connector,
    /// Who is told.
    pub progress: Arc<dyn Progress>,
    /// Ends the run early.
    pub stop: Stop,
    /// This process does nothing but the load, so that its processor time is the client's.
    pub alone: bool,
    /// Where what is seen of the requests is kept until the files are written.
    pub keeping: Keeping,
}

impl RunReport {
    /// What the run was divided into: by its faults, else by its stages; `None` without either.
    pub fn phases(&self) -> Option<Phases> {
        phases(self.faults.as_ref(), &self.config)
    }
}

fn phases(faults: Option<&Conducted>, config: &LoadConfig) -> Option<Phases> {
    match (faults, &config.arrivals.pace) {
        (Some(faults), _) => Some(Phases::of(faults)),
        (None, Pace::Stages(stages)) => Some(Phases::of_stages(stages)),
        _ => None,
    }
}

impl RunContext {
    /// Over TCP, until the end.
    pub fn new(clock: Clock, progress: Arc<dyn Progress>) -> Self {
        let connector = Connector::Tcp { timeout: CONNECT_TIMEOUT };
        Self { clock, connector, progress, stop: Stop::never(), alone: false, keeping: Keeping::default() }
    }
}

/// Why there was no run.
#[derive(Debug)]
pub enum LoadError {
    /// The prompts could not be had: usage.
    Dataset(DatasetError),
    /// The options do not fit together: usage.
    Options(String),
    /// The target does not answer as it must.
    Target(String),
    /// Ctrl-C before the first arrival.
    Interrupted,
    /// The router's trace cannot be read.
    Trace(TraceError),
    /// The operating system refused something.
    System(std::io::Error),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dataset(e) => e.fmt(f),
            Self::Options(e) | Self::Target(e) => f.write_str(e),
            Self::Interrupted => f.write_str("interrupted before the first request: nothing was measured"),
            Self::Trace(e) => e.fmt(f),
            Self::System(e) => write!(f, "cannot start the pacing thread: {e}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// What the load was for the client.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClientWork {
    /// Processor time of this process; none where it does other work too.
    pub cpu_ns: Option<u64>,
    /// How long the load took.
    pub wall_ns: u64,
    /// Cores that this process may use.
    pub cores: usize,
    /// Time in flight of all requests together, from the due time to the moment the load loop had the end; counted by that loop
    /// and by no stamp of a request. None where it was not counted.
    pub in_flight_ns: Option<f64>,
}

impl ClientWork {
    fn of(context: &RunContext, cpu_before_ns: u64, wall_ns: u64, in_flight_ns: f64) -> Self {
        Self {
            cpu_ns: context.alone.then(|| process_cpu_ns() - cpu_before_ns),
            wall_ns,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            in_flight_ns: Some(in_flight_ns),
        }
    }
}

/// A run that took place.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// What was asked for.
    pub config: LoadConfig,
    /// Zero of every time in `rows`.
    pub start: Stamp,
    /// When each request was due.
    pub schedule: Arc<Schedule>,
    /// One for each planned request, in order.
    pub rows: Rows,
    /// Target or workers, as they describe themselves.
    pub servers: Vec<ServerInfo>,
    /// Requests for tokens in the router's trace that are none of this run's; `None` without a trace.
    pub strangers: Option<u64>,
    /// What was made of the schedule of failures, where there is one.
    pub faults: Option<Conducted>,
    /// It was ended early.
    pub partial: bool,
    /// Rows were joined with a router's trace.
    pub has_trace: bool,
    /// What an infinite cache over all workers could have given; `None` where there was no room to find out.
    pub reuse: Option<reuse::Reuse>,
    /// What else a reader has to know.
    pub notes: Vec<String>,
    /// Requests for whose token times there was no room.
    pub without_token_times: u64,
    /// Connections the client opened for the load; those of the warm-up and of questions about the server are not in it.
    pub connections_opened: u64,
    /// TLS handshakes of these connections.
    pub handshakes: Handshakes,
    /// What the load was for the client.
    pub client: ClientWork,
    /// XXH3 of the bodies of all requests, one after the other, in hexadecimal: two runs with one hash asked the same.
    pub prompts_xxh3: String,
    /// When the last request had ended, nanoseconds since the Unix epoch.
    pub ended_unix_ns: u64,
}

/// Makes the load and reports what happened.
///
/// # Errors
/// Nothing was measured: no prompts, no target, no readable trace. Failures of single requests are rows.
pub async fn run(mut config: LoadConfig, context: RunContext) -> Result<RunReport, LoadError> {
    let clock = &context.clock;
    let tracing = match &config.router_trace {
        Some(source) => {
            let asking = (&config.target, &config.headers);
            let tracing = Tracing::begin(source, asking, dialer(&config, &context), clock).await;
            Some(tracing.map_err(LoadError::Trace)?)
        }
        None => None,
    };
    let mut notes: Vec<String> = tracing.iter().filter_map(|tracing| tracing.note.clone()).collect();
    let Prepared { client, plan, schedule, target, reuse } = tokio::select! {
        biased;
        () = context.stop.wait() => return Err(LoadError::Interrupted),
        prepared = prepare(&config, &context, &mut notes) => prepared?,
    };
    if let Pace::Trace { schedule: of_trace, .. } = &mut config.arrivals.pace {
        *of_trace = Arc::clone(&schedule);
    }
    notes.extend(descriptors::shortage(at_once(&config, plan.prompts.len()), raise()));
    let opened_before = (client.connections.opened(), client.connections.handshakes());
    client.connections.tend(first_spare(&config, plan.prompts.len())).await;
    let mut clocks = vec![clock.snapshot()];
    let now = clock.now();
    let start = Stamp { mono_ns: now.mono_ns + LEAD_NS, unix_ns: now.unix_ns + LEAD_NS };
    let load =
        Load { config: &config, context: &context, client: &client, plan: &plan, schedule: &schedule, start };
    let cpu_before_ns = process_cpu_ns();
    let conductor =
        config.faults.as_ref().map(|f| Conductor::start(f, start.mono_ns, clock, &context.progress));
    let made = load.make(&mut clocks).await;
    let ended = clock.now();
    let faults = match conductor {
        Some(conductor) => Some(conductor.finish().await),
        None => None,
    };
    let Made { seen, without_token_times, in_flight_ns, steps } = made.map_err(LoadError::System)?;
    notes.extend(steps.note(start.mono_ns));
    let wall_ns = ended.mono_ns.saturating_sub(start.mono_ns);
    let work = ClientWork::of(&context, cpu_before_ns, wall_ns, in_flight_ns);
    if without_token_times > 0 {
        notes.push(format!("itl is of the first requests only: there was no room for the token times of {without_token_times}"));
    }
    clocks.push(clock.snapshot());
    let partial = context.stop.is_set();
    let connections_opened = client.connections.opened() - opened_before.0;
    let handshakes = client.connections.handshakes().since(opened_before.1);
    // Closes the idle connections: their descriptors may be what reading the trace lacks.
    drop(client);
    let phases = phases(faults.as_ref(), &config);
    let joined = join::Run {
        config: &config,
        start,
        clocks,
        target,
        phases,
        context: &context,
        notes: &mut notes,
        last_worker: RefCell::default(),
    };
    let Joined { rows, servers, strangers } = joined.rows(&plan, seen, tracing).await;
    Ok(RunReport {
        has_trace: config.router_trace.is_some(),
        config,
        start,
        schedule,
        rows,
        servers,
        strangers,
        faults,
        partial,
        reuse,
        notes,
        without_token_times,
        connections_opened,
        handshakes,
        client: work,
        prompts_xxh3: plan.xxh3.clone(),
        ended_unix_ns: ended.unix_ns,
    })
}

/// All that is there before the first arrival.
struct Prepared {
    client: Arc<Client>,
    plan: Arc<Plan>,
    /// One for each of the plan that has a due time of its own: they come first.
    schedule: Arc<Schedule>,
    target: ServerInfo,
    reuse: Option<reuse::Reuse>,
}

async fn prepare(
    config: &LoadConfig,
    context: &RunContext,
    notes: &mut Vec<String>,
) -> Result<Prepared, LoadError> {
    let RunContext { clock, progress, stop, .. } = context;
    let exact = config.backend.takes_tokens();
    let mut loaded =
        config.dataset.open(config.num_prompts, config.seed, exact).map_err(LoadError::Dataset)?;
    loaded.notes.iter().for_each(|note| progress.note(note));
    let mut schedule = schedule(config, &mut loaded, notes)?;
    notes.extend(unequal(&config.arrivals, &schedule, loaded.prompts.starts()));
    notes.extend(too_few(config, &loaded.prompts, schedule.at_ns.len()));
    loaded.prompts = loaded.prompts.arranged(schedule.at_ns.len());
    notes.extend(wait_as_saved(&config.arrivals, loaded.prompts.listed_mut()));
    schedule.waits = loaded.prompts.waits();
    let client = connect(config, context).await?;
    let model = model_name(config, &client).await?;
    let maker = Maker::new(config, model, clock.now()).map_err(LoadError::Options)?;
    let warmup = maker.warmup(config.warmup_requests, &loaded.prompts).map_err(LoadError::Options)?;
    let plan = maker.plan(loaded.prompts).map_err(LoadError::Options)?;
    for request in warmup {
        warm_up(&client, &request, stop).await?;
    }
    // After the warm-up: SGLang 0.4.9 does not answer before its first generation.
    let target = probe::server(&client, &config.target, config.backend).await;
    progress.note(&format!("target {target}"));
    let mut warmed = config.warmup_requests;
    if config.flush_cache {
        match probe::flush_cache(&client, &config.target).await {
            Ok(()) => warmed = 0,
            Err(e) => notes.push(format!("--flush-cache did not work, caches may be warm: {e}")),
        }
    }
    let reuse = reuse::of(&plan.prompts, warmed);
    if reuse.is_none() {
        notes.push(
            "cache hits have no bound beside them: the prompts are too many to find out what they share"
                .to_owned(),
        );
    }
    Ok(Prepared { client, plan: Arc::new(plan), schedule: Arc::new(schedule), target, reuse })
}

/// When the prompts are due.
fn schedule(
    config: &LoadConfig,
    loaded: &mut Opened,
    notes: &mut Vec<String>,
) -> Result<Schedule, LoadError> {
    let mut arrivals = config.arrivals.clone();
    if let Pace::Trace { pace, schedule } = &mut arrivals.pace {
        let stamps_ns = loaded.at_ns.take().ok_or_else(|| {
            LoadError::Options(format!("dataset {} has no times of its own", config.dataset.name()))
        })?;
        for after in loaded.prompts.listed_mut().iter_mut().filter_map(|p| p.turn.as_mut()?.after.as_mut()) {
            after.not_before_ns = (after.not_before_ns as f64 / pace.speedup) as u64;
            after.think_ns = (after.think_ns as f64 / pace.speedup) as u64;
        }
        let own: Vec<u64> = stamps_ns
            .into_iter()
            .zip(loaded.prompts.listed())
            .filter_map(|(at_ns, prompt)| (!sessions::is_later_turn(prompt)).then_some(at_ns))
            .collect();
        let (at_ns, tick_ns) = pace.due_ns(&own, config.seed);
        notes.extend(tick_ns.map(|tick_ns| {
            let seconds = tick_ns as f64 / 1e9;
            format!("the trace's clock has ticks of {seconds} s: requests are spread uniformly between them, by the seed (--keep-ticks leaves them)")
        }));
        *schedule = Arc::new(Schedule { at_ns, ..Schedule::default() });
    } else {
        // In another order of sessions than the trace's its times mean nothing.
        for after in loaded.prompts.listed_mut().iter_mut().filter_map(|p| p.turn.as_mut()?.after.as_mut()) {
            after.not_before_ns = 0;
        }
    }
    Ok(Schedule::new(&arrivals, loaded.prompts.starts(), config.seed))
}

/// How targets are reached; certificates that cannot be used are told by whoever needs them.
fn dialer(config: &LoadConfig, context: &RunContext) -> Dialer {
    Dialer::new(context.connector.clone(), config.tls.outgoing())
}

pub(super) async fn connect(config: &LoadConfig, context: &RunContext) -> Result<Arc<Client>, LoadError> {
    let (dialer, clock) = (dialer(config, context), context.clock.clone());
    let connections = Connections::to(&config.target, dialer, clock.clone()).await.map_err(|e| {
        LoadError::Target(format!("{}: cannot look up {}: {e}", config.target, config.target.host))
    })?;
    let host = config.target.host_port();
    let limits = Limits { whole: config.request_timeout, silence: config.idle_timeout };
    Client::new(connections, clock, &host, &config.headers, limits).map(Arc::new).map_err(LoadError::Options)
}

pub(super) async fn model_name(config: &LoadConfig, client: &Client) -> Result<String, LoadError> {
    match &config.model {
        Some(model) => Ok(model.clone()),
        None if !config.backend.names_model() => Ok(String::new()),
        None => probe::model(client, &config.target).await.ok_or_else(|| {
            LoadError::Target(format!("{}: GET /v1/models tells no model; give --model", config.target))
        }),
    }
}

async fn warm_up(client: &Client, request: &Outgoing, stop: &Stop) -> Result<(), LoadError> {
    let exchange = client.exchange(request, stop.wait()).await;
    match join::failure_of(&exchange) {
        None => Ok(()),
        Some(failure) if failure.class == Class::Interrupted => Err(LoadError::Interrupted),
        Some(failure) => Err(LoadError::Target(format!(
            "the warm-up request failed ({failure}); is a server ready at the target, and do --backend and --model fit it? \
             (--warmup-requests 0 goes without)"
        ))),
    }
}

/// Takes think times from a saved schedule that has any; what to say where they do not fit.
fn wait_as_saved(arrivals: &Arrivals, prompts: &mut [Prompt]) -> Option<String> {
    let Pace::Saved(saved) = &arrivals.pace else { return None };
    let fits = saved.waits.is_empty() || sessions::wait_as(prompts, &saved.waits);
    (!fits).then(|| {
        format!(
            "the saved schedule has {} sessions with {} later turns, and those sent are others: think times are the data set's",
            saved.at_ns.len(),
            saved.waits.len()
        )
    })
}

/// What to say where prompts and due times are not equally many.
fn unequal(arrivals: &Arrivals, schedule: &Schedule, prompts: usize) -> Option<String> {
    let due = schedule.at_ns.len();
    match &arrivals.pace {
        Pace::Saved(saved) if due < saved.at_ns.len() && due == prompts => Some(format!(
            "the saved schedule has {} requests; {due} of them were sent, as there are no more prompts",
            saved.at_ns.len()
        )),
        _ if due < prompts => {
            Some(format!("{due} of {prompts} prompts were sent: no more are due in the time asked for"))
        }
        _ => None,
    }
}

/// What to say where a data set ends before what was asked of it: all that are due in a time, or a number. `planned` have due times
/// of their own.
fn too_few(config: &LoadConfig, prompts: &Prompts, planned: usize) -> Option<String> {
    let (asked, has, starts) = (config.num_prompts, prompts.len(), prompts.starts());
    if has >= asked && !config.dataset.counts_itself() {
        // The number given ends the run.
        return None;
    }
    let of_sessions = prompts.listed().iter().any(|prompt| prompt.turn.is_some());
    let by_number = !of_sessions && !config.dataset.counts_itself();
    let said = |has: usize, what: &str, who: &str, asked: usize| {
        format!("the data set has {has} {what} to send, and none is sent twice: {who} asked for {asked}")
    };
    match config.arrivals.time_flag() {
        // The time ended first.
        Some(_) if planned < starts => None,
        Some(flag) => match config.starts_due()? {
            due if due <= starts => None,
            due if by_number && asked < due => Some(said(has, "prompts", NUMBER_FLAG, asked)),
            due => Some(said(starts, if of_sessions { "sessions" } else { "prompts" }, flag, due)),
        },
        // How many a saved schedule lacks is said where it is told (`unequal`).
        None if matches!(config.arrivals.pace, Pace::Saved(_)) => None,
        None => {
            let is_short = config.dataset.path().is_some() && asked < MOST_REQUESTS && has < asked;
            is_short.then(|| said(has, "prompts", NUMBER_FLAG, asked))
        }
    }
}

/// Requests that are due at the very beginning.
fn at_once(config: &LoadConfig, planned: usize) -> usize {
    let due = match &config.arrivals.pace {
        Pace::Rate(Rate::AllAtOnce) => planned,
        Pace::Trace { schedule, .. } => schedule.at_ns.iter().take_while(|at_ns| **at_ns == 0).count(),
        _ => 1,
    };
    due.min(config.max_concurrency.unwrap_or(usize::MAX))
}

/// As many connections as the first moments need; later ones come back from use.
fn first_spare(config: &LoadConfig, planned: usize) -> usize {
    let most = planned.min(config.max_concurrency.unwrap_or(usize::MAX)).min(4 * MOST_SPARE);
    at_once(config, planned).max(spare(&config.arrivals)).min(most)
}

/// Connections to keep open ahead of arrivals: a quarter second's worth; none where no more arrivals come.
pub(super) fn spare(arrivals: &Arrivals) -> usize {
    arrivals.peak_per_s().map_or(0, |r| (r / 4.0).ceil() as usize + 2).min(MOST_SPARE)
}
