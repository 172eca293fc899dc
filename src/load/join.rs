//! From what the client saw and what the trace tells to rows.
//!
//! Rule: a request without a record of the router still becomes a row, with the router's and the server's cells empty.
//! Without a router the client's own stamps make the record, and both go through the same alignment. Deliberately not here:
//! the alignment of server stamps, see [`crate::trace::align`].

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::arrivals::Seen;
use super::client::Exchange;
use super::config::LoadConfig;
use super::dataset::Prompt;
use super::failure::{Class, Failure};
use super::faults::Phases;
use super::offset::{Pair, offset};
use super::plan::{Ids, Plan};
use super::probe::ServerInfo;
use super::progress::Closing;
use super::recorded::{fill, from_router, ns_of};
use super::row::{Gap, Row, Tried};
use super::rows::{Rows, RowsMaker};
use super::run::RunContext;
use super::spool::records::{Found, Unread, Wanted};
use super::spool::seen::AllSeen;
use super::target::{Target, host_port_of};
use super::traced::{RouterRun, Traced, Tracing};
use crate::clock::{ClockSnapshot, Stamp};
use crate::trace::align::{TtftSource, align};
use crate::trace::axis::{ClockTrack, Offsets};
use crate::trace::boot_id;
use crate::trace::record::{Outcome, RequestRecord};
use crate::wire::Endpoint;
use crate::wire::answer::Answer;

/// Rows from one time that it is told how many are done to the next.
const TOLD: usize = 1024;

/// Why the client takes a request for failed; `None` if it saw a whole answer with at least one token.
pub fn failure_of(exchange: &Exchange) -> Option<Failure> {
    let told = exchange.answer.as_ref().and_then(|a| a.error.as_ref()).map(|error| {
        let class = match error.class {
            "http_status" => Class::HttpStatus,
            "error_event" | "error_body" => Class::ErrorEvent,
            "abort" => Class::Abort,
            "truncated" => Class::Truncated,
            "no_tokens" => Class::Empty,
            _ => Class::Malformed,
        };
        let code = error.code.map(|c| format!("{c} ")).unwrap_or_default();
        Failure::new(class, format!("{code}{}", error.message).trim_end().to_owned())
    });
    // An error that the server named came before the connection ended; a mere end says less than why it ended.
    let named =
        told.as_ref().is_some_and(|f| !matches!(f.class, Class::Truncated | Class::Empty | Class::Malformed));
    if named { told } else { exchange.failure.clone().or(told) }.or_else(|| unlooked(exchange))
}

/// A success has an answer that was read.
fn unlooked(exchange: &Exchange) -> Option<Failure> {
    match (&exchange.answer, exchange.status) {
        (Some(answer), Some(200)) if answer.looked => None,
        (_, Some(200)) => {
            Some(Failure::new(Class::Malformed, "the answer could not be read: too long or encoded"))
        }
        (_, Some(status)) => Some(Failure::new(Class::HttpStatus, status.to_string())),
        (_, None) => Some(Failure::new(Class::Reset, "no answer")),
    }
}

/// Words of the prompt: of a turn that says what was answered they are known after the run only.
fn words(prompt: &Prompt, endpoint: Endpoint, seen: &Seen) -> Option<u64> {
    if seen.said.is_empty() {
        return prompt.words();
    }
    let each: usize = seen.said.iter().map(|text| text.split_whitespace().count()).sum();
    // Save in a chat an answer goes on where its prompt ended: in the middle of a word, it may be.
    let joined = seen.said.chunks_exact(2).filter(|pair| {
        endpoint != Endpoint::Chat
            && pair[0].ends_with(|c: char| !c.is_whitespace())
            && pair[1].starts_with(|c: char| !c.is_whitespace())
    });
    Some((each - joined.count()) as u64)
}

/// What rows are made with.
pub(super) struct Run<'a> {
    pub config: &'a LoadConfig,
    pub start: Stamp,
    pub clocks: Vec<ClockSnapshot>,
    pub target: ServerInfo,
    /// Of the schedule of failures, where there is one.
    pub phases: Option<Phases>,
    pub context: &'a RunContext,
    pub notes: &'a mut Vec<String>,
    /// The worker that was looked at last, and whether it is on this host: mostly it is one for a million requests.
    pub last_worker: RefCell<(String, bool)>,
}

