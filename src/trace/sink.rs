//! Where finished records wait for the writer.
//!
//! Rule: `offer` never waits and never wakes anybody (a wake-up costs more than the whole record, see ARCHITECTURE.md); the
//! writer comes round every few milliseconds. What does not fit is dropped and counted. Deliberately not here: files.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::prompt::PromptBlocks;
use super::record::{LostRecord, Record, RequestRecord};

/// Shards, so that threads do not meet on one lock.
const SHARDS: usize = 16;

/// Records kept while the writer is away: at 20,000 requests/s, three seconds of a stalled disk.
pub const DEFAULT_CAPACITY_RECORDS: usize = 65_536;

/// Memory that calls of the journal may take while the writer is away. A limit of their own and not in records: one may be as
/// long as its prompt has hashes, and they must not take the place of a request's record.
const JOURNAL_CAPACITY_BYTES: usize = 128 * 1024 * 1024;

/// Memory that long prompts in records may take while the writer is away; beyond it a record is taken without its prompt.
const PROMPTS_CAPACITY_BYTES: usize = 128 * 1024 * 1024;
/// A prompt that takes no more is not counted: all records together would not take much.
const SMALL_PROMPT_BYTES: usize = 512;

/// A bounded, unordered buffer of records.
#[derive(Debug)]
pub struct Sink {
    shards: Option<Vec<Mutex<Vec<Record>>>>,
    capacity_records: usize,
    /// The capture is not stopped.
    taking: AtomicBool,
    /// What is taken is written to a file, and not only offered to followers.
    written: AtomicBool,
    // One count for all shards: a limit of each would hold one sixteenth when one thread does the work.
    held: AtomicUsize,
    /// What has not been told in the trace yet.
    lost: Lost,
    // `lost` starts again whenever the writer has told it; this one does not.
    lost_total: AtomicU64,
    offered: AtomicU64,
    journal_held_bytes: AtomicUsize,
    prompts_held_bytes: AtomicUsize,
    unshadowed: AtomicU64,
    wall_steps: AtomicU64,
}

#[derive(Debug, Default)]
struct Lost {
    requests: AtomicU64,
    journal: AtomicU64,
    others: AtomicU64,
    stopped: AtomicU64,
    prompts: AtomicU64,
}

impl Lost {
    fn add(&self, lost: &LostRecord) {
        let counts = [
            (&self.requests, lost.requests),
            (&self.journal, lost.journal),
            (&self.others, lost.others),
            (&self.stopped, lost.stopped),
            (&self.prompts, lost.prompts),
        ];
        for (count, more) in counts.into_iter().filter(|(_, more)| *more > 0) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    fn read(&self, read: impl Fn(&AtomicU64) -> u64) -> LostRecord {
        LostRecord {
            requests: read(&self.requests),
            journal: read(&self.journal),
            others: read(&self.others),
            stopped: read(&self.stopped),
            prompts: read(&self.prompts),
            // The writer's own.
            sampled: 0,
        }
    }
}

impl Sink {
    /// A sink that holds at most `capacity_records`.
    pub fn bounded(capacity_records: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards: Some(shards), capacity_records: capacity_records.max(1), ..Self::off() }
    }

    /// A sink that takes nothing: tracing is off.
    pub fn off() -> Self {
        Self {
            shards: None,
            capacity_records: 0,
            taking: AtomicBool::new(true),
            written: AtomicBool::new(true),
            held: AtomicUsize::new(0),
            lost: Lost::default(),
            lost_total: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            journal_held_bytes: AtomicUsize::new(0),
            prompts_held_bytes: AtomicUsize::new(0),
            unshadowed: AtomicU64::new(0),
            wall_steps: AtomicU64::new(0),
        }
    }

    /// Tracing is on, though the capture may be stopped.
    pub fn is_on(&self) -> bool {
        self.shards.is_some()
    }

    /// What is offered is taken.
    pub fn is_taking(&self) -> bool {
        self.shards.is_some() && self.taking.load(Ordering::Relaxed)
    }

    /// What is offered is written to a file, so that what only a file tells (prompts, headers) is worth finding out.
    pub fn is_written(&self) -> bool {
        self.is_taking() && self.written.load(Ordering::Relaxed)
    }

    /// A file is written from now on, or none is.
    pub fn set_written(&self, written: bool) {
        self.written.store(written, Ordering::Relaxed);
    }

    /// Stops or goes on: what is offered meanwhile is dropped, and requests among it are counted. Changes of workers are taken all
    /// the same: the writer says what it knows of them when it goes on.
    pub fn set_taking(&self, taking: bool) {
        self.taking.store(taking, Ordering::Relaxed);
    }

