//! How far an examination is, and what it has begun that would go on without it.
//!
//! Rule: a long request is written down here before it is sent, and struck out when it is known to have ended
//! or its servers were told to abort it. Deliberately not
//! here: who shows it, and who is interrupted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use crate::clock::Clock;
use crate::fleet::ask::{Question, ask};
use crate::fleet::worker::Worker;

/// Longest wait for an abort to be taken.
const ABORT_LIMIT: Duration = Duration::from_secs(2);

/// The state of one examination.
#[derive(Debug, Default)]
pub struct Rounds {
    all: AtomicUsize,
    done: AtomicUsize,
    open: Mutex<Vec<Open>>,
}

/// A request that may go on by itself.
#[derive(Clone, Debug)]
struct Open {
    rid: String,
    servers: Vec<Arc<Worker>>,
}

impl Rounds {
    /// Servers examined, and how many there are.
    pub fn standing(&self) -> (usize, usize) {
        (self.done.load(Ordering::Relaxed), self.all.load(Ordering::Relaxed))
    }

    /// Aborts what is still open, for an examination that was interrupted; waits at most two seconds.
    pub async fn abort_open(&self, clock: &Clock) {
        let open = std::mem::take(&mut *self.lock());
        abort_all(open, clock).await;
    }

    pub(super) fn begin(&self, all: usize) {
        self.all.store(all, Ordering::Relaxed);
    }

    pub(super) fn one_done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// A long request is about to be sent, to one of these.
    pub(super) fn opened(&self, rid: &str, servers: &[Arc<Worker>]) {
        self.lock().push(Open { rid: rid.to_owned(), servers: servers.to_vec() });
    }

    /// It has ended. `surely`: seen to; otherwise its servers are told to abort it.
    pub(super) async fn closed(&self, rid: &str, surely: bool, clock: &Clock) {
        if !surely {
            self.abort(rid, clock).await;
        }
        // Only now: an examination that is interrupted while it waits for its aborts has them to send again.
        self.lock().retain(|open| open.rid != rid);
    }

    /// Tells its servers to abort it; it stays written down.
    pub(super) async fn abort(&self, rid: &str, clock: &Clock) {
        let open = self.lock().iter().filter(|open| open.rid == rid).cloned().collect();
        abort_all(open, clock).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells all servers of all of them at once.
async fn abort_all(open: Vec<Open>, clock: &Clock) {
    let mut aborts = tokio::task::JoinSet::new();
    for Open { rid, servers } in open {
        for server in servers {
            let (rid, clock) = (rid.clone(), clock.clone());
            aborts.spawn(async move { abort(&server, &clock, &rid).await });
        }
    }
    while aborts.join_next().await.is_some() {}
}

/// Tells one server; one that knows neither the endpoint nor the request answers as it likes.
async fn abort(server: &Worker, clock: &Clock, rid: &str) {
    let body = Bytes::from(serde_json::json!({ "rid": rid }).to_string());
    let question = Question { method: Method::POST, body, ..Question::get("/abort_request", ABORT_LIMIT) };
    let _ = ask(server, clock, &question).await;
}
