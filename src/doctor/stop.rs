//! Does a client that leaves end its request?
//!
//! A request is begun that would run for a long while, its client leaves after the first token, and the server's own load says
//! what became of it. Rule: only what was seen counts. The server must have been idle before and must have shown the request
//! while it ran, or nothing can be told; the request is bounded by its own length, and it is aborted by name where it was not
//! seen to end: only a load that falls then was its own. Behind a router only where all of its workers are watched. Deliberately not here: which endpoints tell (`load`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::call::{Asked, Call};
use super::load::Meter;
use super::patient::Patient;
use super::report::Stop;
use crate::config::worker_url::WorkerUrl;
use crate::fleet::ask::{Question, ask_whole};
use crate::fleet::worker::Worker;

/// How long the request would run.
const WOULD_RUN: Duration = Duration::from_secs(20);
/// An engine that has not noticed after this time does not.
const NOTICED: Duration = Duration::from_secs(5);
/// How long the client stays once the request was seen: the tokens of that time tell how long the rest would take.
const STAY: Duration = Duration::from_millis(300);
/// Share of that time after which the end of the request may have been its own.
const BELIEVED_SHARE: f64 = 0.7;
/// Share of it up to which the end of a request that was aborted is believed to be the abort's.
const ABORT_BELIEVED_SHARE: f64 = 0.9;
/// Room for the prompt, in tokens of any tokenizer.
const PROMPT_TOKENS: u64 = 512;
/// Most tokens asked for where the server did not say how many it takes.
const USUAL_TOKENS: u64 = 2048;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long an idle server may take to say that it is.
const IDLE_WITHIN: Duration = Duration::from_secs(2);
/// How long one may take to show a request that runs: 0.5.23 writes its load down every 40 steps.
const SHOWN_WITHIN: Duration = Duration::from_secs(6);

/// Where the check takes place.
pub(super) struct Scene {
    /// It is sent through a router, whose workers must be among these.
    pub(super) through_router: bool,
    /// The engines, one of which gets the request.
    pub(super) watched: Vec<Arc<Worker>>,
    /// Nanoseconds a token.
    pub(super) pace_ns: Option<u64>,
    /// Most tokens of one request.
    pub(super) max_tokens: Option<u64>,
}

/// Begins a long request, leaves, and looks.
pub(super) async fn check(patient: &Patient, scene: &Scene) -> Stop {
    match plan(patient, scene).await {
        Ok(plan) => plan.play(patient, scene).await,
        Err(why) => Stop::Untold { why },
    }
}

struct Plan {
    meters: Vec<(Arc<Worker>, Meter)>,
    tokens: u64,
    pace_ns: u64,
}

async fn plan(patient: &Patient, scene: &Scene) -> Result<Plan, String> {
    let pace_ns = scene.pace_ns.ok_or("it is not known how long a token takes here")?;
    let most = scene.max_tokens.map_or(USUAL_TOKENS, |most| most.saturating_sub(PROMPT_TOKENS));
    let wanted = u64::try_from(WOULD_RUN.as_nanos()).unwrap_or(u64::MAX) / pace_ns.max(1);
    let tokens = wanted.min(most);
    if scene.watched.is_empty() {
        return Err("none of --worker-urls can be watched for it".to_owned());
    }
    let mut meters = Vec::with_capacity(scene.watched.len());
    for server in &scene.watched {
        let (meter, _) = Meter::of(server, patient)
            .await
            .ok_or_else(|| format!("{} tells its load nowhere", server.url))?;
        meters.push((Arc::clone(server), meter));
    }
    if scene.through_router {
        all_named(patient, &scene.watched).await?;
    }
    let plan = Plan { meters, tokens, pace_ns };
    match plan.wait_for(patient, IDLE_WITHIN, |shown| shown == 0).await {
        Ok(()) => Ok(plan),
        Err(Some(_)) => {
            Err("others' requests are running, from which one could not be told apart".to_owned())
        }
        Err(None) => Err("a server stopped telling its load".to_owned()),
    }
}

impl Plan {
    async fn play(&self, patient: &Patient, scene: &Scene) -> Stop {
        let rid = patient.rid("l");
        let mut servers = scene.watched.clone();
        if scene.through_router {
            servers.push(Arc::clone(&patient.worker));
        }
        patient.rounds.opened(&rid, &servers);
        let stop = self.play_open(patient, &rid).await;
        let ended = matches!(stop, Ok(Stop::Ends { .. } | Stop::RunsOn { .. }));
        patient.rounds.closed(&rid, ended, &patient.clock).await;
        stop.unwrap_or_else(|why| Stop::Untold { why })
    }

