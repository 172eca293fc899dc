//! A trace as Chrome trace events (JSON), which Perfetto and `chrome://tracing` show.
//!
//! Router and workers are processes; a process has as many lanes (threads) as requests overlapped there, as slices of one thread
//! must nest. A request is one slice at the router and one at each worker that it was sent to, its stages are slices inside, and
//! an arrow leads from the router's slice to the worker's. Changes of workers and marks are instants. Times are microseconds with three
//! decimals after the first moment of the trace (`otherData.t0_unix_ns`), as a double cannot hold Unix nanoseconds.
//! Rule: written as it is read; kept is a number a lane. Deliberately not here: what the stages are (`stages`).

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::ExportError;
use super::lanes::Lanes;
use super::source::{Item, Placed, each};
use super::stages::{Stage, Visit, at_router, at_workers};
use super::survey::Survey;
use crate::clock::ClockSnapshot;
use crate::trace::record::Record;

/// Process of the router.
const ROUTER: &str = "router";

/// Writes the requests of a trace; returns how many.
pub fn write(survey: &Survey, out: &mut (dyn Write + Send)) -> Result<u64, ExportError> {
    let t0_unix_ns = survey.first_unix_ns.unwrap_or(0);
    let about = json!({ "t0_unix_ns": t0_unix_ns.to_string(), "made_by": concat!("milepost ", env!("CARGO_PKG_VERSION")) });
    write!(out, "{{\"displayTimeUnit\":\"ns\",\"otherData\":{about},\"traceEvents\":[")?;
    let mut events = Events { out, t0_unix_ns, processes: BTreeMap::new(), flows: 0, is_first: true };
    let mut requests = 0;
    // The router stands above its workers.
    events.process(ROUTER)?;
    each(survey, |item| {
        match item {
            Item::Request(placed) => {
                requests += 1;
                events.request(&placed)?;
            }
            Item::Other(record, clock) => events.other(record, clock)?,
            Item::NewRun(_) => {}
        }
        Ok(())
    })?;
    writeln!(events.out, "\n]}}")?;
    Ok(requests)
}

struct Events<'w> {
    out: &'w mut (dyn Write + Send),
    t0_unix_ns: u64,
    processes: BTreeMap<String, Process>,
    /// Arrows so far; each has its number.
    flows: u64,
    is_first: bool,
}

struct Process {
    id: u64,
    lanes: Lanes,
}

/// Where and when a slice is drawn.
#[derive(Clone, Copy)]
struct Spot {
    process: u64,
    lane: u64,
    /// Arrival of its request, nanoseconds after the first moment.
    origin_ns: i64,
}

