//! Simulated workers, each a process of its own.

use std::process::Command;

use crate::load::{Broken, Case, Load, Pace};
use crate::peers::{Stage, free_port};
use crate::process::Process;

/// Two thousand prompts of 1 KB a second are twice what eight of them prefill at the speed that they have by themselves.
const SPEEDUP: &str = "4";
/// Looks whether a worker answers.
const LOOKS: u32 = 100;
/// Between two of them.
const LOOK: std::time::Duration = std::time::Duration::from_millis(50);

/// Workers that answer.
pub struct Fleet {
    /// Their ports on 127.0.0.1.
    pub ports: Vec<u16>,
    // They end with it.
    _processes: Vec<Process>,
}

impl Fleet {
    /// Starts so many and waits for each to answer a request.
    pub fn start(stage: &Stage, load: &mut Load, workers: u64) -> Result<Self, Broken> {
        let (mut ports, mut processes) = (Vec::new(), Vec::new());
        for seed in 1..=workers {
            let port = free_port().map_err(|e| Broken::invalid(e.to_string()))?;
            let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
            command.args(["worker", "--port", &port.to_string(), "--seed", &seed.to_string()]);
            command.args(["--speedup", SPEEDUP]);
            let errors = stage.folder().join(format!("worker-{seed}"));
            let process = Process::start(command, &stage.load_cores, &stage.load_cores, errors);
            processes.push(process.map_err(|e| Broken::invalid(e.to_string()))?);
            ports.push(port);
        }
        for (port, process) in ports.iter().zip(&mut processes) {
            wait(load, *port, process)?;
        }
        Ok(Self { ports, _processes: processes })
    }
}

fn wait(load: &mut Load, port: u16, process: &mut Process) -> Result<(), Broken> {
    let probe = Case { is_scripted: false, ..Case::plain("probe", "", 120, Pace::Closed(1), 1) };
    let mut why = Broken::invalid("no answer");
    for _ in 0..LOOKS {
        match load.run(&probe, port) {
            Ok(_) => return Ok(()),
            Err(Broken::Interrupted) => return Err(Broken::Interrupted),
            Err(invalid) => why = invalid,
        }
        if let Some(said) = process.ended() {
            return Err(Broken::Invalid(format!("a simulated worker: {said}")));
        }
        load.serve(LOOK)?;
    }
    Err(Broken::Invalid(format!("a simulated worker does not answer: {why}")))
}
