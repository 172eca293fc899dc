//! `--fault-hook COMMAND`: somebody else's command makes the fault.
//!
//! It gets the action, the worker's name and, where there is one, the detail behind its own arguments: `stop gpu3 KILL`,
//! `start gpu3`, `slow gpu3 3`, `hang gpu3`, `reset gpu3`, `empty gpu3`, `heal gpu3`.
//!
//! Rule: it has done it when it ends with 0 within its time; else what it said is the reason why the fault was not made. It is
//! in a process group of its own, all of which is ended when its time is over; what it leaves running when it ends by itself (a
//! server that it started) goes on. Deliberately not here: a shell.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::Action;

/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes of its output that are kept.
const TOLD_BYTES: usize = 2048;
/// Longest wait for the last of its output.
const CATCH_UP: Duration = Duration::from_millis(200);

/// A command and how long it may take.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Program and arguments; not empty.
    pub command: Vec<String>,
    /// Longest time.
    pub limit: Duration,
}

impl Hook {
    /// Reads program and arguments, separated by white space.
    pub fn parse(text: &str, limit: Duration) -> Result<Self, String> {
        let command: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if command.is_empty() { Err("expected a command".to_owned()) } else { Ok(Self { command, limit }) }
    }

    /// Runs it to its end.
    pub(super) async fn run(&self, action: &Action, worker: &str) -> Result<(), String> {
        let program = &self.command[0];
        let mut command = Command::new(program);
        command.args(&self.command[1..]).arg(action.word()).arg(worker).args(action.detail());
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("--fault-hook {program}: {e}"))?;
        let said = [keep(child.stdout.take()), keep(child.stderr.take())];
        let mut running = Running { child, ended: false };
        let status = tokio::time::timeout(self.limit, running.wait()).await;
        if status.is_err() {
            running.end();
        }
        let said = Said::collect(said).await;
        match status {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("--fault-hook {program}: {status}: {said}")),
            Ok(Err(e)) => Err(format!("--fault-hook {program}: {e}")),
            Err(_) => Err(format!(
                "--fault-hook {program}: had not ended after {} s: {said}",
                self.limit.as_secs_f64()
            )),
        }
    }
}

/// Ends its whole group when it is dropped before its end. What one that has ended left running is a server, it may be.
struct Running {
    child: Child,
    ended: bool,
}

impl Running {
    async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.ended = true;
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            // One that has just ended is none that can be killed.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The beginning of what one pipe said, and who reads it.
struct Said {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Said {
    /// What was left running may hold the pipes for ever, so that their end is waited for a moment only.
    async fn collect(pipes: [Self; 2]) -> String {
        let ended = async {
            while !pipes.iter().all(|said| said.reader.is_finished()) {
                tokio::time::sleep(LOOK).await;
            }
        };
        // Late or not, what has come is told.
        let _ = tokio::time::timeout(CATCH_UP, ended).await;
        let texts = pipes.map(|said| {
            let bytes = said.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        texts.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// All is read, as a full pipe would hold it up.
fn keep(mut pipe: Option<impl Read + Send + 'static>) -> Said {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&bytes);
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        // What cannot be read was not said.
        while let Some(read) = pipe.as_mut().and_then(|pipe| pipe.read(&mut buffer).ok()).filter(|n| *n > 0) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let room = TOLD_BYTES.saturating_sub(kept.len()).min(read);
            kept.extend_from_slice(&buffer[..room]);
        }
    });
    Said { bytes, reader }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, StopBy};
    use super::*;

    fn hook(script: &str, limit: Duration) -> Hook {
        Hook { command: ["sh", "-c", script, "hook"].map(str::to_owned).to_vec(), limit }
    }

    #[tokio::test]
    async fn its_exit_code_says_whether_it_did_it_and_its_output_why_not() {
        let stop = Action::Begin(Kind::Stop(StopBy::Term));
        let patience = Duration::from_secs(30);
        let exact = hook("test \"$*\" = 'stop gpu3 TERM'", patience);
        assert_eq!(exact.run(&stop, "gpu3").await, Ok(()));
        let told = exact.run(&Action::Heal, "gpu3").await.unwrap_err();
        assert!(told.contains("--fault-hook sh") && told.contains("exit status: 1"), "{told}");
        let told =
            hook("echo no such node; echo: $2 >&2; exit 3", patience).run(&stop, "gpu3").await.unwrap_err();
        assert!(told.contains("exit status: 3: no such node"), "{told}");
        let absent = Hook::parse("/nonexistent/hook", patience).unwrap();
        assert!(absent.run(&stop, "gpu3").await.unwrap_err().contains("/nonexistent/hook"));
        assert!(Hook::parse("  ", patience).is_err());
    }

    /// The whole group, or the test would wait for the pipe that the child of the shell holds.
    #[tokio::test]
    async fn one_that_does_not_end_is_ended_with_all_that_it_started() {
        let told =
            hook("echo begun; sleep 3600 & wait", Duration::from_millis(300)).run(&Action::Start, "1").await;
        assert!(told.unwrap_err().contains("had not ended after 0.3 s"));
    }
}