impl Events<'_> {
    fn request(&mut self, placed: &Placed<'_>) -> io::Result<()> {
        let record = placed.record;
        let since_ns = i128::from(record.arrival_unix_ns) - i128::from(self.t0_unix_ns);
        let origin_ns = i64::try_from(since_ns).unwrap_or(i64::MAX);
        let end_ns = i64::try_from(record.end_ns).unwrap_or(i64::MAX);
        let spot = self.spot(ROUTER, origin_ns, (0, end_ns))?;
        let whole = Stage { name: format!("{} {}", record.method, record.path).into(), start_ns: 0, end_ns };
        self.slice(spot, &whole, "request", &about(placed))?;
        for stage in &at_router(record) {
            self.slice(spot, stage, "router", &Value::Null)?;
        }
        for visit in &at_workers(placed) {
            self.visit(spot, placed, visit)?;
        }
        Ok(())
    }

    fn visit(&mut self, from: Spot, placed: &Placed<'_>, visit: &Visit<'_>) -> io::Result<()> {
        let spot = self.spot(visit.worker, from.origin_ns, (visit.start_ns, visit.end_ns))?;
        let what = if visit.error.is_some() { "failed attempt" } else { "request" };
        let name = format!("{what} {}", placed.record.seq);
        let whole = Stage { name: name.into(), start_ns: visit.start_ns, end_ns: visit.end_ns };
        let args = match visit.error {
            Some(error) => json!({ "request_id": placed.record.request_id, "error": error }),
            None => about(placed),
        };
        self.slice(spot, &whole, "worker", &args)?;
        for stage in &visit.stages {
            self.slice(spot, stage, "server", &Value::Null)?;
        }
        self.flows += 1;
        self.arrow(from, "s", visit.start_ns, "")?;
        self.arrow(spot, "f", visit.start_ns, ",\"bp\":\"e\"")
    }

    fn other(&mut self, record: &Record, clock: Option<ClockSnapshot>) -> io::Result<()> {
        match (record, clock) {
            (Record::Worker(worker), Some(clock)) => {
                let since_ns = i128::from(worker.mono_ns) - i128::from(clock.mono_ns);
                let process = self.process(&worker.worker)?;
                let args =
                    json!({ "detail": worker.detail, "model": worker.model, "version": worker.version });
                let name = format!("worker {}", worker.event);
                self.instant(process, 'p', &name, i128::from(clock.unix_ns) + since_ns, &args)
            }
            (Record::Mark(mark), _) => {
                let process = self.process(ROUTER)?;
                self.instant(
                    process,
                    'g',
                    &mark.label,
                    i128::from(mark.unix_ns),
                    &json!({ "mark": mark.label }),
                )
            }
            _ => Ok(()),
        }
    }

    /// Something that happened at a moment, in a process (`p`) or everywhere (`g`).
    fn instant(
        &mut self,
        process: u64,
        scope: char,
        name: &str,
        unix_ns: i128,
        args: &Value,
    ) -> io::Result<()> {
        self.separate()?;
        let name = Value::from(name);
        write!(
            self.out,
            "{{\"ph\":\"i\",\"s\":\"{scope}\",\"cat\":\"fleet\",\"name\":{name},\"pid\":{process},\"tid\":0,\"ts\":"
        )?;
        micros(self.out, i64::try_from(unix_ns - i128::from(self.t0_unix_ns)).unwrap_or(0))?;
        write!(self.out, ",\"args\":{args}}}")
    }

    /// Takes a lane for a span, of nanoseconds after arrival.
    fn spot(&mut self, name: &str, origin_ns: i64, (start_ns, end_ns): (i64, i64)) -> io::Result<Spot> {
        let process = self.process(name)?;
        let taken = self
            .processes
            .get_mut(name)
            .map(|of| of.lanes.take(origin_ns.saturating_add(start_ns), origin_ns.saturating_add(end_ns)));
        let (lane, is_new) = taken.unwrap_or((1, false));
        if is_new {
            let title = format!("lane {lane}");
            self.meta("thread_name", process, lane, &json!({ "name": title }))?;
            self.meta("thread_sort_index", process, lane, &json!({ "sort_index": lane }))?;
        }
        Ok(Spot { process, lane, origin_ns })
    }

    /// The number of a process, which is made known when it is first named.
    fn process(&mut self, name: &str) -> io::Result<u64> {
        if let Some(process) = self.processes.get(name) {
            return Ok(process.id);
        }
        let id = self.processes.len() as u64 + 1;
        self.processes.insert(name.to_owned(), Process { id, lanes: Lanes::default() });
        self.meta("process_name", id, 0, &json!({ "name": name }))?;
        self.meta("process_sort_index", id, 0, &json!({ "sort_index": id }))?;
        Ok(id)
    }

    fn meta(&mut self, what: &str, process: u64, lane: u64, args: &Value) -> io::Result<()> {
        self.separate()?;
        write!(self.out, "{}", json!({ "ph": "M", "name": what, "pid": process, "tid": lane, "args": args }))
    }

    fn slice(&mut self, spot: Spot, stage: &Stage, category: &str, args: &Value) -> io::Result<()> {
        self.separate()?;
        let Spot { process, lane, origin_ns } = spot;
        let name = Value::from(stage.name.as_ref());
        write!(
            self.out,
            "{{\"ph\":\"X\",\"cat\":\"{category}\",\"name\":{name},\"pid\":{process},\"tid\":{lane},\"ts\":"
        )?;
        micros(self.out, origin_ns.saturating_add(stage.start_ns))?;
        write!(self.out, ",\"dur\":")?;
        micros(self.out, stage.end_ns.saturating_sub(stage.start_ns))?;
        if !args.is_null() {
            write!(self.out, ",\"args\":{args}")?;
        }
        write!(self.out, "}}")
    }

    /// One end of an arrow; it belongs to the slice that is open there.
    fn arrow(&mut self, spot: Spot, end: &str, ns: i64, more: &str) -> io::Result<()> {
        self.separate()?;
        let (Spot { process, lane, origin_ns }, id) = (spot, self.flows);
        write!(
            self.out,
            "{{\"ph\":\"{end}\",\"cat\":\"sent\",\"name\":\"sent\",\"id\":{id},\"pid\":{process},\"tid\":{lane}{more},\"ts\":"
        )?;
        micros(self.out, origin_ns.saturating_add(ns))?;
        write!(self.out, "}}")
    }

    fn separate(&mut self) -> io::Result<()> {
        let separator: &[u8] = if self.is_first { b"\n" } else { b",\n" };
        self.is_first = false;
        self.out.write_all(separator)
    }
}

/// Microseconds with three decimals.
fn micros(out: &mut (dyn Write + Send), ns: i64) -> io::Result<()> {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    write!(out, "{sign}{}.{:03}", ns / 1_000, ns % 1_000)
}

/// What a click on a request shows.
fn about(placed: &Placed<'_>) -> Value {
    let (record, aligned) = (placed.record, &placed.aligned);
    let mut args = json!({
        "seq": record.seq, "run": placed.run, "request_id": record.request_id, "outcome": record.outcome.name(),
        "attempts": record.attempts,
    });
    let missing: Vec<String> = aligned.missing.iter().map(|(what, why)| format!("{what}={why}")).collect();
    let optional = [
        ("worker", record.worker.as_deref().map(Value::from)),
        ("policy", record.policy.as_deref().map(Value::from)),
        ("reason", record.decision.as_ref().map(|decision| Value::from(decision.reason.as_ref()))),
        ("phase", record.phase.as_deref().map(Value::from)),
        ("status", record.status.map(Value::from)),
        ("error", record.error.as_deref().map(Value::from)),
        ("prompt_tokens", record.tokens.prompt_tokens.map(Value::from)),
        ("completion_tokens", record.tokens.completion_tokens.map(Value::from)),
        ("cached_tokens", record.tokens.cached_tokens.map(Value::from)),
        ("ttft_ns", aligned.ttft_ns.map(Value::from)),
        ("clock_bound_ns", aligned.clock_bound_ns.map(Value::from)),
        ("order_broken", aligned.order_broken.then_some(Value::Bool(true))),
        ("missing", (!missing.is_empty()).then(|| missing.join("; ").into())),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            args[name] = value;
        }
    }
    args
}
