//! Bodies of requests, made shortly before they are needed where not all of them are kept.
//!
//! Rule: they are made in the order of the schedule by a thread of its own, a bounded number ahead, so that neither the pacer nor
//! the loop that sends waits for the making of one; where the thread falls behind, the wait is in the lateness of the requests.
//! Deliberately not here: turns, whose bodies are made while their user thinks (`turns`).

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::plan::Plan;
use crate::clock::Clock;

/// A body, or why it cannot be made.
pub(super) type Made = Result<Bytes, String>;

/// Bodies that are handed over together, so that the thread is woken once for many: as many, or as many bytes.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 1 << 20;
/// Batches ahead: up to 32 MiB, or one long body each.
const BATCHES_AHEAD: usize = 32;

/// The bodies of the requests that have due times of their own, in order.
pub(super) struct Ahead {
    plan: Arc<Plan>,
    next: usize,
    /// None where nothing has to be made ahead; in virtual time it is made when it is asked for.
    made: Option<mpsc::Receiver<Vec<Made>>>,
    batch: std::vec::IntoIter<Made>,
}

impl Ahead {
    /// Of the first `starts` requests.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub(super) fn start(plan: &Arc<Plan>, starts: usize, clock: &Clock) -> io::Result<Self> {
        let first = plan.kept();
        let mut made = None;
        if first < starts && !clock.is_virtual() {
            let (tx, rx) = mpsc::channel(BATCHES_AHEAD);
            let plan = Arc::clone(plan);
            // It ends when nobody takes any more.
            std::thread::Builder::new()
                .name("bodies".to_owned())
                .spawn(move || make(&plan, first..starts, &tx))?;
            made = Some(rx);
        }
        Ok(Self { plan: Arc::clone(plan), next: 0, made, batch: Vec::new().into_iter() })
    }

    /// The next body; what was not taken because the future was dropped comes again.
    pub(super) async fn next(&mut self) -> Made {
        let body = match &mut self.made {
            Some(made) if self.next >= self.plan.kept() => loop {
                if let Some(body) = self.batch.next() {
                    break body;
                }
                match made.recv().await {
                    Some(batch) => self.batch = batch.into_iter(),
                    None => break Err("the thread that makes bodies has ended".to_owned()),
                }
            },
            _ => self.plan.body(self.next),
        };
        self.next += 1;
        body
    }
}

fn make(plan: &Plan, indices: std::ops::Range<usize>, tx: &mpsc::Sender<Vec<Made>>) {
    let (mut batch, mut bytes) = (Vec::with_capacity(BATCH), 0);
    let last = indices.end;
    for index in indices {
        let body = plan.body(index);
        bytes += body.as_ref().map_or(0, Bytes::len);
        batch.push(body);
        if batch.len() == BATCH || bytes >= BATCH_BYTES || index + 1 == last {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            bytes = 0;
            if tx.blocking_send(full).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::tests::plan;

    /// More than are made ahead at once, in real time by the thread and in virtual time without one.
    #[tokio::test]
    async fn bodies_come_in_order_whoever_makes_them() {
        const COUNT: usize = BATCH * (BATCHES_AHEAD + 2) + 1;
        let plan = Arc::new(plan(COUNT, 10_000));
        for clock in [Clock::system(), Clock::virtual_time(0, 0)] {
            let mut ahead = Ahead::start(&plan, COUNT, &clock).unwrap();
            assert_eq!(ahead.made.is_some(), !clock.is_virtual());
            for index in 0..COUNT {
                assert_eq!(ahead.next().await, plan.body(index), "{index}");
            }
        }
    }

    #[tokio::test]
    async fn the_thread_ends_when_nobody_takes_any_more() {
        let plan = Arc::new(plan(BATCH * (BATCHES_AHEAD + 2), 0));
        let mut ahead = Ahead::start(&plan, plan.prompts.len(), &Clock::system()).unwrap();
        assert_eq!(ahead.next().await, plan.body(0));
        drop(ahead);
        // The thread holds the other handle.
        while Arc::strong_count(&plan) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
