//! What must hold in every world, whatever its faults.
//!
//! Here: the books of the whole world. `request`: what one record says against what its client and its workers saw;
//! `attempts`: where it was sent, and how often. Deliberately not here: leases, gauges and tasks, which the world checks while
//! it still stands (`world`).

mod attempts;
mod request;

use std::collections::{BTreeMap, BTreeSet};

use milepost::trace::record::{Outcome, RequestRecord};

use crate::asking::{Asked, Kind, Manner, Pace, Visit};
use crate::client::Seen;
use crate::plan::Plan;
use crate::story::Told;
use crate::worker::Receipt;
use crate::world::{BOOT_NS, Ended};

/// How long the router keeps a connection between two requests.
const IDLE_LIMIT_NS: u64 = 75_000_000_000;

/// What the worlds of the suite must have had among them, or they would prove little.
pub const MUST_BE_MET: &[&str] = &[
    "outcome done",
    "outcome worker_error",
    "outcome client_gone",
    "outcome worker_reset",
    "outcome unreachable",
    "outcome timed_out",
    "outcome refused",
    "outcome stopped",
    "outcome panicked",
    "a reconnect",
    "a retry",
    "a pause between rounds",
    "a wait for a place",
    "a connection record",
    "a client that left",
    "an answer that was cut",
];

/// With more than this sent ahead of an answer, a client that leaves is found out when it gets its answer.
const FAR_AHEAD_BYTES: usize = 60 * 1024;

/// One request, by everybody's account.
pub struct Case<'a> {
    pub plan: &'a Plan,
    pub asked: &'a Asked,
    /// How its client behaves.
    pub manner: Manner,
    /// Its client may have sent more ahead than the router takes in before it answers.
    pub is_far_ahead: bool,
    pub record: &'a RequestRecord,
    /// `None` if its client did not come to send it.
    pub seen: Option<&'a Seen>,
    /// As workers got it, in order.
    pub receipts: Vec<&'a Receipt>,
}

impl Case<'_> {
    /// Its client takes what comes as it comes.
    pub fn reads_promptly(&self) -> bool {
        let prompt = |pace| matches!(pace, Pace::AtOnce | Pace::Pieces(_));
        // Who drips its request does not read meanwhile.
        prompt(self.manner.reads) && prompt(self.manner.sends)
    }

    /// A moment of the record, nanoseconds after its arrival, in the world's time.
    pub fn at_ns(&self, after_ns: u64) -> u64 {
        self.record.arrival_mono_ns - BOOT_NS + after_ns
    }
}

/// Everything that is wrong with a world.
pub fn check(ended: &Ended) -> Vec<String> {
    let told = ended.story.told();
    let mut wrong = ended.complaints.clone();
    if ended.plan.kill_after.is_none() {
        books(ended, &mut wrong);
        missing(ended, &told, &mut wrong);
    }
    for visit in &ended.plan.visits {
        let ahead_bytes: usize = visit.requests.iter().map(|asked| asked.body.len()).sum();
        for asked in &visit.requests {
            let id = format!("r{}", asked.number);
            let Some(record) = ended.requests.iter().find(|r| r.request_id == id) else { continue };
            let case = Case {
                plan: &ended.plan,
                asked,
                manner: visit.manner,
                is_far_ahead: visit.pipelined && ahead_bytes > FAR_AHEAD_BYTES,
                record,
                seen: told.seen.get(&asked.number),
                receipts: told.receipts.iter().filter(|r| r.request == asked.number).collect(),
            };
            let mut found = Vec::new();
            request::check(&case, &mut found);
            attempts::check(&case, &mut found);
            wrong.extend(found.into_iter().map(|what| format!("{id}: {what}")));
        }
    }
    wrong
}