    async fn play_open(&self, patient: &Patient, rid: &str) -> Result<Stop, String> {
        let asked = Asked { stream: true, max_new_tokens: self.tokens, rid: rid.to_owned() };
        let begun = timeout(patient.limits.answer, async {
            let mut call = Call::begin(patient, &asked).await?;
            while !call.has_begun() {
                if !call.more().await? {
                    let seen = call.finish(None);
                    return Err(seen.error.unwrap_or_else(|| "it ended at once".to_owned()));
                }
            }
            Ok(call)
        });
        let late = |_| Err("no first token in time".to_owned());
        let mut call = begun.await.unwrap_or_else(late).map_err(|why| format!("the long request: {why}"))?;
        let path = self.paths();
        let stay = async {
            let shown = self.wait_for(patient, SHOWN_WITHIN, |shown| shown > 0).await;
            sleep(STAY).await;
            shown
        };
        tokio::select! {
            biased;
            shown = stay => shown.map_err(|_| format!("{path} did not show the request while it ran"))?,
            () = read_on(&mut call) => return Err("the long request ended while its client stayed".to_owned()),
        }
        let seen = call.finish(Some("its client left".to_owned()));
        let left = Instant::now();
        let came = seen.answer.token_times.last().map_or(0, |last| last.tokens.into());
        let rest_ns =
            seen.token_ns().unwrap_or(self.pace_ns).saturating_mul(self.tokens.saturating_sub(came));
        // What is seen later than this may be its own end.
        let rest = Duration::from_nanos(rest_ns);
        let own_end = rest.mul_f64(BELIEVED_SHARE);
        let limit = patient.limits.stop.min(own_end);
        let ended = self.wait_for(patient, limit, |shown| shown == 0).await;
        let after_ns = u64::try_from(left.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match ended {
            Ok(()) => Ok(Stop::Ends { after_ns, seen_at: path }),
            Err(None) => Err("a server stopped telling its load".to_owned()),
            Err(Some(_)) if !self.meters.iter().all(|(_, meter)| meter.follows) => {
                Err(format!("the gauges of {path} move only with work, and say nothing of its end"))
            }
            Err(Some(_)) if limit < NOTICED.min(patient.limits.stop) => Err(format!(
                "it still ran after {:.1} s, and would soon have ended by itself",
                limit.as_secs_f64()
            )),
            Err(Some(_)) => {
                let left_ns = rest.mul_f64(ABORT_BELIEVED_SHARE).saturating_sub(left.elapsed());
                self.after_abort(patient, rid, left_ns.min(NOTICED)).await?;
                Ok(Stop::RunsOn { for_ns: after_ns, seen_at: path })
            }
        }
    }

    /// What still runs may be another client's request, begun meanwhile: it was ours if the load falls when ours is aborted.
    async fn after_abort(&self, patient: &Patient, rid: &str, limit: Duration) -> Result<(), String> {
        patient.rounds.abort(rid, &patient.clock).await;
        self.wait_for(patient, limit, |shown| shown == 0).await.map_err(|_| {
            "something still ran when the request had been aborted by name: others' requests, or one that cannot be aborted"
                .to_owned()
        })
    }

    /// Looks until the sum of the meters is as wanted; else what it was last, `None` if it was not told.
    async fn wait_for(
        &self,
        patient: &Patient,
        limit: Duration,
        wanted: impl Fn(u64) -> bool,
    ) -> Result<(), Option<u64>> {
        let until = Instant::now() + limit;
        loop {
            let shown = self.sum(patient).await;
            match shown {
                Some(sum) if wanted(sum) => return Ok(()),
                _ if Instant::now() >= until => return Err(shown),
                _ => sleep(PAUSE).await,
            }
        }
    }

    /// Where it is looked, each endpoint once.
    fn paths(&self) -> String {
        let mut paths: Vec<&str> = self.meters.iter().map(|(_, meter)| meter.path()).collect();
        paths.sort_unstable();
        paths.dedup();
        paths.join(" and ")
    }

    async fn sum(&self, patient: &Patient) -> Option<u64> {
        let mut sum = 0_u64;
        for (server, meter) in &self.meters {
            sum = sum.saturating_add(meter.shows(server, patient).await?);
        }
        Some(sum)
    }
}

/// Every worker of a router is watched, or one that is not may get the request.
async fn all_named(router: &Patient, watched: &[Arc<Worker>]) -> Result<(), String> {
    let question = Question::get("/workers", router.limits.question);
    let told = ask_whole(&router.worker, &router.clock, &question).await;
    let told = told.ok().filter(|answer| answer.status.is_success());
    let told = told.and_then(|answer| serde_json::from_slice::<Value>(&answer.body).ok());
    let workers = told.as_ref().and_then(|told| told.get("workers")?.as_array());
    let workers = workers.ok_or("the router does not say who its workers are (GET /workers)")?;
    for worker in workers {
        let text = worker["url"].as_str().unwrap_or_default();
        let url = WorkerUrl::parse(text).map_err(|error| format!("a worker of the router: {error}"))?;
        let is_named = |known: &Arc<Worker>| known.url.is_same_server(&url);
        if !watched.iter().any(is_named) {
            return Err(format!("{url} is behind the router, and not among --worker-urls under this name"));
        }
    }
    Ok(())
}

/// Reads until the answer ends or breaks.
async fn read_on(call: &mut Call) {
    while matches!(call.more().await, Ok(true)) {}
}
