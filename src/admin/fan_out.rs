//! One question to many workers.
//!
//! Rule: all are asked at the same time, up to a limit, each with the question's time-out, and each is heard of: an answer or
//! an error in words. Ranks behind one address are one server and are asked once. Deliberately not here: what is asked, and
//! what is made of the answers.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::fleet::ask::{Answer, Question, ask_whole};
use crate::fleet::worker::Worker;
use crate::proxy::Shared;

/// Workers asked at one time; sglang-router asks 32, so that one which hangs holds up the thirty-third.
const AT_ONCE: usize = 256;

/// What one worker said.
#[derive(Debug)]
pub struct Heard {
    /// The worker.
    pub worker: Arc<Worker>,
    /// Its answer, or why there is none.
    pub answer: Result<Answer, String>,
}

/// Questions under way; dropping it takes them back.
pub struct FanOut {
    workers: Vec<Arc<Worker>>,
    asked: JoinSet<(usize, Result<Answer, String>)>,
}

/// Every server that has ever answered, in the order they joined. One that is pending has nothing to flush, abort or tell.
pub fn servers(shared: &Shared) -> Vec<Arc<Worker>> {
    let mut workers = shared.fleet.workers();
    workers.retain(|worker| worker.is_reached());
    one_an_address(workers)
}

/// URLs of those that have not, which an answer about every worker has to name: they may be there the next moment.
pub fn pending(shared: &Shared) -> Vec<String> {
    let mut workers = shared.fleet.workers();
    workers.retain(|worker| !worker.is_reached());
    workers.iter().map(|worker| worker.url.as_str().to_owned()).collect()
}

/// The servers that requests go to.
pub fn available(shared: &Shared) -> Vec<Arc<Worker>> {
    let now_ns = shared.clock.mono_ns();
    let mut workers = shared.fleet.workers();
    workers.retain(|worker| worker.is_available(now_ns));
    one_an_address(workers)
}

/// The first worker of each address.
pub fn one_an_address(mut workers: Vec<Arc<Worker>>) -> Vec<Arc<Worker>> {
    let mut seen = std::collections::HashSet::new();
    workers.retain(|worker| seen.insert(worker.host_value.as_bytes().to_vec()));
    workers
}

/// Asks all of them.
pub fn ask_all(shared: &Shared, workers: Vec<Arc<Worker>>, question: &Question) -> FanOut {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for (position, worker) in workers.iter().enumerate() {
        let (worker, question) = (Arc::clone(worker), question.clone());
        let (clock, room) = (shared.clock.clone(), Arc::clone(&room));
        asked.spawn(async move {
            let timeout = question.timeout;
            let asking = async {
                // The semaphore is never closed.
                let _place = room.acquire_owned().await;
                ask_whole(&worker, &clock, &question).await.map_err(|why| why.to_string())
            };
            // The wait for a place counts, so that a fleet of any size is heard of in one time-out.
            let answer = tokio::time::timeout(timeout, asking).await;
            (position, answer.unwrap_or_else(|_| Err(format!("no answer in {:.1} s", timeout.as_secs_f64()))))
        });
    }
    FanOut { workers, asked }
}

impl FanOut {
    /// The next one to have answered; `None` after the last.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            // A question that panicked is one without an answer; `all` says so.
            if let Ok((position, answer)) = self.asked.join_next().await? {
                return Some(Heard { worker: Arc::clone(&self.workers[position]), answer });
            }
        }
    }

    /// What all of them said, in the order they were given.
    pub async fn all(mut self) -> Vec<Heard> {
        let lost = || Err("the question was lost in the router".to_owned());
        let mut answers: Vec<Result<Answer, String>> = self.workers.iter().map(|_| lost()).collect();
        while let Some(done) = self.asked.join_next().await {
            if let Ok((position, answer)) = done {
                answers[position] = answer;
            }
        }
        self.workers.into_iter().zip(answers).map(|(worker, answer)| Heard { worker, answer }).collect()
    }
}

impl Heard {
    /// The answer, if its status is one of success.
    pub fn success(&self) -> Option<&Answer> {
        self.answer.as_ref().ok().filter(|answer| answer.status.is_success())
    }
}
