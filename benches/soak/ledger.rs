//! The books of a run: every request that was sent, by its number, and what its client and the workers saw.
//!
//! Rule: a request is entered before its first byte is sent, so that no record can be of an unknown one. Deliberately not
//! here: the router's own books.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::seen::{End, Seen};

/// How an id begins; the request's number follows.
const PREFIX: &str = "soak-";
/// Complaints that are kept in words.
const MAX_COMPLAINTS: usize = 100;

/// The books.
#[derive(Debug, Default)]
pub struct Ledger {
    requests: Mutex<Vec<Seen>>,
    tally: Mutex<Tally>,
    complaints: Mutex<Vec<String>>,
    /// Connections that have to leave a `connection` record.
    pub unreadable: AtomicU64,
    /// Connections that may leave one, as their bytes and their reset ran a race.
    pub perhaps_unreadable: AtomicU64,
}

/// Counts for the lines of progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Requests sent.
    pub asked: u64,
    /// Whole answers with a status below 400.
    pub ok: u64,
    /// Whole answers of 400 to 499.
    pub client_errors: u64,
    /// Whole answers of 500 and more.
    pub server_errors: u64,
    /// Answers cut short.
    pub broken: u64,
    /// Clients that left, by whichever way, and requests behind a connection's end.
    pub left: u64,
}

/// The id of a request.
pub fn id_of(number: usize) -> String {
    format!("{PREFIX}{number}")
}

/// The request of an id.
pub fn number_of(id: &str) -> Option<usize> {
    id.strip_prefix(PREFIX)?.parse().ok()
}

impl Ledger {
    /// Enters a request; its number.
    pub fn enter(&self, visit: &'static str) -> usize {
        lock(&self.tally).asked += 1;
        let mut requests = lock(&self.requests);
        requests.push(Seen::begun(visit));
        requests.len() - 1
    }

    /// Its client is done with it.
    pub fn end(&self, number: usize, end: End, note: impl FnOnce(&mut Seen)) {
        let mut requests = lock(&self.requests);
        let seen = &mut requests[number];
        seen.end = Some(end);
        note(seen);
        let status = seen.status;
        drop(requests);
        lock(&self.tally).count(end, status);
    }

    /// A worker got it, with the body that was sent or another one, and will answer it well or not.
    pub fn arrived(&self, number: usize, is_body_changed: bool, is_good: bool) {
        match lock(&self.requests).get_mut(number) {
            Some(seen) => {
                seen.arrivals += 1;
                seen.is_good_at_last = is_good;
                seen.is_body_changed |= is_body_changed;
            }
            None => self.complain(format!("a worker got request {number}, which nobody has sent")),
        }
    }

    /// Something is wrong that belongs to no record.
    pub fn complain(&self, what: String) {
        let mut complaints = lock(&self.complaints);
        if complaints.len() < MAX_COMPLAINTS {
            complaints.push(what);
        }
    }

    /// The counts so far.
    pub fn tally(&self) -> Tally {
        *lock(&self.tally)
    }

    /// All requests, and what else was wrong.
    pub fn close(&self) -> (Vec<Seen>, Vec<String>) {
        (std::mem::take(&mut *lock(&self.requests)), std::mem::take(&mut *lock(&self.complaints)))
    }
}

impl Tally {
    fn count(&mut self, end: End, status: u16) {
        let counter = match (end, status) {
            (End::Whole | End::UntilClose, ..400) => &mut self.ok,
            (End::Whole | End::UntilClose, 400..500) => &mut self.client_errors,
            (End::Whole | End::UntilClose, _) => &mut self.server_errors,
            (End::Broken | End::Hung, _) => &mut self.broken,
            (End::NoAnswer | End::Left | End::LeftByReset | End::Behind, _) => &mut self.left,
        };
        *counter += 1;
    }

    /// Requests whose client is still at it.
    pub fn open(&self) -> u64 {
        let ended = self.ok + self.client_errors + self.server_errors + self.broken + self.left;
        self.asked - ended
    }
}

/// One more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