/// What was made of it.
pub(super) struct Joined {
    /// One for each planned request.
    pub rows: Rows,
    /// What is known of the servers.
    pub servers: Vec<ServerInfo>,
    /// Requests for tokens in the router's trace that are none of the run's; `None` without a trace.
    pub strangers: Option<u64>,
}

impl Run<'_> {
    /// One row for each planned request, and what else the trace told. What was seen is read as often as there are questions to
    /// all of it.
    pub(super) async fn rows(mut self, plan: &Plan, seen: AllSeen, tracing: Option<Tracing>) -> Joined {
        let traced = self.trace(plan, &seen, tracing).await;
        let servers = self.servers(traced.as_ref());
        let axis = match &traced {
            None => self.client_axis(plan, &seen),
            Some(traced) => self.router_axis(traced, &seen),
        };
        let kinds: BTreeMap<&str, Option<bool>> =
            servers.iter().map(|s| (s.host.as_str(), s.simulated)).collect();
        let mut records = traced.as_ref().map(|traced| traced.records.in_order());
        let (mut rows, mut unread) = (RowsMaker::new(&self.context.keeping), 0_u64);
        for (index, seen) in seen.iter().enumerate() {
            if index.is_multiple_of(TOLD) {
                let all = plan.prompts.len();
                self.context.progress.closing(Closing { what: "the rows", done: index, all });
            }
            let mut row = self.client_row(plan, index, &seen);
            match &axis {
                Axis::Client { clocks, offsets } => {
                    if let Some(record) = self.own_record(plan, index, &seen) {
                        self.fill_without_router(&mut row, &record, clocks, offsets);
                    }
                }
                Axis::Router { traced, shifts_ns } => match records.as_mut().and_then(Iterator::next) {
                    Some(Ok(Some(found))) => from_trace(&mut row, &found, traced, shifts_ns),
                    Some(Err(Unread)) => unread += 1,
                    Some(Ok(None)) | None => {}
                },
            }
            let kind = row.host.as_deref().and_then(|host| kinds.get(host).copied().flatten());
            row.simulated = row.simulated.or(kind);
            if let Some(phases) = &self.phases {
                phases.mark(&mut row);
            }
            rows.push(row);
        }
        let (rows, trouble) = rows.finish();
        let kept = || traced.as_ref().and_then(|traced| traced.records.trouble());
        self.notes.extend([trouble, seen.trouble(), kept()].into_iter().flatten());
        if unread > 0 {
            self.notes.push(format!(
                "{unread} records of the router came and could not be read back from the scratch file: their rows say that they are \
                 not in the trace"
            ));
        }
        Joined { rows, servers, strangers: traced.as_ref().map(|t| t.strangers) }
    }

    /// The records of the requests that were sent. A trace that cannot be read now costs its columns, not the run.
    async fn trace(&mut self, plan: &Plan, seen: &AllSeen, tracing: Option<Tracing>) -> Option<Traced> {
        let tracing = tracing?;
        let sent: Vec<bool> = seen.iter().map(|s| s.exchange.stamps.sent_ns.is_some()).collect();
        let ids = Ids::of(plan);
        let wanted = Wanted {
            index: &|id| ids.index(id).filter(|index| sent[*index]),
            count: sent.iter().filter(|sent| **sent).count(),
            planned: sent.len(),
            keeping: &self.context.keeping,
        };
        let traced =
            tracing.collect(&wanted, &self.context.clock, self.config.trace_wait).await.unwrap_or_else(|e| {
                self.notes.push(format!("{e}: nothing of the router is known"));
                Traced::default()
            });
        Some(traced)
    }

    /// Fills in what the client's own stamps and the server told.
    fn fill_without_router(
        &self,
        row: &mut Row,
        record: &RequestRecord,
        clocks: &ClockTrack,
        offsets: &Offsets,
    ) {
        row.host = record.worker.as_deref().map(host_port_of);
        fill(row, record, align(record, clocks, offsets), -ns_of(self.start.mono_ns));
        without_router(row);
    }

    /// The workers of the trace, else the target.
    fn servers(&self, traced: Option<&Traced>) -> Vec<ServerInfo> {
        let workers = traced.map(|t| &t.workers).filter(|w| !w.is_empty());
        let Some(workers) = workers else {
            return vec![self.target.clone()];
        };
        let info = |(url, w): (&String, &crate::trace::record::WorkerRecord)| ServerInfo {
            host: host_port_of(url),
            model: w.model.clone(),
            version: w.version.clone(),
            max_running_requests: w.max_running_requests,
            simulated: w.simulated,
        };
        workers.iter().map(info).collect()
    }

    fn client_row(&self, plan: &Plan, index: usize, seen: &Seen) -> Row {
        let (prompt, asked) = (plan.prompts.get(index), plan.asked[index]);
        let Exchange { stamps, answer, .. } = &seen.exchange;
        let failure = failure_of(&seen.exchange);
        let tokens = answer.as_ref().map(|a| a.tokens).unwrap_or_default();
        let times = answer.as_ref().map(|a| a.token_times.as_slice()).unwrap_or_default();
        let first_token_ns = answer.as_ref().and_then(|a| a.first_token_ns);
        let at = |ns: Option<u64>| ns.map(|ns| self.after_start(ns));
        // A failed request ends when the client gives it up; a good one with its last byte.
        let end_ns = if failure.is_none() { stamps.last_byte_ns } else { seen.ended_ns };
        Row {
            req_id: plan.id(index),
            status: seen.exchange.status,
            host: seen.exchange.worker_url.as_deref().map(host_port_of),
            has_generated_text: answer.as_ref().and_then(|a| a.has_text).unwrap_or(false),
            input_words: words(&prompt, self.config.backend.endpoint(), seen),
            turn: prompt.turn.as_ref().map(|turn| (turn.session, turn.turn)),
            planned_tokens: prompt.planned_tokens,
            max_new_tokens: asked.max_new_tokens,
            prompt_tokens: tokens.prompt_tokens,
            completion_tokens: tokens.completion_tokens,
            cached_tokens: tokens.cached_tokens,
            counted_tokens: times.last().map(|t| t.tokens.into()).or(seen.count_kept),
            token_times_dropped: seen.count_kept.is_some(),
            scheduled_ns: self.after_start(seen.scheduled_ns),
            dispatched_ns: at(seen.dispatched_ns),
            connected_ns: at(stamps.connected_ns),
            write_begun_ns: at(stamps.write_begun_ns),
            sent_ns: at(stamps.sent_ns),
            client_first_token_ns: at(first_token_ns),
            client_end_ns: at(end_ns),
            gaps_from_ns: at(times.first().map(|t| t.at_ns)),
            gaps: times.windows(2).map(Gap::between).collect(),
            streamed: asked.stream,
            group: prompt.group,
            batch_size: Some(asked.batch_size),
            reconnects: seen.exchange.reconnects,
            reused_connection: seen.exchange.reused_connection,
            simulated: seen.exchange.simulated.then_some(true),
            failure,
            ..Row::default()
        }
    }

    fn after_start(&self, mono_ns: u64) -> i64 {
        ns_of(mono_ns) - ns_of(self.start.mono_ns)
    }

    fn on_this_host(&self, worker: &str) -> bool {
        let mut last = self.last_worker.borrow_mut();
        if last.0 != worker {
            *last = (worker.to_owned(), on_this_host(&self.config.target, worker));
        }
        last.1
    }

    /// The record a router would have made, from the client's stamps: arrival and send are one moment, the first write.
    fn own_record(&self, plan: &Plan, index: usize, seen: &Seen) -> Option<RequestRecord> {
        let Exchange { stamps, answer, .. } = &seen.exchange;
        let arrival_ns = stamps.write_begun_ns?;
        let after = |ns: Option<u64>| ns.map(|ns| ns.saturating_sub(arrival_ns));
        let nothing = Answer::default();
        let answer = answer.as_ref().unwrap_or(&nothing);
        let asked = plan.asked[index];
        let target = self.target.is_worker().then(|| self.config.target.to_string());
        let worker = seen.exchange.worker_url.clone().or(target);
        let same_host =
            |worker: &String| seen.exchange.same_host.map(|same| same && self.on_this_host(worker));
        Some(RequestRecord {
            request_id: plan.id(index),
            method: "POST".into(),
            path: plan.path(index).to_owned().into(),
            endpoint: self.config.backend.endpoint(),
            stream: asked.stream,
            max_new_tokens: asked.max_new_tokens,
            same_host: worker.as_ref().and_then(same_host),
            worker: worker.map(Into::into),
            attempts: 1,
            arrival_mono_ns: arrival_ns,
            arrival_unix_ns: self.start.unix_ns_at(arrival_ns),
            router_send_ns: Some(0),
            first_byte_ns: after(stamps.first_byte_ns),
            head_ns: after(stamps.head_ns),
            first_event_ns: after(answer.first_event_ns),
            first_token_ns: after(answer.first_token_ns),
            last_byte_ns: after(stamps.last_byte_ns),
            end_ns: after(seen.ended_ns).unwrap_or_default(),
            outcome: if failure_of(&seen.exchange).is_none() { Outcome::Done } else { Outcome::WorkerError },
            status: seen.exchange.status,
            sse_events: answer.events,
            sse_done: answer.done,
            tokens: answer.tokens,
            has_text: answer.has_text,
            finish_reason: answer.finish_reason.clone(),
            server: answer.stamps,
            ..RequestRecord::default()
        })
    }
}

