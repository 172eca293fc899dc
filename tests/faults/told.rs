//! A record in one line: what a reader of the trace would look at first.
//!
//! Deliberately not here: the schema of the trace (`trace::record`).

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use milepost::trace::record::{Record, RequestKind, RequestRecord};

/// More records than this are told by their kinds.
const MANY: usize = 8;

/// The records of clients' requests and of connections without one, in order; `times`: with the time each took.
pub fn lines(records: &[Record], times: bool) -> String {
    let mut requests: Vec<&RequestRecord> = records
        .iter()
        .filter_map(|r| if let Record::Request(r) = r { Some(&**r) } else { None })
        .filter(|r| r.request_kind == RequestKind::Routed)
        .collect();
    requests.sort_by_key(|r| r.seq);
    if requests.len() > MANY && requests.iter().any(|r| line(r, false) != line(requests[0], false)) {
        return kinds(&requests);
    }
    let mut lines: Vec<String> = Vec::new();
    for record in requests {
        let line = line(record, times);
        // Of many that are the same one is told, with their number.
        match lines.last_mut() {
            Some(last) if last.split(" ×").next() == Some(&line) => {
                let number: u32 = last.split(" ×").nth(1).map_or(1, |n| n.parse().unwrap());
                *last = format!("{line} ×{}", number + 1);
            }
            _ => lines.push(line),
        }
    }
    for record in records {
        match record {
            Record::Connection(connection) => lines.push(format!("connection: {}", connection.error)),
            Record::Lost(lost) => lines.push(format!("lost {}", lost.requests)),
            _ => {}
        }
    }
    if lines.is_empty() { "none".to_owned() } else { lines.join(" + ") }
}

/// Of many requests under load: how many they are, and what is said of them, without times.
fn kinds(requests: &[&RequestRecord]) -> String {
    let kinds: BTreeSet<String> = requests.iter().map(|r| line(r, false)).collect();
    let kinds: Vec<String> = kinds.into_iter().collect();
    format!("{} in all: {}", requests.len(), kinds.join(" + "))
}

fn line(r: &RequestRecord, times: bool) -> String {
    let mut out = r.outcome.name().to_owned();
    if let Some(status) = r.status {
        let _ = write!(out, " {status}");
    }
    let _ = write!(out, ", attempts {}", r.attempts);
    if r.reconnects > 0 {
        let _ = write!(out, ", reconnects {}", r.reconnects);
    }
    if !r.failed_attempts.is_empty() {
        let failed = r.failed_attempts.iter().map(|a| format!("{} {}", a.worker, a.error));
        let mut failed: Vec<String> = failed.collect();
        failed.dedup();
        let _ = write!(out, " ({})", failed.join("; "));
    }
    if let Some(error) = &r.error {
        let _ = write!(out, ", error \"{error}\"");
    }
    let _ = write!(out, "; {}", stamps(r));
    if times {
        let _ = write!(out, "; {}", time(Duration::from_nanos(r.end_ns)));
    }
    out
}

/// How far its stamps go, and which are missing before.
fn stamps(r: &RequestRecord) -> String {
    let all = [
        ("body_read", r.body_read_ns, true),
        ("limit_wait", r.limit_wait_ns, false),
        ("decided", r.decided_ns, true),
        ("connected", r.connected_ns, true),
        ("router_send", r.router_send_ns, true),
        ("first_byte", r.first_byte_ns, true),
        ("head", r.head_ns, true),
        ("first_event", r.first_event_ns, r.stream),
        ("first_token", r.first_token_ns, r.stream),
        ("last_byte", r.last_byte_ns, true),
    ];
    let Some(last) = all.iter().rposition(|(_, ns, _)| ns.is_some()) else {
        return "no stamps".to_owned();
    };
    let missing: Vec<&str> =
        all[..last].iter().filter(|(_, ns, due)| *due && ns.is_none()).map(|(name, ..)| *name).collect();
    let without = if missing.is_empty() { String::new() } else { format!(" without {}", missing.join(", ")) };
    format!("stamps to {}{without}", all[last].0)
}

/// A time as short as it can be said exactly enough.
pub fn time(time: Duration) -> String {
    match time.as_millis() {
        ms @ ..10_000 => format!("{ms} ms"),
        ms => format!("{} s", ms / 1000),
    }
}
