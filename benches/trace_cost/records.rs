//! The second part: very many records written by the router's writer, checked, aligned and exported; time, CPU, memory and bytes of each.
//!
//! Rule: the records are made of a real run of a router before simulated workers (`material`), and each command is the one that a user
//! runs, on all of them at once. None may be lost, which the check says. Deliberately not here: what the trace costs a request.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use milepost::trace::parts::parts_of;
use milepost::trace::reader::TraceReader;
use milepost::trace::record::Record;

use crate::fleet::Fleet;
use crate::load::{Broken, Case, Load, Pace};
use crate::options::{MAKE, Options};
use crate::page::{Page, Section, progress, with_notes};
use crate::peers::{Peer, Stage, Tracing};
use crate::sinks::FLEET;
use crate::spent::{self, Spent};
use crate::table::{Table, short};

/// Requests of the run that records are made of.
const MODELS: usize = 2_000;
/// Bytes of their prompts.
const PROMPT_BYTES: usize = 1_024;
/// All that ended before is written after this long.
const WRITTEN: Duration = Duration::from_millis(200);
/// What reads the whole trace and writes to standard output.
const READERS: [&[&str]; 6] = [
    &["trace", "align"],
    &["trace", "export", "--to", "csv", "--out", "-"],
    &["trace", "export", "--to", "parquet", "--out", "-"],
    &["trace", "export", "--to", "perfetto", "--out", "-"],
    &["trace", "export", "--to", "otlp", "--out", "-"],
    &["trace", "export", "--to", "mooncake", "--out", "-"],
];

/// A row of the table.
struct Row {
    name: String,
    spent: Spent,
    /// What it left behind.
    bytes: Option<u64>,
}

/// Measures and tells.
pub fn measure(stage: &mut Stage, load: &mut Load, options: &Options, page: &mut Page) -> Result<(), Broken> {
    progress("a run of which records are made");
    let like = models(stage, load)?;
    let folder = stage.folder().join("records");
    std::fs::create_dir_all(&folder).map_err(|e| Broken::invalid(e.to_string()))?;
    let (plain, packed) = (folder.join("plain.jsonl"), folder.join("packed.jsonl"));
    // First, as its files can go again before the others are there.
    let packed = packed_row(options.records, &like, &packed)?;
    let mut rows = vec![written(options.records, &like, &plain)?, packed];
    rows.push(checked(options.records, &plain)?);
    let mut notes = Vec::new();
    for reader in READERS {
        let name = format!("`{}`", reader.join(" ").trim_end_matches(" --out -"));
        progress(&name);
        match spent::run(milepost(reader, &plain)) {
            Ok(spent) => {
                let bytes = Some(spent.out_bytes);
                rows.push(Row { name, spent, bytes });
            }
            Err(Broken::Interrupted) => return Err(Broken::Interrupted),
            Err(Broken::Invalid(why)) => notes.push(why),
        }
    }
    tell(options.records, &rows, &notes, page);
    // Gigabytes that nobody needs any more; the rest goes with the stage.
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}

fn tell(records: u64, rows: &[Row], notes: &[String], page: &mut Page) {
    let mut times = Table::new([
        format!("{records} records").as_str(),
        "s",
        "s of CPU",
        "µs of CPU a record",
        "most memory, MiB",
    ]);
    let mut sizes = Table::new(["", "bytes a record", "/ JSON lines"]);
    let plain = rows.first().and_then(|row| row.bytes);
    for row in rows {
        let Spent { wall_s, cpu_s, peak_mib, .. } = row.spent;
        let each_us = cpu_s * 1e6 / records as f64;
        times.row(&row.name, [short(wall_s), short(cpu_s), short(each_us), short(peak_mib)]);
        if let Some(bytes) = row.bytes {
            let ratio = plain.map_or_else(|| "none".to_owned(), |plain| short(bytes as f64 / plain as f64));
            sizes.row(&row.name, [short(bytes as f64 / records as f64), ratio]);
        }
    }
    let text = with_notes(times.text(), notes);
    page.add(Section { key: "records", title: "Very many records", text });
    page.add(Section { key: "bytes", title: "Bytes a record", text: sizes.text() });
}

/// The trace of a run before simulated workers.
fn models(stage: &mut Stage, load: &mut Load) -> Result<PathBuf, Broken> {
    let fleet = Fleet::start(stage, load, FLEET as u64)?;
    let router = stage.start_before(Peer::Milepost("cache_aware", Tracing::FILE), load, &fleet.ports)?;
    let paced = Case::plain("models", "", PROMPT_BYTES, Pace::PerSecond(1_000.0), MODELS);
    load.run(&Case { is_scripted: false, ..paced }, router.port)?;
    load.serve(WRITTEN)?;
    router.trace().ok_or_else(|| Broken::invalid("the run of which records are made has no trace"))
}

fn make(records: u64, like: &Path, into: &Path, kind: &str) -> Result<Spent, Broken> {
    progress(&format!("writing {records} records, {kind}"));
    let program = std::env::current_exe().map_err(|e| Broken::invalid(e.to_string()))?;
    let mut command = Command::new(program);
    command.args([MAKE, &records.to_string()]).args([like, into]).arg(kind);
    let mut spent = spent::run(command)?;
    // What making them took is not the writer's.
    let cpu_ns = spent.said.trim().parse::<f64>();
    spent.cpu_s = cpu_ns.map_err(|_| Broken::invalid("the writer does not say its CPU"))? / 1e9;
    Ok(spent)
}

fn written(records: u64, like: &Path, plain: &Path) -> Result<Row, Broken> {
    let spent = make(records, like, plain, "plain")?;
    let bytes = plain.metadata().ok().map(|file| file.len());
    Ok(Row { name: "written".to_owned(), spent, bytes })
}

/// The files of the packed one are removed again.
fn packed_row(records: u64, like: &Path, packed: &Path) -> Result<Row, Broken> {
    let spent = make(records, like, packed, "packed")?;
    let parts = parts_of(packed).map_err(|e| Broken::invalid(e.to_string()))?;
    let part_bytes: u64 = parts.iter().map(|part| part.bytes).sum();
    // The last file is not packed: what it will take is told by the others.
    let in_parts = before(packed).filter(|in_parts| *in_parts > 0);
    let bytes = in_parts.map(|in_parts| (part_bytes as f64 * records as f64 / in_parts as f64) as u64);
    for path in parts.iter().map(|part| part.path.as_path()).chain([packed]) {
        // It goes with the folder at the latest.
        let _ = std::fs::remove_file(path);
    }
    Ok(Row { name: "written, rotated and packed".to_owned(), spent, bytes })
}

/// Requests that are in the files before this one.
fn before(live: &Path) -> Option<u64> {
    match TraceReader::open(live).ok()?.next()?.ok()?.1 {
        Record::Run(run) => run.capture.map(|capture| capture.requests_before),
        _ => None,
    }
}

fn checked(records: u64, plain: &Path) -> Result<Row, Broken> {
    progress("checking");
    let spent = spent::run(milepost(&["trace", "check"], plain))?;
    for (name, expected) in [("requests ", records), ("lost requests ", 0)] {
        match number(&spent.said, name) {
            Some(found) if found == expected => {}
            found => {
                let why = format!("trace check: {name}{found:?} instead of {expected}");
                return Err(Broken::Invalid(why));
            }
        }
    }
    Ok(Row { name: "`trace check`".to_owned(), spent, bytes: None })
}

/// The number behind a name in what the check says.
fn number(said: &str, name: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn milepost(args: &[&str], file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
    command.args(args).arg(file);
    command
}
