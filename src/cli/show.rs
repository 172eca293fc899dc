//! `milepost trace show`: why requests went where they went, read from their records.
//!
//! Rule: the trace is read once, record by record, and only what is asked for is printed. Deliberately not here: the layout
//! (`report::decision`).

use std::collections::VecDeque;
use std::path::PathBuf;

use super::Failure;
use crate::report::decision::decision_text;
use crate::trace::reader::{ReadError, TraceReader};
use crate::trace::record::{Record, RequestRecord};
use crate::units::utc;

/// Most requests shown of those that are named: clients use an id more than once.
const MAX_NAMED: usize = 1_000;

/// Arguments of `milepost trace show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The trace (`route --trace-log`).
    file: PathBuf,
    /// Requests to show, by their seq or request id.
    requests: Vec<String>,
    /// Without REQUESTS: how many of the last ones written; probes and other questions to the router itself are left out.
    #[arg(long, default_value_t = 10, value_name = "N", conflicts_with = "requests", value_parser = clap::value_parser!(u16).range(1..))]
    last: u16,
    /// Only requests that a shadow policy would have sent elsewhere (`route --shadow-policy`).
    #[arg(long)]
    differing: bool,
}

/// The text of the requests that were asked for.
pub fn show(args: &ShowArgs) -> Result<String, Failure> {
    let unreadable = |e: ReadError| Failure::Usage(format!("{}: {e}", args.file.display()));
    // The error of a file that cannot be opened names it.
    let reader = TraceReader::open(&args.file).map_err(|e| Failure::Usage(e.to_string()))?;
    let mut missing: Vec<&str> = args.requests.iter().map(String::as_str).collect();
    // A text is made of those alone that are shown.
    let mut shown: VecDeque<(String, Box<RequestRecord>)> = VecDeque::new();
    let mut mark_before = String::new();
    let most = if args.requests.is_empty() { usize::from(args.last) } else { MAX_NAMED };
    for record in reader {
        let request = match record.map_err(unreadable)?.1 {
            Record::Request(request) => request,
            Record::Mark(mark) if args.requests.is_empty() => {
                mark_before = format!("mark {}: {}\n\n", utc(mark.unix_ns), mark.label);
                continue;
            }
            _ => continue,
        };
        if args.differing && !is_contested(&request) {
            continue;
        }
        if args.requests.is_empty() && request.is_about_the_router() {
            continue;
        }
        if !args.requests.is_empty() {
            let Some(name) = args.requests.iter().find(|name| is_called(&request, name)) else { continue };
            missing.retain(|other| other != name);
        }
        if shown.len() == most {
            shown.pop_front();
        }
        shown.push_back((std::mem::take(&mut mark_before), request));
    }
    if !missing.is_empty() {
        let kind = if args.differing { "contested request" } else { "request" };
        return Err(Failure::Usage(format!("{}: no {kind} {}", args.file.display(), missing.join(", "))));
    }
    if shown.is_empty() {
        return Err(Failure::Usage(format!("{}: no such request", args.file.display())));
    }
    let texts = shown.iter().map(|(mark, request)| format!("{mark}{}", decision_text(request)));
    Ok(texts.collect::<Vec<_>>().join("\n"))
}

fn is_called(request: &RequestRecord, name: &str) -> bool {
    request.request_id == name || name.parse() == Ok(request.seq)
}

fn is_contested(request: &RequestRecord) -> bool {
    request.shadow.get().is_some_and(|shadows| shadows.iter().any(|shadow| !shadow.agrees))
}
