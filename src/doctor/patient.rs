//! One server under examination: the order of the questions.
//!
//! Rule: the small requests come first, as 0.4.9 says nothing of itself before it has generated; while they run one connection
//! lies idle, so that it costs no time of its own to see how long it is kept. Deliberately not here: each question.

use std::sync::Arc;

use http::StatusCode;
use milepost_policies::WorkerId;

use super::call::{Asked, Exchange, exchange};
use super::report::{Examined, Idle, Kind, Role};
use super::stop::Scene;
use super::{DoctorConfig, Limits, Rounds, identity, idle, load, remedy, stamps, stop};
use crate::clock::Clock;
use crate::config::resilience::BreakerConfig;
use crate::config::worker_url::WorkerUrl;
use crate::fleet::ask::{self, Question};
use crate::fleet::spec::WorkerSpec;
use crate::fleet::worker::Worker;
use crate::http1::Connection;

/// Tokens of the streamed request: enough of them to know how long one takes.
const STREAMED_TOKENS: u64 = 16;
/// Tokens of the plain one.
const PLAIN_TOKENS: u64 = 8;

/// A server under examination.
#[derive(Clone, Debug)]
pub(super) struct Patient {
    pub(super) worker: Arc<Worker>,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    pub(super) rounds: Arc<Rounds>,
    role: Role,
    checks_stop: bool,
}

/// A server that was examined, as the examination of a router before it needs it.
#[derive(Clone, Debug)]
pub(super) struct Bystander {
    pub(super) worker: Arc<Worker>,
    pub(super) same_host: Option<bool>,
    pub(super) is_engine: bool,
}

impl Patient {
    pub(super) fn new(
        url: &WorkerUrl,
        role: Role,
        config: &DoctorConfig,
        clock: &Clock,
        rounds: &Arc<Rounds>,
    ) -> Self {
        let spec = WorkerSpec { api_key: config.api_key.clone(), ..WorkerSpec::from(url.clone()) };
        let breaker = BreakerConfig::default();
        Self {
            worker: Arc::new(Worker::new(WorkerId(0), spec, config.dialer.clone(), breaker, true)),
            clock: clock.clone(),
            limits: config.limits,
            rounds: Arc::clone(rounds),
            role,
            checks_stop: config.checks_stop,
        }
    }

    /// Everything that is to be known of it. `bystanders`: the workers, if it is a router.
    pub(super) async fn examine(self, bystanders: &[Bystander]) -> (Examined, Bystander) {
        let mut found = Examined { url: self.worker.url.to_string(), role: self.role, ..Examined::default() };
        match self.first_contact().await {
            Err((what, why)) => (found.what, found.trouble) = (what, Some(why)),
            Ok((status, connection)) => {
                found.same_host = Some(connection.link().same_host);
                let idle = idle::measure(connection, self.limits.idle, &self.clock);
                let (idle, ()) = tokio::join!(idle, self.look(status, &mut found, bystanders));
                found.idle = Some(idle).filter(|_| is_of_use(found.what));
            }
        }
        found.findings = remedy::findings(&found);
        found.verdict = remedy::verdict(&found.findings);
        self.rounds.one_done();
        let is_engine = found.what == Kind::Sglang;
        let bystander = Bystander { worker: self.worker, same_host: found.same_host, is_engine };
        (found, bystander)
    }

    /// A question that any HTTP server answers somehow, on a connection that is kept.
    async fn first_contact(&self) -> Result<(StatusCode, Connection), (Kind, String)> {
        let question = Question::get("/v1/models", self.limits.question);
        let asked = async {
            let mut connection =
                self.worker.connect(&self.clock).await.map_err(|error| (Kind::Nobody, error.message))?;
            match ask::exchange(&mut connection, &self.worker, &question).await {
                Ok(answer) => Ok((answer.status, connection)),
                Err(broken) => Err((Kind::NoHttp, broken.why)),
            }
        };
        // Connecting has a limit of its own, the dialer's.
        let limit = self.limits.answer.min(self.limits.question * 3);
        tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| {
            Err((Kind::NoHttp, format!("{}: no answer in {:.1} s", question.path, limit.as_secs_f64())))
        })
    }

    async fn look(&self, status: StatusCode, found: &mut Examined, bystanders: &[Bystander]) {
        let before = self.clock.snapshot();
        let streamed = self.ask(true, STREAMED_TOKENS).await;
        let refused = streamed.status.is_some_and(|status| matches!(status, 401 | 403 | 404 | 405 | 501));
        let plain = if refused { None } else { Some(self.ask(false, PLAIN_TOKENS).await) };
        let clocks = [before, self.clock.snapshot()];
        let heard: Vec<&Exchange> = std::iter::once(&streamed).chain(&plain).collect();
        (found.what, found.identity) = identity::find(self, status, &heard).await;
        let pace_ns = pace_ns(&heard);
        stamps::fill(found, &clocks, bystanders, streamed, plain);
        if !is_of_use(found.what) || found.identity.wants_key.is_some() {
            return;
        }
        if found.what == Kind::Sglang {
            found.load = Some(load::find(self).await);
        }
        if self.checks_stop {
            let watched = match found.what {
                Kind::Sglang => vec![Arc::clone(&self.worker)],
                _ => {
                    bystanders.iter().filter(|other| other.is_engine).map(|b| Arc::clone(&b.worker)).collect()
                }
            };
            let max_tokens = found.identity.max_request_tokens;
            let through_router = found.what == Kind::Router;
            let scene = Scene { through_router, watched, pace_ns, max_tokens };
            found.stop = Some(stop::check(self, &scene).await);
        }
    }

    async fn ask(&self, stream: bool, max_new_tokens: u64) -> Exchange {
        exchange(self, &Asked { stream, max_new_tokens, rid: self.rid(if stream { "s" } else { "p" }) }).await
    }

    /// A name for a request that no other one has.
    pub(super) fn rid(&self, which: &str) -> String {
        format!("milepost-doctor-{:x}-{:x}-{which}", self.clock.now().unix_ns, self.worker.url_hash)
    }
}

fn is_of_use(what: Kind) -> bool {
    matches!(what, Kind::Sglang | Kind::Router)
}

impl Idle {
    /// The connection is closed earlier than this.
    pub(super) fn ends_before(self, limit_ns: u64) -> bool {
        match self {
            Self::ClosedAfterNs(ns) => ns < limit_ns,
            Self::OpenAfterNs(_) => false,
            Self::NotKept => true,
        }
    }
}

/// About how long a token takes. Events may come in one burst, so half of what an answer took for each is the least believed.
fn pace_ns(heard: &[&Exchange]) -> Option<u64> {
    let whole = |exchange: &&Exchange| {
        exchange.record.last_byte_ns?.checked_div(exchange.answer.tokens.completion_tokens?)
    };
    let least = heard.iter().filter_map(whole).min()? / 2;
    Some(heard.iter().find_map(|exchange| exchange.token_ns()).unwrap_or(0).max(least))
}
