//! `manifest.json`: what a run was, so that it can be found, checked and made again.
//!
//! Rule: it says what was asked, of whom, on which machine and when, and holds a hash of all that was sent, of when it was sent,
//! and of each file beside it. Secrets were masked before they came here. Deliberately not here: results (`json`).

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use milepost_policies::PieceHash;
use serde_json::{Value, json};

use super::marks;
use super::verdict::Verdict;
use crate::load::probe::ServerInfo;
use crate::load::run::RunReport;
use crate::units::utc;

/// Its name.
pub const MANIFEST: &str = "manifest.json";
/// Files above this are not read again to be hashed.
const MAX_HASHED_BYTES: u64 = 16 << 30;
/// Read at a time.
const PIECE_BYTES: usize = 1 << 16;

/// The manifest of the run whose files lie in `folder`.
///
/// # Errors
/// The folder cannot be read.
pub fn manifest(run: &RunReport, verdict: &Verdict, folder: &Path) -> io::Result<Value> {
    Ok(json!({
        "format": 1,
        "milepost_version": env!("CARGO_PKG_VERSION"),
        "arguments": run.config.arguments,
        "config": run.config.to_json(),
        "started": utc(run.start.unix_ns),
        "ended": utc(run.ended_unix_ns),
        "partial": run.partial,
        "verdict": verdict.rating().to_string(),
        "marks": marks::of_run(run),
        "prompts_xxh3": run.prompts_xxh3,
        "schedule_xxh3": run.schedule.hash(),
        "dataset": dataset(run),
        "target": run.config.target.to_string(),
        "servers": run.servers.iter().map(ServerInfo::to_json).collect::<Vec<_>>(),
        "machine": machine(),
        "files": files(folder)?,
    }))
}

/// What was sent: how many requests, and of which file, by a hash of all of it. A file that is gone by now has no hash.
fn dataset(run: &RunReport) -> Value {
    let file = run.config.dataset.path().map(|path| {
        json!({
            "path": path.display().to_string(),
            "bytes": fs::metadata(path).ok().map(|meta| meta.len()),
            "xxh3": hash_of(path).ok().map(|hash| format!("{hash:016x}")),
        })
    });
    json!({ "name": run.config.dataset.name(), "requests": run.rows.len(), "file": file })
}

/// The client's machine.
fn machine() -> Value {
    let name = rustix::system::uname();
    json!({
        "host": name.nodename().to_string_lossy(),
        "kernel": format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy()),
        "architecture": name.machine().to_string_lossy(),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
    })
}

/// Files of the folder by name, the manifest itself left out.
fn files(folder: &Path) -> io::Result<Vec<Value>> {
    let mut found = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    found.sort_by_key(fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in found {
        let (meta, name) = (entry.metadata()?, entry.file_name().to_string_lossy().into_owned());
        if meta.is_file() && name != MANIFEST {
            let hash = if meta.len() <= MAX_HASHED_BYTES {
                Some(format!("{:016x}", hash_of(&entry.path())?))
            } else {
                None
            };
            files.push(json!({"name": name, "bytes": meta.len(), "xxh3": hash}));
        }
    }
    Ok(files)
}

/// XXH3 of a file, however large.
fn hash_of(path: &Path) -> io::Result<u64> {
    let mut file = fs::File::open(path)?;
    let (mut hash, mut piece) = (PieceHash::default(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.hash()),
            read => hash.add(&piece[..read]),
        }
    }
}
