//! The program as its own child: writes so many records through the router's writer, and says what that took beside making them.
//!
//! Rule: writer, sink and files are those of a router; only where the records come from is not. Nothing may be lost: whoever makes
//! records waits for room, as no request would. Deliberately not here: what is made of the files (`records`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use milepost::clock::{Clock, process_cpu_ns};
use milepost::trace::parts::parts_of;
use milepost::trace::reader::TraceReader;
use milepost::trace::record::{Record, RequestRecord, RunRecord, WorkerRecord};
use milepost::trace::sink::{DEFAULT_CAPACITY_RECORDS, Sink};
use milepost::trace::writer::{CaptureConfig, TraceWriter};

use crate::material::nth;
use crate::process::own_cpu_ns;

/// A file is rotated when it is so long, where they are packed.
const ROTATE_BYTES: u64 = 64 << 20;
/// Between two requests: 2,000 a second.
const GAP_NS: u64 = 500_000;
/// Between two looks whether there is room, or all is packed.
const LOOK: Duration = Duration::from_millis(1);
/// Most looks whether all is packed.
const LOOKS: u32 = 600_000;

/// Arguments: how many, like those of which trace, into which file, `packed` or `plain`. Prints the CPU of all but the making,
/// nanoseconds.
pub fn run(args: &[String]) -> Result<(), String> {
    let [records, like, into, kind] = args else { return Err("four arguments".to_owned()) };
    let records: u64 = records.parse().map_err(|_| format!("{records}: no number"))?;
    let is_packed = kind == "packed";
    let written = write(records, Path::new(like), &PathBuf::from(into), is_packed)?;
    println!("{written}");
    Ok(())
}

/// What records are made of.
struct Models {
    run: RunRecord,
    workers: Vec<WorkerRecord>,
    requests: Vec<RequestRecord>,
}

impl Models {
    fn read(like: &Path) -> Result<Self, String> {
        let (mut run, mut workers, mut requests) = (None, Vec::new(), Vec::new());
        for record in TraceReader::open(like).map_err(|e| e.to_string())? {
            match record.map_err(|e| e.to_string())?.1 {
                Record::Run(record) => run = Some(record),
                Record::Worker(record) => workers.push(record),
                Record::Request(record) if record.endpoint.generates() => requests.push(*record),
                _ => {}
            }
        }
        let run = run.filter(|_| !requests.is_empty()).ok_or("the trace has no requests")?;
        Ok(Self { run, workers, requests })
    }
}

fn write(records: u64, like: &Path, into: &Path, is_packed: bool) -> Result<u64, String> {
    let models = Models::read(like)?;
    let clock = Clock::system();
    let from = clock.snapshot();
    let sink = Arc::new(Sink::bounded(DEFAULT_CAPACITY_RECORDS));
    let config = CaptureConfig {
        rotate_bytes: is_packed.then_some(ROTATE_BYTES),
        packs: is_packed,
        ..CaptureConfig::default()
    };
    let run = RunRecord { clock: from, ..models.run };
    let before_ns = own_cpu_ns();
    let writer = TraceWriter::start(Some(into), config, run, Arc::clone(&sink), clock, Vec::new())
        .map_err(|e| e.to_string())?;
    models.workers.into_iter().for_each(|worker| sink.offer(Record::Worker(worker)));
    for n in 0..records {
        while sink.held_records() >= DEFAULT_CAPACITY_RECORDS / 2 {
            std::thread::sleep(LOOK);
        }
        sink.offer(Record::Request(Box::new(nth(&models.requests, n, GAP_NS, from))));
    }
    if is_packed {
        wait_for_packing(&sink, into)?;
    }
    drop(writer);
    match sink.lost_total() {
        0 => Ok(process_cpu_ns().saturating_sub(own_cpu_ns().saturating_sub(before_ns))),
        lost => Err(format!("{lost} records are lost")),
    }
}

/// Until all but the file that is written are packed: a router that ends leaves them for the next one.
fn wait_for_packing(sink: &Sink, into: &Path) -> Result<(), String> {
    for _ in 0..LOOKS {
        let parts = parts_of(into).map_err(|e| e.to_string())?;
        if sink.held_records() == 0 && parts.iter().all(|part| part.is_packed) {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    Err("rotated files are not packed after ten minutes".to_owned())
}
