//! Where finished records wait for the writer.
//!
//! Rule: `offer` never waits and never wakes anybody (a wake-up costs more than the whole record, see ARCHITECTURE.md); the
//! writer comes round every few milliseconds. What does not fit is dropped and counted. Deliberately not here: files.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::record::Record;

/// Shards, so that threads do not meet on one lock.
const SHARDS: usize = 16;

/// Records kept while the writer is away: at 20,000 requests/s, three seconds of a stalled disk.
pub const DEFAULT_CAPACITY_RECORDS: usize = 65_536;

/// Memory that calls of the journal may take while the writer is away. A limit of their own and not in records: one may be as
/// long as its prompt has hashes, and they must not take the place of a request's record.
const JOURNAL_CAPACITY_BYTES: usize = 128 * 1024 * 1024;

/// A bounded, unordered buffer of records.
#[derive(Debug)]
pub struct Sink {
    shards: Option<Vec<Mutex<Vec<Record>>>>,
    capacity_records: usize,
    // One count for all shards: a limit of each would hold one sixteenth when one thread does the work.
    held: AtomicUsize,
    lost: AtomicU64,
    // `lost` starts again whenever the writer has told it; this one does not.
    lost_total: AtomicU64,
    offered: AtomicU64,
    journal_held_bytes: AtomicUsize,
    journal_lost: AtomicU64,
    unshadowed: AtomicU64,
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
            held: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            lost_total: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            journal_held_bytes: AtomicUsize::new(0),
            journal_lost: AtomicU64::new(0),
            unshadowed: AtomicU64::new(0),
        }
    }

    /// Tracing is on.
    pub fn is_on(&self) -> bool {
        self.shards.is_some()
    }

    /// Takes a record, or counts it as lost.
    pub fn offer(&self, record: Record) {
        let Some(shards) = &self.shards else { return };
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
        let is_request = matches!(record, Record::Request(_));
        if is_request {
            self.offered.fetch_add(1, Ordering::Relaxed);
        }
        if self.held.fetch_add(1, Ordering::Relaxed) < self.capacity_records {
            lock(&shards[thread_number() % SHARDS]).push(record);
            return;
        }
        self.held.fetch_sub(1, Ordering::Relaxed);
        if is_request {
            self.count_lost(1);
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

    /// Calls of the journal lost since the last time.
    pub fn take_lost_calls(&self) -> u64 {
        self.journal_lost.swap(0, Ordering::Relaxed)
    }

    /// Counts calls of the journal that are not written, now or when they are told again.
    pub fn count_lost_calls(&self, calls: u64) {
        self.journal_lost.fetch_add(calls, Ordering::Relaxed);
    }

    /// Request records lost since the last call.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// What [`Self::take_lost`] said could not be written down: it says so again.
    pub fn tell_again(&self, requests: u64) {
        self.lost.fetch_add(requests, Ordering::Relaxed);
    }

    /// Counts records that were drained but could not be written.
    pub fn count_lost(&self, requests: u64) {
        self.lost.fetch_add(requests, Ordering::Relaxed);
        self.lost_total.fetch_add(requests, Ordering::Relaxed);
    }

    /// Counts request records that were written before the shadow policies had answered.
    pub fn count_unshadowed(&self, requests: u64) {
        self.unshadowed.fetch_add(requests, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn unshadowed(&self) -> u64 {
        self.unshadowed.load(Ordering::Relaxed)
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
    use crate::trace::record::RequestRecord;

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
            assert_eq!((out.len(), sink.take_lost(), sink.take_lost()), (20, 3, 0));
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
            assert_eq!((sink.take_lost(), sink.take_lost_calls(), sink.held_records()), (1, 1, 0));
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
        assert_eq!((out.len() as u64, sink.take_lost()), (400, 0));
    }
}
