//! Asks one server for its load: at which of its endpoints, on which connection.
//!
//! Rule: `/v1/loads`, then `/get_load`, then `/metrics`, as the newest tells the most for the fewest bytes. The one that answered
//! is asked from then on, and from time to time the order begins anew: a server may have been replaced by a newer one. An
//! answer has a limit of bytes and a round a limit of time. Deliberately not here: when it is asked (`loads`), what the answers
//! hold (`wire::loads`).

use std::fmt::Display;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::super::ask::{Answer, Question, exchange};
use super::super::worker::Worker;
use crate::clock::Clock;
use crate::http1::{Connection, IDLE_LIMIT};
use crate::wire::loads::{NoLoad, RankLoad, from_json, from_metrics};

/// Largest answer read: 0.5.23's `/metrics` has 100 kB a scheduler process.
pub const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;
/// Least and most time for an answer. 0.4.9 waits for its current step, which a long prefill makes a second.
const LIMITS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];
/// Time after which the order begins anew, and a server without any of the endpoints is asked again.
const BEGIN_ANEW: Duration = Duration::from_secs(60);

/// What there is to do for an operator whose server tells its load nowhere.
const NOWHERE: &str =
    "asked again in a minute; SGLang tells it from 0.5.8 on, and older ones with --enable-metrics";

/// Where a load is told, and how.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// Path and query.
    pub path: &'static str,
    /// Reads an answer of it.
    pub read: fn(&[u8]) -> Result<Vec<RankLoad>, NoLoad>,
}

/// All of them, in the order in which they are asked.
pub const ENDPOINTS: [Endpoint; 3] = [
    Endpoint { path: "/v1/loads?include=core", read: from_json },
    Endpoint { path: "/get_load", read: from_json },
    Endpoint { path: "/metrics", read: from_metrics },
];

/// What is known of how a server tells its load.
pub(super) struct Asker {
    limit: Duration,
    // The next question comes before the server would close the connection.
    keeps: bool,
    at: usize,
    begin_anew: Instant,
    has_told: bool,
    resting: bool,
    kept: Option<(Connection, Instant)>,
}

impl Asker {
    /// Of a server that is to be asked every `interval`.
    pub(super) fn new(interval: Duration) -> Self {
        let [least, most] = LIMITS;
        Self {
            limit: interval.clamp(least, most),
            keeps: interval < IDLE_LIMIT,
            at: 0,
            begin_anew: Instant::now() + BEGIN_ANEW,
            has_told: false,
            resting: false,
            kept: None,
        }
    }

    /// It has none of the endpoints, and need not be asked just now.
    pub(super) fn is_resting(&self) -> bool {
        self.resting && Instant::now() < self.begin_anew
    }

    /// The server is away: whoever comes back may be another one.
    pub(super) fn forget(&mut self) {
        self.begin_at_the_first();
        self.has_told = false;
        self.kept = None;
    }

    /// Asks; the error is in words.
    pub(super) async fn ask(&mut self, worker: &Worker, clock: &Clock) -> Result<Vec<RankLoad>, String> {
        if Instant::now() >= self.begin_anew {
            self.begin_at_the_first();
        }
        let limit = self.limit;
        let heard = tokio::time::timeout(limit, self.go_round(worker, clock)).await;
        heard.unwrap_or_else(|_| {
            let path = ENDPOINTS[self.at].path;
            // Another endpoint may not hang.
            self.turn();
            Err(told(path, &format_args!("no answer in {:.1} s", limit.as_secs_f64())))
        })
    }

    /// Each endpoint once, until one tells.
    async fn go_round(&mut self, worker: &Worker, clock: &Clock) -> Result<Vec<RankLoad>, String> {
        let mut whys = Vec::new();
        let mut for_now = false;
        for _ in &ENDPOINTS {
            let Endpoint { path, read } = &ENDPOINTS[self.at];
            let answer = self.question(worker, clock, path).await?;
            let status = answer.status;
            let why = if !status.is_success() {
                told(path, &format_args!("status {}", status.as_u16()))
            } else if answer.routed {
                told(path, &"a router passed it on, and the load of one worker behind it is not its own")
            } else {
                match read(&answer.body) {
                    Ok(loads) => {
                        self.has_told = true;
                        return Ok(loads);
                    }
                    Err(why) => told(path, &why),
                }
            };
            for_now |= status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            whys.push(why);
            self.turn();
        }
        if !for_now && !self.has_told {
            self.begin_at_the_first();
            (self.resting, self.kept) = (true, None);
            whys.push(NOWHERE.to_owned());
        }
        Err(whys.join(", "))
    }

    async fn question(
        &mut self,
        worker: &Worker,
        clock: &Clock,
        path: &'static str,
    ) -> Result<Answer, String> {
        let mut question = Question::get(path, self.limit);
        question.max_answer_bytes = MAX_ANSWER_BYTES;
        let usable = |(mut connection, since): (Connection, Instant)| {
            (since.elapsed() < IDLE_LIMIT && connection.is_ready()).then_some(connection)
        };
        let mut kept = self.kept.take().and_then(usable);
        loop {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => worker.connect(clock).await.map_err(|error| {
                    self.begin_at_the_first();
                    error.message
                })?,
            };
            match exchange(&mut connection, worker, &question).await {
                Ok(answer) => {
                    self.kept = self.keeps.then(|| (connection, Instant::now()));
                    return Ok(answer);
                }
                // It was closed for having been idle, which says nothing of the server; a fresh one cannot be.
                Err(broken) if broken.closing_race => {}
                Err(broken) => {
                    self.turn();
                    return Err(broken.why);
                }
            }
        }
    }

    fn turn(&mut self) {
        self.at = (self.at + 1) % ENDPOINTS.len();
    }

    fn begin_at_the_first(&mut self) {
        self.at = 0;
        self.resting = false;
        self.begin_anew = Instant::now() + BEGIN_ANEW;
    }
}

/// What is wrong with an endpoint; its query is nobody's concern.
fn told(path: &str, what: &dyn Display) -> String {
    format!("{}: {what}", path.split('?').next().unwrap_or_default())
}
