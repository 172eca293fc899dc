//! Sends what waits in an outbox, from a thread of its own, while the router runs.
//!
//! Rule: nothing here can hold up a request or the trace's writer: thread, runtime and connection are its own, and all that is shared
//! is the outbox. A batch that the collector may take later is sent again with growing pauses, which the next batch inherits, so that
//! one that is away is not asked without end; after [`ATTEMPTS`] it is given up and counted. The end has [`LAST_WORDS`] for what still
//! waits. Deliberately not here: what a span is (`otlp`), the queue (`outbox`).

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::outbox::{Fate, Outbox, Posting};
use super::send::{ATTEMPTS, Collector, NotTaken, Sender};
use super::{BATCH_SPANS, Batch};
use crate::clock::{Clock, ClockSnapshot};
use crate::export::source::Placed;
use crate::log;
use crate::trace::align::align;
use crate::trace::axis::{ClockTrack, Offsets};
use crate::trace::header::ClockRecord;
use crate::trace::outlet::Follower;
use crate::trace::record::{RequestRecord, RunRecord};

/// Pause between two looks into the outbox.
const EVERY: Duration = Duration::from_millis(200);
/// Pause after a first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Time for what waits at the end.
pub const LAST_WORDS: Duration = Duration::from_secs(2);
/// Pause between two readings of the clocks.
const CLOCK_EVERY_NS: u64 = 10_000_000_000;
/// A change of wall minus monotonic time by more than this is read at once.
const MOVED_NS: u64 = 1_000_000;
/// How long readings of this host's clocks are held: a request that lasts longer is placed by these.
const CLOCKS_HELD_NS: u64 = 3_600_000_000_000;
/// Readings that are held at most, however often the wall clock is set.
const MAX_CLOCKS: usize = 4_096;
/// How long what was learned of other hosts' clocks is held.
const OFFSETS_HELD_NS: u64 = 300_000_000_000;

/// The thread, as a value that ends it.
#[derive(Debug)]
pub struct Courier {
    outbox: Arc<Outbox>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Courier {
    /// Begins to send the spans of this run to a collector.
    pub fn start(collector: Collector, run: &RunRecord, clock: Clock) -> io::Result<Self> {
        let outbox = Arc::new(Outbox::new(collector.to_string()));
        let (stop, stopped) = watch::channel(false);
        let sender = Sender::to(collector, clock.clone());
        let round = Round::of(Arc::clone(&outbox), sender, run, clock);
        let thread =
            std::thread::Builder::new().name("spans".to_owned()).spawn(move || round.begin(stopped))?;
        Ok(Self { outbox, stop, thread: Some(thread) })
    }

    /// Where requests wait.
    pub fn outbox(&self) -> Arc<Outbox> {
        Arc::clone(&self.outbox)
    }

    /// Takes what the trace's writer offers.
    pub fn follower(&self) -> Box<dyn Follower> {
        Box::new(Posting(self.outbox()))
    }
}

impl Drop for Courier {
    /// Sends what waits, within [`LAST_WORDS`], and says what was lost of it.
    fn drop(&mut self) {
        let lost_before = self.outbox.status().lost();
        self.stop.send_replace(true);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::warn("spans: the thread that sends them failed; the last ones are missing");
        }
        // Of a thread that failed or never had a runtime.
        self.outbox.give_up();
        let status = self.outbox.status();
        let lost = status.lost() - lost_before;
        if lost > 0 {
            let collector = &status.collector;
            log::warn(&format!("spans: {collector} did not take those of the last {lost} requests"));
        }
    }
}

/// What the thread holds.
struct Round {
    outbox: Arc<Outbox>,
    sender: Sender,
    batch: Batch,
    /// Requests in the batch.
    requests: u64,
    pause: Duration,
    clock: Clock,
    clocks: ClockTrack,
    last: ClockSnapshot,
    /// The last look that found the clocks as they were.
    unmoved_mono_ns: u64,
    offsets: Offsets,
}

impl Round {
    fn of(outbox: Arc<Outbox>, sender: Sender, run: &RunRecord, clock: Clock) -> Self {
        let mut clocks = ClockTrack::default();
        clocks.add(run.clock);
        Self {
            outbox,
            sender,
            batch: Batch::of(Some(run)),
            requests: 0,
            pause: FIRST_PAUSE,
            clocks,
            last: run.clock,
            unmoved_mono_ns: run.clock.mono_ns,
            offsets: Offsets::default(),
            clock,
        }
    }

