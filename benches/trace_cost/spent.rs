//! What a command took that was run to its end: time, CPU, memory, and what it wrote.
//!
//! Rule: the kernel's figures of that process alone; its peak of memory is looked at until it ends, and what it writes is read as
//! fast as it comes and only counted, so that no disk is measured. Deliberately not here: what the commands mean.

use std::io::{Read, Seek, SeekFrom};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use milepost::clock::Clock;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::broken::Broken;
use crate::process;
use crate::ticks::cpu_s;

/// Between two looks at its memory.
const LOOK: Duration = Duration::from_millis(4);
/// Of what it writes so much is kept.
const KEPT_BYTES: usize = 64 * 1024;

/// What it took.
#[derive(Clone, Debug, Default)]
pub struct Spent {
    /// From its start to its end, seconds.
    pub wall_s: f64,
    /// User and system time, seconds.
    pub cpu_s: f64,
    /// Most memory that was resident, MiB.
    pub peak_mib: f64,
    /// Bytes that it wrote to standard output.
    pub out_bytes: u64,
    /// The beginning of these.
    pub said: String,
}

/// Runs a command to its end; one that fails is no measurement.
pub fn run(mut command: Command) -> Result<Spent, Broken> {
    let broken = |e: std::io::Error| Broken::invalid(e.to_string());
    let mut errors = tempfile().map_err(broken)?;
    let clock = Clock::system();
    let begun_ns = clock.mono_ns();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors.try_clone().map_err(broken)?);
    let mut running = Running(command.spawn().map_err(broken)?);
    let out = running.0.stdout.take();
    let reader = std::thread::spawn(move || out.map(read).unwrap_or_default());
    let proc = format!("/proc/{}", running.0.id());
    let mut spent = Spent::default();
    let pid = Pid::from_child(&running.0);
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    // Not taken note of yet, so that its figures are still there.
    while waitid(WaitId::Pid(pid), ended).is_ok_and(|status| status.is_none()) {
        process::check()?;
        spent.peak_mib = spent.peak_mib.max(peak_mib(&proc));
        std::thread::sleep(LOOK);
    }
    spent.wall_s = (clock.mono_ns() - begun_ns) as f64 / 1e9;
    spent.cpu_s = cpu_s(&std::fs::read_to_string(format!("{proc}/stat")).unwrap_or_default());
    let status = running.0.wait().map_err(broken)?;
    (spent.out_bytes, spent.said) = reader.join().unwrap_or_default();
    if status.success() {
        return Ok(spent);
    }
    let mut said = String::new();
    // What cannot be read is not told.
    let _ = errors.seek(SeekFrom::Start(0)).and_then(|_| errors.read_to_string(&mut said));
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(Broken::invalid(format!("{command:?}: {status}: {last}")))
}

/// Ends with the bench, whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file without a name.
fn tempfile() -> std::io::Result<std::fs::File> {
    let path = std::env::temp_dir().join(format!("milepost-bench-{}-errors", std::process::id()));
    let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn peak_mib(proc: &str) -> f64 {
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
    kib.and_then(|kib| kib.parse().ok()).unwrap_or(0.0) / 1024.0
}

/// How much came, and its beginning.
fn read(mut out: impl Read) -> (u64, String) {
    let (mut bytes, mut kept, mut room) = (0, Vec::new(), vec![0; 1 << 18]);
    while let Ok(got) = out.read(&mut room) {
        if got == 0 {
            break;
        }
        bytes += got as u64;
        let more = got.min(KEPT_BYTES - kept.len());
        kept.extend_from_slice(&room[..more]);
    }
    (bytes, String::from_utf8_lossy(&kept).into_owned())
}
