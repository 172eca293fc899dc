//! The doctor: asks each server a few small questions and says what it is, what it tells, and what is missing.
//!
//! | module | what it is |
//! |---|---|
//! | [`report`] | what was found, as values |
//! | `patient` | one server: the order of the questions |
//! | `call` | one small request, seen as a router sees it |
//! | `identity`, `stamps`, `load`, `idle`, `stop` | one question each |
//! | `remedy` | from what was found to what is missing, and what to do |
//! | [`text`] | the report for people |
//!
//! Rule: every question has a time limit, all servers are asked at once, and nothing is left running at any of them: what was
//! asked for is short, and the one long request is aborted by name unless the server was seen to drop it. What cannot be told is
//! said to be so. Deliberately not here: flags and exit codes (`cli::doctor`), traffic of others, which is not looked at.

mod call;
mod identity;
mod idle;
mod load;
mod patient;
mod remedy;
pub mod report;
mod rounds;
mod stamps;
mod stop;
pub mod text;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::patient::{Bystander, Patient};
use self::report::{Examined, Report, Role};
pub use self::rounds::Rounds;
use crate::clock::Clock;
use crate::config::access::ApiKey;
use crate::config::worker_url::WorkerUrl;
use crate::net::dialer::Dialer;

/// Servers asked at the same time. A dead one waits for nothing but its own time-out.
const AT_ONCE: usize = 64;

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the whole answer of one small request.
    pub answer: Duration,
    /// For the answer of a question that generates nothing.
    pub question: Duration,
    /// For the server to close a connection that nobody uses.
    pub idle: Duration,
    /// For the server to drop the work of a client that left.
    pub stop: Duration,
}

impl Default for Limits {
    /// 0.4.9's `/get_server_info` may hang for ever; uvicorn closes after 5 s; engines drop work within 3 to 4 s.
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            question: Duration::from_secs(3),
            idle: Duration::from_secs(6),
            stop: Duration::from_secs(8),
        }
    }
}

/// Who is asked, and how.
#[derive(Clone, Debug)]
pub struct DoctorConfig {
    /// The servers.
    pub workers: Vec<WorkerUrl>,
    /// A router before them.
    pub router: Option<WorkerUrl>,
    /// Sent to all of them as `Authorization: Bearer`.
    pub api_key: Option<ApiKey>,
    /// How they are reached.
    pub dialer: Dialer,
    /// How long is waited.
    pub limits: Limits,
    /// Whether a long request is begun and left, to see whether its server drops it.
    pub checks_stop: bool,
}

/// Examines every server, then the router before them. `rounds` is told how far it is.
pub async fn run(config: &DoctorConfig, clock: &Clock, rounds: &Arc<Rounds>) -> Report {
    rounds.begin(config.workers.len() + usize::from(config.router.is_some()));
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for (place, url) in config.workers.iter().enumerate() {
        let patient = Patient::new(url, Role::Worker, config, clock, rounds);
        let gate = Arc::clone(&gate);
        asked.spawn(async move {
            // Nobody closes it.
            let _place = gate.acquire_owned().await;
            (place, patient.examine(&[]).await)
        });
    }
    let mut targets: Vec<Option<(Examined, Bystander)>> = config.workers.iter().map(|_| None).collect();
    while let Some(done) = asked.join_next().await {
        // A task ends early only by a fault in this code, which its panic has told of.
        if let Ok((place, examined)) = done {
            targets[place] = Some(examined);
        }
    }
    let (mut targets, bystanders): (Vec<Examined>, Vec<Bystander>) = targets.into_iter().flatten().unzip();
    if let Some(url) = &config.router {
        // Only now: the load of the workers tells what the router's stop did, and their own checks moved it.
        let patient = Patient::new(url, Role::Router, config, clock, rounds);
        targets.push(patient.examine(&bystanders).await.0);
    }
    Report::new(targets)
}