    fn begin(self, stopped: watch::Receiver<bool>) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                runtime.block_on(self.go(stopped));
                // A look-up of the collector's name may hang in the resolver, on a thread that no drop may wait for.
                runtime.shutdown_background();
            }
            Err(error) => {
                self.fails(&format!("no runtime: {error}"), "none is sent, each is counted as lost");
            }
        }
    }

    async fn go(mut self, stopped: watch::Receiver<bool>) {
        let mut at_end = stopped.clone();
        let too_late = async {
            // A sender that is gone cannot change its mind.
            let _ = at_end.wait_for(|stop| *stop).await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            biased;
            () = self.deliver(stopped) => {}
            () = too_late => {}
        }
        self.outbox.count(Fate::NotTaken, self.requests);
        self.outbox.give_up();
    }

    /// Batch after batch, until it is to end and nothing waits.
    async fn deliver(&mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            // Looked at first, or what comes in between would be left.
            let is_last = *stopped.borrow();
            self.gather();
            if self.requests > 0 {
                self.send(&mut stopped).await;
            } else if is_last {
                return;
            } else {
                rest(EVERY, &mut stopped).await;
            }
        }
    }

    fn gather(&mut self) {
        for worker in self.outbox.take_workers() {
            self.offsets.know(&worker);
        }
        while self.batch.len() < BATCH_SPANS {
            let Some(request) = self.outbox.take() else { break };
            // After it has ended, so that a step before that is known.
            self.read_clocks();
            self.add(&request);
        }
        // Looked at in any case, so that a step is known to lie behind this.
        self.read_clocks();
        self.offsets.forget_before(self.last.mono_ns.saturating_sub(OFFSETS_HELD_NS));
    }

    fn add(&mut self, record: &RequestRecord) {
        self.offsets.learn(record);
        let aligned = align(record, &self.clocks, &self.offsets);
        self.batch.add(&Placed { run: 1, record, aligned });
        self.requests += 1;
    }

    fn read_clocks(&mut self) {
        let now = self.clock.now();
        let offset_ns = |unix_ns: u64, mono_ns: u64| unix_ns.wrapping_sub(mono_ns);
        let before_ns = offset_ns(self.last.unix_ns, self.last.mono_ns);
        let moved_ns =
            offset_ns(now.unix_ns, now.mono_ns).wrapping_sub(before_ns).cast_signed().unsigned_abs();
        if now.mono_ns.saturating_sub(self.last.mono_ns) >= CLOCK_EVERY_NS || moved_ns > MOVED_NS {
            self.last = self.clock.snapshot();
            let step_after_ns = Some(self.unmoved_mono_ns);
            self.clocks.add_record(&ClockRecord { wall_step_after_ns: step_after_ns, ..self.last.into() });
            self.clocks.forget_before(self.last.mono_ns.saturating_sub(CLOCKS_HELD_NS), MAX_CLOCKS);
        }
        self.unmoved_mono_ns = now.mono_ns;
    }

    /// Sends the batch until it is taken or given up; none is left of it afterwards.
    async fn send(&mut self, stopped: &mut watch::Receiver<bool>) {
        let body = self.batch.take();
        let mut fate = Fate::NotTaken;
        for _ in 0..ATTEMPTS {
            let is_last = *stopped.borrow();
            match self.sender.send_once(&body).await {
                Ok(refused_spans) => {
                    self.outbox.count_refused_spans(refused_spans);
                    fate = Fate::Sent;
                    self.works();
                    break;
                }
                Err(NotTaken::Never(why)) => {
                    fate = Fate::Refused;
                    self.fails(&why, "those that it refuses are not sent again but counted as lost");
                    break;
                }
                Err(NotTaken::Later(why, asked)) => {
                    self.fails(&why, "spans are sent again and counted where they are lost");
                    if is_last {
                        break;
                    }
                    // No less than our own: a collector that asks for none would be asked without end.
                    rest(asked.unwrap_or_default().max(self.pause), stopped).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        self.outbox.count(fate, std::mem::take(&mut self.requests));
    }

    fn works(&mut self) {
        self.pause = FIRST_PAUSE;
        if self.outbox.set_error(None).is_some() {
            let status = self.outbox.status();
            log::info(&format!(
                "spans: {} takes them again; those of {} requests are lost since the start",
                status.collector,
                status.lost()
            ));
        }
    }

    /// Says why spans are not taken, and what becomes of them; once until they are again.
    fn fails(&self, why: &str, fate: &str) {
        if self.outbox.set_error(Some(why.to_owned())).is_none() {
            let collector = self.outbox.status().collector;
            log::warn(&format!("spans: {collector} does not take them ({why}); requests go on, and {fate}"));
        }
    }
}

/// A pause that ends with the router.
async fn rest(pause: Duration, stopped: &mut watch::Receiver<bool>) {
    // Whichever it was.
    let _ = tokio::time::timeout(pause, stopped.wait_for(|stop| *stop)).await;
}

#[cfg(test)]
#[path = "courier_tests.rs"]
mod tests;