    /// Takes a record, or counts it as lost.
    pub fn offer(&self, mut record: Record) {
        let Some(shards) = &self.shards else { return };
        let is_request = matches!(record, Record::Request(_));
        if !self.taking.load(Ordering::Relaxed) && !matches!(record, Record::Worker(_)) {
            self.lost.stopped.fetch_add(u64::from(is_request), Ordering::Relaxed);
            return;
        }
        if let Record::Journal(call) = &record {
            let bytes = call.held_bytes();
            if !call.fits_a_line() {
                self.count_lost_calls(1);
            } else if self.journal_held_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
                > JOURNAL_CAPACITY_BYTES
            {
                self.journal_held_bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.count_lost_calls(1);
            } else {
                lock(&shards[thread_number() % SHARDS]).push(record);
            }
            return;
        }
        if let Record::Request(request) = &mut record {
            self.offered.fetch_add(1, Ordering::Relaxed);
            self.admit_prompt(request);
        }
        if self.held.fetch_add(1, Ordering::Relaxed) < self.capacity_records {
            lock(&shards[thread_number() % SHARDS]).push(record);
            return;
        }
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.release_prompts(std::slice::from_ref(&record));
        self.count_lost(&match record {
            Record::Request(_) => LostRecord { requests: 1, ..LostRecord::default() },
            _ => LostRecord { others: 1, ..LostRecord::default() },
        });
    }

