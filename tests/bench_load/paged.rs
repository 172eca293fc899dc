//! A trace that is read page by page from an address: what the router had removed by then is said.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use milepost::clock::Clock;
use milepost::load::target::Target;
use milepost::load::{LoadConfig, RunReport, TraceSource};
use milepost::report::Survey;
use milepost::trace::record::Record;

use crate::joined::{answer, boot_id, record, run_record, told};
use crate::server::{Got, Server, Step, about, json};
use crate::{config, measured};

/// A page, and where the next one begins.
fn page(lines: &str, next: &str) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nx-milepost-trace-next: {next}\r\ncontent-length: {}\r\n\r\n",
        lines.len()
    );
    vec![Step::Write(head.into_bytes()), Step::Write(lines.as_bytes().to_vec())]
}

fn line(record: &Record) -> String {
    serde_json::to_string(record).unwrap() + "\n"
}

/// Three requests: the record of the first was in a file that the size limit has taken, the second is in one that was rotated, the
/// third in the live one, which is refused so many times.
async fn read_with(refusals: usize) -> RunReport {
    let refused = AtomicUsize::new(0);
    let clock = Clock::system();
    let run = line(&run_record(clock.snapshot(), &boot_id()));
    let written = Mutex::new(Vec::<String>::new());
    let trace = move |got: &Got, written: &[String]| {
        let from = got.path.strip_prefix("/trace?from=").expect("pages are asked for");
        let of = |nth: usize| written.get(nth).cloned().unwrap_or_default();
        let (rotated, live) = (format!("{run}{}", of(1)), format!("{run}{}", of(2)));
        let end = |part: u32, text: &str| format!("t.jsonl/{part}/{}", text.len());
        match from {
            "newest" if written.is_empty() => page("", "t.jsonl/1/900"),
            "newest" => page("", &end(3, &live)),
            "oldest" => page(&rotated, &end(2, &rotated)),
            "t.jsonl/3/0" if refused.fetch_add(1, Ordering::Relaxed) < refusals => {
                json("503 Service Unavailable", "{}")
            }
            "t.jsonl/3/0" => page(&live, &end(3, &live)),
            at if at == end(2, &rotated) => page("", "t.jsonl/3/0"),
            at if at == end(3, &live) => page("", at),
            _ => json("410 Gone", "{}"),
        }
    };
    let server = Server::new(&clock.clone(), move |got| {
        let mut written = written.lock().unwrap();
        if got.path.starts_with("/trace") {
            return trace(got, &written);
        }
        about(got).unwrap_or_else(|| {
            let record = record(got, &clock, 0);
            let steps = answer(&record.server);
            written.push(line(&Record::Request(Box::new(record))));
            steps
        })
    });
    let url = server.listen().await;
    measured(LoadConfig {
        router_trace: Some(TraceSource::Url(Target::parse(&format!("{url}/trace")).unwrap())),
        trace_wait: std::time::Duration::ZERO,
        max_concurrency: Some(1),
        ..config(&url, 3)
    })
    .await
}

#[tokio::test]
async fn files_removed_before_they_were_read_are_told_and_the_rest_is_joined() {
    let report = read_with(1).await;
    let rows = report.rows.held();
    assert_eq!(
        rows.iter().map(|row| (row.success(), row.in_trace)).collect::<Vec<_>>(),
        [(true, false), (true, true), (true, true)]
    );
    let warned = Survey::of(&report, &[]).warnings;
    assert!(warned.iter().any(|w| w.starts_with("the router had removed files of its trace")), "{warned:?}");
    let against = told(&report);
    assert!(against.iter().any(|w| w.starts_with("1 of 3 requests sent are not in")), "{against:?}");
}

#[tokio::test]
async fn what_was_read_before_pages_stopped_coming_is_joined() {
    let report = read_with(usize::MAX).await;
    let joined: Vec<_> = report.rows.held().iter().map(|row| row.in_trace).collect();
    assert_eq!(joined, [false, true, false]);
    let warned = Survey::of(&report, &[]).warnings;
    let cut = "the router's trace was read up to t.jsonl/3/0: status 503; records behind that are not joined";
    assert!(warned.iter().any(|w| w == cut), "{warned:?}");
}
