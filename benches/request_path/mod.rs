//! The steps of a request, one by one, as calls into the library.
//!
//! Rule: what is called here is what the router calls, with the same kind of data; a step that needs a socket is part of the
//! rest. Deliberately not here: threads (`lock`), tables (`tell`).

mod lock;
mod stage;
mod steps;
mod tell;

use rustix::time::{ClockId, clock_gettime};

pub use self::tell::sections;

/// Sizes of the fleet for the curve.
pub const FLEETS: [usize; 6] = [1, 2, 8, 32, 128, 512];
/// Bytes of a prompt for the look.
pub const PROMPTS: [usize; 3] = [120, 4_096, 65_536];
/// Candidates in the comparison with and without a trace.
pub const TRACED_FLEET: usize = 8;

/// What each step takes, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    /// The client's head: read, looked through once, its request line understood.
    pub request_head_ns: f64,
    /// The worker's head read.
    pub response_head_ns: f64,
    /// The look at a body, by [`PROMPTS`].
    pub look_ns: Vec<f64>,
    /// Hashing its prompt.
    pub hash_ns: Vec<f64>,
    /// Both heads written, the stamps in them.
    pub heads_written_ns: f64,
    /// The stamps in both alone.
    pub stamps_ns: f64,
    /// The worker's answer looked at.
    pub answer_ns: f64,
    /// By [`FLEETS`], the headline's policy.
    pub fleets: Vec<FleetStep>,
    /// With [`TRACED_FLEET`] candidates: the record begun, filled, ended and handed over, without the decision.
    pub record_traced_ns: f64,
    /// The same with the trace off.
    pub record_untraced_ns: f64,
    /// In the writer's thread: taken, serialised, written to a file, freed.
    pub writer_ns: f64,
    /// Each policy's decision with its lease and the word of its end, by [`FLEETS`].
    pub policies: Vec<(&'static str, Vec<f64>)>,
    /// Telling the policies of one event.
    pub observe_ns: f64,
    /// Decisions by several threads at once.
    pub lock: Vec<LockStep>,
}

/// At one size of the fleet.
#[derive(Clone, Copy, Debug)]
pub struct FleetStep {
    /// Its size.
    pub workers: usize,
    /// Decision, lease taken and given back, the policy told of the end.
    pub choose_ns: f64,
    /// The record begun, filled, ended and handed over.
    pub record_ns: f64,
    /// The record serialised.
    pub serialise_ns: f64,
    /// Its length.
    pub record_bytes: f64,
}

/// Decisions by so many threads.
#[derive(Clone, Copy, Debug)]
pub struct LockStep {
    /// Threads.
    pub threads: usize,
    /// Time between two decisions of any of them: with the lock always wanted, how long it is held and handed over.
    pub each_ns: f64,
}

/// Measures all steps; `quick`: with few repetitions.
pub fn measure(cores: usize, quick: bool) -> Result<Steps, String> {
    milepost::log::set_level(milepost::log::Level::Warn);
    small_pages(true);
    let steps = steps::all(&Timer { rounds: if quick { 3 } else { 9 } });
    let steps = steps.and_then(|steps| Ok(Steps { lock: lock::measure(cores, quick)?, ..steps }));
    // Inherited by what is started from here on, which must have it as it is elsewhere.
    small_pages(false);
    steps
}

/// As the router's process is.
fn small_pages(alone: bool) {
    // A kernel that does not know the request goes on as it would have.
    let _ = rustix::thread::disable_transparent_huge_pages(alone);
}

/// Takes times.
pub struct Timer {
    rounds: usize,
}

impl Timer {
    /// Nanoseconds of one call: the median over rounds of `batch` calls, with `between` after each round not counted.
    pub fn each_ns(&self, batch: usize, mut step: impl FnMut(usize), mut between: impl FnMut()) -> f64 {
        let mut rounds: Vec<f64> = (0..=self.rounds)
            .map(|round| {
                let start_ns = thread_cpu_ns();
                (0..batch).for_each(|n| step(round * batch + n));
                let took_ns = thread_cpu_ns() - start_ns;
                between();
                took_ns as f64 / batch as f64
            })
            // The first one warms caches.
            .skip(1)
            .collect();
        crate::table::median(&mut rounds).unwrap_or(0.0)
    }
}

fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