    /// Leaves the prompt out of a record if long ones take too much already.
    fn admit_prompt(&self, request: &mut RequestRecord) {
        let bytes = held_prompt_bytes(request);
        if bytes > 0
            && self.prompts_held_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > PROMPTS_CAPACITY_BYTES
        {
            self.prompts_held_bytes.fetch_sub(bytes, Ordering::Relaxed);
            (request.prompt_hashes, request.prompt_text) = (None, None);
            self.lost.prompts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Their prompts no longer wait here. Where there are no long ones, nobody looks for one.
    fn release_prompts(&self, records: &[Record]) {
        if self.prompts_held_bytes.load(Ordering::Relaxed) > 0 {
            let bytes = records.iter().map(|record| match record {
                Record::Request(request) => held_prompt_bytes(request),
                _ => 0,
            });
            self.prompts_held_bytes.fetch_sub(bytes.sum(), Ordering::Relaxed);
        }
    }

    /// Moves everything into `into`; how many records that were.
    pub fn drain(&self, into: &mut Vec<Record>) -> usize {
        let before = into.len();
        for shard in self.shards.iter().flatten() {
            let mut shard = lock(shard);
            into.append(&mut shard);
        }
        let drained = into.len() - before;
        self.release_prompts(&into[before..]);
        let mut calls = 0;
        // Where there is no journal, nobody looks for one.
        if self.journal_held_bytes.load(Ordering::Relaxed) > 0 {
            let mut bytes = 0;
            for record in &into[before..] {
                if let Record::Journal(call) = record {
                    bytes += call.held_bytes();
                    calls += 1;
                }
            }
            self.journal_held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.held.fetch_sub(drained - calls, Ordering::Relaxed);
        drained
    }

    /// What was lost since the last call.
    pub fn take_lost(&self) -> LostRecord {
        self.lost.read(|count| count.swap(0, Ordering::Relaxed))
    }

    /// What the next [`Self::take_lost`] will say.
    pub fn lost(&self) -> LostRecord {
        self.lost.read(|count| count.load(Ordering::Relaxed))
    }

    /// What [`Self::take_lost`] said could not be written down: it says so again.
    pub fn tell_again(&self, lost: &LostRecord) {
        self.lost.add(lost);
    }

    /// Counts records that could not be taken, or were and could not be written.
    pub fn count_lost(&self, lost: &LostRecord) {
        self.lost.add(lost);
        self.lost_total.fetch_add(lost.requests, Ordering::Relaxed);
    }

    /// Counts the requests among records that were taken just before a stop and came to the writer behind it, and drops them.
    pub fn count_stopped(&self, records: &mut Vec<Record>) {
        let is_request = |record: &Record| matches!(record, Record::Request(_));
        let stopped = records.drain(..).filter(is_request).count() as u64;
        self.count_lost(&LostRecord { stopped, ..LostRecord::default() });
    }

    fn count_lost_calls(&self, calls: u64) {
        self.count_lost(&LostRecord { journal: calls, ..LostRecord::default() });
    }

    /// Counts request records that were written before the shadow policies had answered.
    pub fn count_unshadowed(&self, requests: u64) {
        self.unshadowed.fetch_add(requests, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn unshadowed(&self) -> u64 {
        self.unshadowed.load(Ordering::Relaxed)
    }

    /// The wall clock of this host was set.
    pub(super) fn count_wall_step(&self) {
        self.wall_steps.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was.
    pub fn wall_steps(&self) -> u64 {
        self.wall_steps.load(Ordering::Relaxed)
    }

    /// Request records lost so far.
    pub fn lost_total(&self) -> u64 {
        self.lost_total.load(Ordering::Relaxed)
    }

    /// Records that wait for the writer.
    pub fn held_records(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Records that may wait; 0 if tracing is off.
    pub fn capacity_records(&self) -> usize {
        self.capacity_records
    }

    /// Request records offered so far, lost ones included.
    pub fn offered(&self) -> u64 {
        self.offered.load(Ordering::Relaxed)
    }
}

/// What the prompt in a record takes, if it is long.
fn held_prompt_bytes(request: &RequestRecord) -> usize {
    let text = request.prompt_text.as_ref().map_or(0, String::len);
    let bytes = text + request.prompt_hashes.as_ref().map_or(0, PromptBlocks::held_bytes);
    if bytes > SMALL_PROMPT_BYTES { bytes } else { 0 }
}

fn lock(shard: &Mutex<Vec<Record>>) -> MutexGuard<'_, Vec<Record>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed)));
    MINE.with(Cell::get)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::journal::{ChoiceCall, JournalCall, JournalRecord};

    fn request() -> Record {
        Record::Request(Box::default())
    }

    #[test]
    fn one_thread_may_fill_all_of_it_and_what_does_not_fit_is_counted() {
        let sink = Sink::bounded(20);
        for _ in 0..2 {
            (0..23).for_each(|_| sink.offer(request()));
            let mut out = Vec::new();
            assert_eq!(sink.drain(&mut out), 20);
            assert_eq!((out.len(), sink.take_lost().requests), (20, 3));
            assert_eq!(sink.take_lost(), LostRecord::default());
            assert_eq!(out[0], Record::Request(Box::<RequestRecord>::default()));
        }
        assert_eq!((sink.offered(), sink.lost_total(), sink.held_records()), (46, 6, 0));
    }

    #[test]
    fn the_journal_has_room_of_its_own_and_what_does_not_fit_is_counted() {
        let sink = Sink::bounded(2);
        let call = |n, hashes: usize| {
            let hashes = Some(vec![7; hashes].as_slice().into());
            let choice = ChoiceCall { hashes, ..ChoiceCall::default() };
            Record::Journal(Box::new(JournalRecord {
                n,
                now_us: 0,
                call: JournalCall::Choice(Box::new(choice)),
            }))
        };
        for _ in 0..2 {
            (0..10).for_each(|n| sink.offer(call(n, 3)));
            sink.offer(call(10, JOURNAL_CAPACITY_BYTES / 8));
            (0..3).for_each(|_| sink.offer(request()));
            let mut out = Vec::new();
            assert_eq!(sink.drain(&mut out), 12);
            let lost = LostRecord { requests: 1, journal: 1, ..LostRecord::default() };
            assert_eq!((sink.take_lost(), sink.held_records()), (lost, 0));
        }
    }

    #[test]
    fn threads_do_not_lose_each_others_records() {
        let sink = Sink::bounded(10_000);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..100).for_each(|_| sink.offer(request())));
            }
        });
        let mut out = Vec::new();
        sink.drain(&mut out);
        assert_eq!((out.len(), sink.take_lost()), (400, LostRecord::default()));
    }

    #[test]
    fn long_prompts_have_room_of_their_own_and_a_record_is_taken_without_one() {
        let sink = Sink::bounded(100);
        let long = || {
            let text = Some("x".repeat(PROMPTS_CAPACITY_BYTES / 4));
            Record::Request(Box::new(RequestRecord { prompt_text: text, ..RequestRecord::default() }))
        };
        for _ in 0..2 {
            (0..5).for_each(|_| sink.offer(long()));
            let mut out = Vec::new();
            assert_eq!((sink.drain(&mut out), sink.take_lost().prompts), (5, 1));
            let with_text = out.iter().filter(|r| matches!(r, Record::Request(r) if r.prompt_text.is_some()));
            assert_eq!(with_text.count(), 4);
        }
    }

    #[test]
    fn records_of_other_kinds_are_counted_too_and_a_stopped_capture_loses_nothing() {
        let sink = Sink::bounded(1);
        let clock = || Record::Clock(crate::clock::Clock::system().snapshot().into());
        (0..3).for_each(|_| sink.offer(clock()));
        sink.set_taking(false);
        (0..4).for_each(|_| sink.offer(request()));
        sink.offer(clock());
        let lost = LostRecord { others: 2, stopped: 4, ..LostRecord::default() };
        assert_eq!((sink.lost(), sink.take_lost(), sink.lost_total()), (lost, lost, 0));
    }
}