/// Requests = records + lost, none lost, each numbered once.
fn books(ended: &Ended, wrong: &mut Vec<String>) {
    let records = ended.requests.len() as u64;
    if ended.counted != records + ended.lost || ended.lost != 0 {
        wrong.push(format!("{} requests, {records} records, {} lost", ended.counted, ended.lost));
    }
    let numbers: BTreeSet<u64> = ended.requests.iter().map(|r| r.seq).collect();
    if !numbers.into_iter().eq(1..=records) {
        wrong.push("the records are not numbered from 1, each once".to_owned());
    }
    let ids: Vec<&str> =
        ended.requests.iter().map(|r| &*r.request_id).filter(|id| id.starts_with('r')).collect();
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    if unique.len() != ids.len() {
        wrong.push("a request has two records".to_owned());
    }
}

/// The router had closed the connection as idle: whoever takes a byte a second of an answer may still be reading what has been
/// written long ago, and ask again when nobody is there.
fn is_sent_too_late(ended: &Ended, before: Option<usize>, seen: &Seen) -> bool {
    let id = before.map(|number| format!("r{number}"));
    let before = ended.requests.iter().find(|r| Some(&r.request_id) == id.as_ref());
    before
        .zip(seen.head_ns)
        .is_some_and(|(r, sent_ns)| sent_ns + BOOT_NS >= r.arrival_mono_ns + r.end_ns + IDLE_LIMIT_NS)
}

/// Whoever saw an answer, or waited to the end for one, has a record, of its request or of its connection.
fn missing(ended: &Ended, told: &Told, wrong: &mut Vec<String>) {
    let mut unreadable = 0;
    for (before, asked) in ended.plan.visits.iter().flat_map(Visit::each_after) {
        let Some(seen) = told.seen.get(&asked.number) else { continue };
        let id = format!("r{}", asked.number);
        let recorded = ended.requests.iter().any(|r| r.request_id == id);
        let answered = seen.answer.as_ref().map(|answer| answer.id.as_deref() == Some(&id));
        let waited = seen.head_ns.is_some() && seen.left_ns.is_none() && !seen.is_behind;
        let listening = ended.plan.stop_at.is_none();
        match answered {
            Some(true) if !recorded => wrong.push(format!("{id} was answered and has no record")),
            Some(false) => unreadable += 1,
            None if waited && listening && !recorded && asked.kind != Kind::Garbage => {
                if is_sent_too_late(ended, before, seen) {
                    continue;
                }
                wrong.push(format!("{id} was sent, and waited for, and has no record"));
            }
            _ => {}
        }
        let at_workers = told.receipts.iter().any(|r| r.request == asked.number);
        if at_workers && !recorded {
            wrong.push(format!("{id} was at a worker and has no record"));
        }
    }
    if unreadable > ended.connections.len() {
        let noted = ended.connections.len();
        wrong.push(format!(
            "{unreadable} connections were told that they are unreadable, {noted} have a record"
        ));
    }
}

/// What this world had.
pub fn count(ended: &Ended, met: &mut BTreeMap<String, u64>) {
    let mut add = |what: &str, times: usize| {
        if times > 0 {
            *met.entry(what.to_owned()).or_default() += times as u64;
        }
    };
    add("a connection record", ended.connections.len());
    for r in &ended.requests {
        add(&format!("outcome {}", r.outcome.name()), 1);
        add("a reconnect", r.reconnects as usize);
        add("a retry", r.attempts.saturating_sub(1) as usize);
        add("a pause between rounds", r.failed_attempts.iter().filter(|a| a.backoff_ns.is_some()).count());
        add("a wait for a place", usize::from(r.limit_wait_ns.is_some_and(|ns| ns > 0)));
        add("a retry that ended well", usize::from(r.attempts > 1 && r.outcome == Outcome::Done));
    }
    let told = ended.story.told();
    for receipt in &told.receipts {
        add(&format!("fault {:?}", receipt.fault), 1);
    }
    for seen in told.seen.values() {
        add("a client that left", usize::from(seen.left_ns.is_some()));
        add("an answer that was cut", usize::from(seen.cut && seen.answer.is_some()));
    }
}
