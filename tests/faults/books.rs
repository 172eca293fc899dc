//! What a router leaves behind: its trace, and nothing held.

use std::path::Path;
use std::sync::atomic::Ordering;

use milepost::proxy::Shared;
use milepost::trace::record::Record;

use crate::worker::Worker;

/// The whole trace of a router that has ended; one record for each request, and nothing held.
pub fn records(shared: &Shared, trace: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(trace).unwrap();
    std::fs::remove_file(trace).unwrap();
    let records: Vec<Record> = text.lines().map(|l| serde_json::from_str(l).expect(l)).collect();
    let requests = records.iter().filter(|r| matches!(r, Record::Request(_))).count() as u64;
    assert_eq!(shared.requests.load(Ordering::Relaxed), requests, "one record each");
    assert!(!records.iter().any(|r| matches!(r, Record::Lost(_))), "none is lost");
    assert_eq!(shared.budget.used_bytes(), 0, "body memory is back");
    if let Some(limit) = &shared.limit {
        let counts = limit.counts();
        assert_eq!((counts.running, counts.queued), (0, 0), "every place is back");
    }
    for worker in shared.fleet.workers() {
        assert_eq!(worker.in_flight(), 0, "lease at {} is back", worker.url);
    }
    records
}

/// Text without what differs between runs: workers are `W0`, `W1`, and errors have no number.
pub fn plain(text: &str, workers: &[Worker]) -> String {
    let mut text = text.to_owned();
    for (i, worker) in workers.iter().enumerate() {
        text = text.replace(&worker.url, &format!("W{i}"));
    }
    while let Some(start) = text.find(" (os error ") {
        let end = start + text[start..].find(')').unwrap();
        text.replace_range(start..=end, "");
    }
    text
}

/// Each kind once, with its number. Over sockets a request may come before the connection of the one before it is kept, and
/// takes another: how many are kept is not told then.
pub fn counted(mut all: Vec<String>, virtual_time: bool) -> String {
    all.sort();
    if !virtual_time {
        all.dedup_by(|a, b| a == b && a == "kept");
    }
    let number = |end: &String| all.iter().filter(|other| *other == end).count();
    let mut told: Vec<String> = all
        .iter()
        .map(|end| match number(end) {
            1 => end.clone(),
            n => format!("{end} ×{n}"),
        })
        .collect();
    told.dedup();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}