/// Whose stamps the rows rest on.
enum Axis<'a> {
    Client {
        clocks: ClockTrack,
        offsets: Offsets,
    },
    /// `shifts_ns[run]` added to that run's monotonic clock gives time after the start of the load.
    Router {
        traced: &'a Traced,
        shifts_ns: Vec<i64>,
    },
}

impl Run<'_> {
    /// Learns the servers' clocks from what the client itself saw.
    fn client_axis<'a>(&mut self, plan: &Plan, seen: &AllSeen) -> Axis<'a> {
        let (mut offsets, mut through_router) = (Offsets::default(), false);
        for (index, seen) in seen.iter().enumerate() {
            through_router |= seen.exchange.worker_url.is_some();
            // A server that tells nothing of its own has no clock to learn.
            if seen.exchange.answer.as_ref().is_some_and(|answer| !answer.stamps.is_empty())
                && let Some(record) = self.own_record(plan, index, &seen)
            {
                offsets.learn(&record);
            }
        }
        if through_router {
            self.notes.push(
                "a router is in between (its answers carry x-worker-url): arrival_time and router_send_time are the client's; \
                 give --router-trace for the router's own"
                    .to_owned(),
            );
        }
        Axis::Client { clocks: track(&self.clocks), offsets }
    }

    fn router_axis<'a>(&mut self, traced: &'a Traced, seen: &AllSeen) -> Axis<'a> {
        if traced.another {
            self.notes.push(
                "the address of --router-trace gives another file than at the beginning (rotated, or begun anew): records of the \
                 earlier one are not joined; give its FILE, which is followed over rotations"
                    .to_owned(),
            );
        }
        if traced.removed {
            self.notes.push(
                "the router had removed files of its trace before they were read (its --trace-max-size, or another capture was \
                 begun): records in them may be missing here; give the capture more room, or make a shorter run"
                    .to_owned(),
            );
        }
        if let Some(cut) = &traced.cut {
            self.notes
                .push(format!("the router's trace was read up to {cut}; records behind that are not joined"));
        }
        if traced.lost > 0 {
            self.notes
                .push(format!("the router could not write {} request records of this time", traced.lost));
        }
        if traced.not_captured > 0 {
            self.notes.push(format!(
                "the router's trace leaves out {} requests, by its sample (--trace-sample) or because it was stopped; some may be of \
                 the time before the run",
                traced.not_captured
            ));
        }
        if traced.repeated > 0 {
            self.notes.push(format!(
                "{} records of the router's trace have an id that another has too (sent again on a new connection, or used by \
                 another client): the one that arrived last was taken",
                traced.repeated
            ));
        }
        if traced.unreadable > 0 {
            self.notes.push(format!(
                "{} lines of the trace are no records of this version and were passed over",
                traced.unreadable
            ));
        }
        let ours = boot_id();
        let shifts_ns =
            (0..traced.runs.len()).map(|run| self.shift(traced, run, ours.as_deref(), seen)).collect();
        Axis::Router { traced, shifts_ns }
    }

    /// On one host the monotonic clocks are one; else the fastest request pair tells their difference.
    fn shift(&mut self, traced: &Traced, run: usize, ours: Option<&str>, seen: &AllSeen) -> i64 {
        if ours.is_some() && ours == traced.runs[run].boot_id.as_deref() {
            return -ns_of(self.start.mono_ns);
        }
        let pairs = traced.records.in_order().zip(seen.iter()).filter_map(|(found, seen)| {
            let Found { record, .. } = found.ok()?.filter(|found| found.run == run)?;
            let Exchange { stamps, failure: None, .. } = &seen.exchange else {
                return None;
            };
            Some(Pair {
                sent_ns: ns_of(stamps.write_begun_ns?),
                received_ns: ns_of(stamps.last_byte_ns?),
                router_arrival_ns: ns_of(record.arrival_mono_ns),
                router_end_ns: ns_of(record.arrival_mono_ns + record.last_byte_ns?),
            })
        });
        if let Some((offset_ns, bound_ns)) = offset(pairs) {
            self.notes.push(format!(
                "router and client have different clocks: the router's times were moved onto the client's by the fastest request \
                 pair, right within {:.3} ms; durations are not touched",
                bound_ns as f64 / 1e6
            ));
            return offset_ns - ns_of(self.start.mono_ns);
        }
        // No whole pair: wall clocks are what is left, and only failed requests are placed by them.
        traced.records.first_of(run).map_or(0, |record| {
            ns_of(record.arrival_unix_ns) - ns_of(record.arrival_mono_ns) - ns_of(self.start.unix_ns)
        })
    }
}

