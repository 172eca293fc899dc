//! Steering a capture while it runs: start, stop, rotate, mark, status.
//!
//! Rule: one thread writes, so what is asked of it is an order with an answer, at most `MAX_ORDERS` at a time; no request waits
//! for one. Who asks from outside names no path: a file is a plain name in the folder that was configured (`--trace-dir`).
//! Deliberately not here: doing it (`scribe`), the endpoints (`admin`).

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use serde::Serialize;

use super::header::LostRecord;
use super::unpacking::Unpacking;

/// Orders that may wait for the writer.
const MAX_ORDERS: usize = 16;
/// How long one waits for its answer: a disk that takes longer has stalled.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest label of a mark.
pub const MAX_LABEL_BYTES: usize = 200;
/// Longest name of a capture.
const MAX_NAME_BYTES: usize = 64;
/// What the name of a capture ends in.
const NAME_END: &str = ".jsonl";

/// What may be asked of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Go on where it was stopped, or in a new file of this name in the configured folder.
    Start(Option<String>),
    /// Write what there is and let go of the file.
    Stop,
    /// End this file and begin the next.
    Rotate,
    /// Put a label into the stream.
    Mark(String),
    /// Say how it stands.
    Status,
}

/// How a capture stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `capturing`, `failing` (what is written is lost and counted, and tried again), `stopped`.
    pub state: &'static str,
    /// `file`, `stdout`, or `pipe`: a pipe or a device, which cannot be read again. Absent while stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<&'static str>,
    /// The file that is written, or that was last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<u64>,
    /// Bytes in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part_bytes: Option<u64>,
    /// Since when it has captured without a stop, Unix nanoseconds; absent while stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_unix_ns: Option<u64>,
    /// Request records written since the router began.
    pub requests: u64,
    /// Bytes written since the router began.
    pub bytes: u64,
    /// Records that are missing since the router began.
    pub lost: LostRecord,
    /// Why the last write failed; absent unless it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureError {
    /// It runs already, into this file.
    Running(String),
    /// There is none that runs.
    Stopped,
    /// What is written is not a file that could be rotated.
    NoFile,
    /// A name was given, and there is no folder to put it into.
    NoFolder,
    /// Started without a name, and nothing was written before.
    NoName,
    /// A name that is none.
    Name,
    /// There is such a file.
    Exists(String),
    /// A label that is none.
    Label,
    /// The system refused.
    Failed(String),
    /// Too many orders wait, or the writer is stuck.
    Stuck,
    /// The router is about to end.
    Ended,
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(file) => write!(f, "it captures to {file} already; stop it first"),
            Self::Stopped => f.write_str("the capture is stopped; start it first"),
            Self::NoFile => f.write_str("the trace goes to no plain file, so there is nothing to rotate"),
            Self::NoFolder => f.write_str("the router has no --trace-dir, so no file can be named"),
            Self::NoName => f.write_str("there is no --trace-log to go on with; name a file"),
            Self::Name => write!(
                f,
                "a capture's name is 1 to {MAX_NAME_BYTES} letters, digits, - and _, with or without {NAME_END}"
            ),
            Self::Exists(file) => write!(
                f,
                "{file} exists, and a capture never goes on in a file that it is told by name; take another name"
            ),
            Self::Label => {
                write!(f, "a label is 1 to {MAX_LABEL_BYTES} bytes of text on one line")
            }
            Self::Failed(why) => f.write_str(why),
            Self::Stuck => write!(
                f,
                "the trace's writer does not answer in {} s; is the disk stuck? Requests go on, records are lost and counted",
                PATIENCE.as_secs()
            ),
            Self::Ended => f.write_str("the router is about to end"),
        }
    }
}

impl std::error::Error for CaptureError {}

/// The file name of a capture of this name.
pub fn file_name(name: &str) -> Result<String, CaptureError> {
    let stem = name.strip_suffix(NAME_END).unwrap_or(name);
    let plain = stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if (1..=MAX_NAME_BYTES).contains(&stem.len()) && plain {
        Ok(format!("{stem}{NAME_END}"))
    } else {
        Err(CaptureError::Name)
    }
}

/// The label as it is written.
pub fn label(text: &str) -> Result<String, CaptureError> {
    let text = text.trim();
    let fits = (1..=MAX_LABEL_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(CaptureError::Label) }
}

