//! What a server says of its load: where the router would hear it, and as a number that falls when a request ends.
//!
//! Rule: the endpoints and their order are the router's (`fleet::loads`). Deliberately not here: their formats (`wire::loads`).

use super::patient::Patient;
use super::report::LoadTold;
use crate::clock::Clock;
use crate::fleet::ask::{Question, ask_whole};
use crate::fleet::loads::{ENDPOINTS, MAX_ANSWER_BYTES};
use crate::fleet::worker::Worker;
use crate::wire::loads::{RankLoad, tokens, total};

/// The first endpoint that tells, and what the others had against it.
pub(super) async fn find(patient: &Patient) -> LoadTold {
    let mut told = LoadTold::default();
    for endpoint in ENDPOINTS {
        let path = endpoint.path.split('?').next().unwrap_or_default();
        let heard = match get(&patient.worker, &patient.clock, endpoint.path, patient).await {
            Ok(body) => (endpoint.read)(&body).map_err(|why| why.to_string()),
            Err(why) => Err(why),
        };
        match heard {
            Ok(loads) => {
                let load = total(&loads);
                return LoadTold {
                    endpoint: Some(path),
                    running: load.running,
                    waiting: load.queue_depth,
                    ..told
                };
            }
            Err(why) => told.in_vain.push(format!("{path}: {why}")),
        }
    }
    told
}

/// A number that is above zero while a server works, by one of its endpoints.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    path: &'static str,
    read: fn(&[u8]) -> Option<u64>,
    /// It falls when the work ends, whatever else happens; a gauge that moves with the work may stay where it was.
    pub(super) follows: bool,
}

const METERS: [Meter; 3] = [
    Meter { path: ENDPOINTS[0].path, read: |body| requests((ENDPOINTS[0].read)(body).ok()), follows: true },
    Meter {
        path: ENDPOINTS[1].path,
        // 0.4.9 tells tokens alone.
        read: |body| requests((ENDPOINTS[1].read)(body).ok()).or_else(|| tokens(body)),
        follows: true,
    },
    Meter { path: ENDPOINTS[2].path, read: |body| requests((ENDPOINTS[2].read)(body).ok()), follows: false },
];

impl Meter {
    /// The first that a server has, with what it shows.
    pub(super) async fn of(server: &Worker, patient: &Patient) -> Option<(Self, u64)> {
        for meter in METERS {
            if let Some(shown) = meter.shows(server, patient).await {
                return Some((meter, shown));
            }
        }
        None
    }

    /// What it shows now; `None` where it does not say.
    pub(super) async fn shows(&self, server: &Worker, patient: &Patient) -> Option<u64> {
        (self.read)(&get(server, &patient.clock, self.path, patient).await.ok()?)
    }

    /// Its endpoint.
    pub(super) fn path(&self) -> &'static str {
        self.path.split('?').next().unwrap_or_default()
    }
}

/// Requests that run or wait.
fn requests(loads: Option<Vec<RankLoad>>) -> Option<u64> {
    let load = total(&loads?);
    let both = [load.running, load.queue_depth];
    both.iter().any(Option::is_some).then(|| both.into_iter().flatten().map(u64::from).sum())
}

async fn get(server: &Worker, clock: &Clock, path: &str, patient: &Patient) -> Result<bytes::Bytes, String> {
    let mut question = Question::get(path, patient.limits.question);
    question.max_answer_bytes = MAX_ANSWER_BYTES;
    let answer = ask_whole(server, clock, &question).await.map_err(|why| {
        // The path is said already.
        let why = why.to_string();
        let short = why.split_once(": ").filter(|(said, _)| path.starts_with(said));
        short.map_or_else(|| why.clone(), |(_, rest)| rest.to_owned())
    })?;
    match answer.status.as_u16() {
        200..300 if answer.routed => {
            Err("a router passed it on, and tells of one worker behind it".to_owned())
        }
        200..300 => Ok(answer.body),
        status => Err(format!("status {status}")),
    }
}