fn track(snapshots: &[ClockSnapshot]) -> ClockTrack {
    let mut clocks = ClockTrack::default();
    for snapshot in snapshots {
        clocks.add(*snapshot);
    }
    clocks
}

/// Fills in what router and server told.
fn from_trace(row: &mut Row, found: &Found, traced: &Traced, shifts_ns: &[i64]) {
    let Found { run, record } = found;
    let RouterRun { clocks, offsets, .. } = &traced.runs[*run];
    from_router(row, record, offsets);
    fill(row, record, align(record, clocks, offsets), shifts_ns[*run]);
    row.tried = tried(record, shifts_ns[*run]);
}

/// The failed attempts of a record; `shift_ns` as in [`fill`].
fn tried(record: &RequestRecord, shift_ns: i64) -> Vec<Tried> {
    let at = |after_ns: u64| ns_of(record.arrival_mono_ns) + shift_ns + ns_of(after_ns);
    let attempts = record.failed_attempts.iter().map(|attempt| Tried {
        host: host_port_of(&attempt.worker),
        send_ns: attempt.router_send_ns.map(at),
        failed_ns: at(attempt.failed_ns),
    });
    attempts.collect()
}

/// A worker that a router on the target's host names by a loopback address or by the target's own is on that host.
fn on_this_host(target: &Target, worker_url: &str) -> bool {
    Target::parse(worker_url).is_ok_and(|worker| {
        let loopback = worker.host == "localhost"
            || worker.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        loopback || worker.host == target.host
    })
}

/// The record was made from the client's stamps: none of them is a router's.
fn without_router(row: &mut Row) {
    row.ttft_router_ns = None;
    if row.ttft_source == TtftSource::Router.as_str() {
        row.ttft_source = "client";
    }
}