type Answer = Result<Status, CaptureError>;

/// One order and where its answer goes.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) command: Command,
    pub(super) answer: SyncSender<Answer>,
    taken: Arc<AtomicBool>,
}

impl Order {
    /// Takes it to be carried out; false if whoever gave it has been told that the writer is stuck.
    pub(super) fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }
}

/// What the writer and those who steer it share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) orders: Receiver<Order>,
    pub(super) place: Arc<Mutex<Option<Place>>>,
}

/// The file that is written, or that was last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it is.
    pub path: PathBuf,
    /// Its number.
    pub part: u64,
}

/// Steers the capture of this router.
#[derive(Debug)]
pub struct Capture {
    orders: SyncSender<Order>,
    place: Arc<Mutex<Option<Place>>>,
    writer: Mutex<Option<Thread>>,
    unpacking: Arc<Unpacking>,
}

impl Capture {
    /// One that steers whoever reads the desk.
    pub(super) fn new() -> (Self, Desk) {
        let (orders, incoming) = sync_channel(MAX_ORDERS);
        let place = Arc::default();
        let desk = Desk { orders: incoming, place: Arc::clone(&place) };
        (Self { orders, place, writer: Mutex::default(), unpacking: Arc::default() }, desk)
    }

    /// The thread to wake.
    pub(super) fn set_writer(&self, writer: Thread) {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
    }

    /// The plain file that is written, or that was last.
    pub fn place(&self) -> Option<Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is read of its packed files.
    pub fn unpacking(&self) -> Arc<Unpacking> {
        Arc::clone(&self.unpacking)
    }

    /// Has it done; waits for the writer's answer, so it must not be called on a thread that serves requests. What the writer had
    /// not begun by the time of [`CaptureError::Stuck`] it never does; what it had begun, it may finish.
    pub fn ask(&self, command: Command) -> Answer {
        self.ask_for(command, PATIENCE)
    }

    fn ask_for(&self, command: Command, patience: Duration) -> Answer {
        let (answer, answered) = sync_channel(1);
        let taken = Arc::<AtomicBool>::default();
        self.orders.try_send(Order { command, answer, taken: Arc::clone(&taken) }).map_err(|error| {
            match error {
                TrySendError::Full(_) => CaptureError::Stuck,
                TrySendError::Disconnected(_) => CaptureError::Ended,
            }
        })?;
        if let Some(writer) = &*self.writer.lock().unwrap_or_else(PoisonError::into_inner) {
            writer.unpark();
        }
        match answered.recv_timeout(patience) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                taken.store(true, Ordering::Release);
                Err(CaptureError::Stuck)
            }
            Err(RecvTimeoutError::Disconnected) => Err(CaptureError::Ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_outside_stays_in_its_folder() {
        assert_eq!(file_name("friday_2").as_deref(), Ok("friday_2.jsonl"));
        assert_eq!(file_name("friday.jsonl").as_deref(), Ok("friday.jsonl"));
        let long = "x".repeat(65);
        for name in ["", ".jsonl", "../x", "a/b", "/etc/x", "a.000001", "a\0", ".hidden", "ä", "a b", &long]
        {
            assert_eq!(file_name(name), Err(CaptureError::Name), "{name:?}");
        }
    }

    #[test]
    fn a_label_is_a_short_line() {
        assert_eq!(label(" rollout of 0.5.23 begins ").as_deref(), Ok("rollout of 0.5.23 begins"));
        for text in ["", "  ", "a\nb", "\u{7}", &"x".repeat(201)] {
            assert_eq!(label(text), Err(CaptureError::Label), "{text:?}");
        }
    }

    #[test]
    fn an_order_that_was_given_up_is_not_carried_out_later() {
        let (capture, desk) = Capture::new();
        assert_eq!(capture.ask_for(Command::Rotate, Duration::ZERO), Err(CaptureError::Stuck));
        assert!(!desk.orders.try_recv().unwrap().take());
    }

    #[test]
    fn whoever_asks_a_writer_that_is_gone_is_told() {
        let (capture, desk) = Capture::new();
        drop(desk);
        assert_eq!(capture.ask(Command::Status), Err(CaptureError::Ended));
    }
}
