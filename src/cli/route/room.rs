//! How many streams the descriptors of this process allow.
//!
//! Rule: a client's connection is accepted only while there is a descriptor for the one to its worker too, so a router at its
//! limit lets clients wait and fails none. Deliberately not here: the limit itself (`net::descriptors`), the waiting
//! (`proxy::accept`).

use crate::cli::Failure;

/// Descriptors that are no stream's: standard streams, listeners, scrapers, the trace, the runtime.
const OTHERS: u64 = 64;
/// And those of the router's own questions to a worker: a check, and one about its load.
const AT_EACH_WORKER: u64 = 2;
/// Streams where nothing limits the descriptors, or where so many are allowed that it means nothing.
const UNLIMITED: u64 = 1 << 20;
/// Fewer than this are few: an engine runs some hundred requests at once, and a fleet has several.
const FEW: u64 = 2_000;

/// Room for streams.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Clients' connections at one time.
    pub(super) streams: usize,
    /// What is said of it at the start.
    pub(super) line: String,
    /// The line is a warning.
    pub(super) is_small: bool,
}

/// The room under a limit of open files, with so many workers.
pub(super) fn of(limit: Option<u64>, workers: usize) -> Result<Room, Failure> {
    let Some(files) = limit else {
        let line = format!("up to {UNLIMITED} streams at once: open files are not limited");
        return Ok(Room { streams: UNLIMITED as usize, line, is_small: false });
    };
    let own = OTHERS + AT_EACH_WORKER * workers as u64;
    let streams = (files.saturating_sub(own) / 2).min(UNLIMITED);
    if streams == 0 {
        return Err(Failure::Run(format!(
            "this process may have {files} open files (ulimit -n), of which the router itself needs {own} and a stream two; {MORE}"
        )));
    }
    let is_small = streams < FEW;
    let advice = if is_small { format!("; that is few: {MORE}") } else { String::new() };
    let line = format!(
        "up to {streams} streams at once: {files} open files, two a stream and {own} for the rest{advice}"
    );
    Ok(Room { streams: streams as usize, line, is_small })
}

const MORE: &str =
    "raise the hard limit (`ulimit -Hn`, LimitNOFILE= in a systemd unit, --ulimit nofile= of a container)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_a_stream_and_few_streams_are_a_warning_with_the_way_out() {
        let room = of(Some(20_000), 8).unwrap();
        assert_eq!((room.streams, room.is_small), (9_960, false));
        assert_eq!(
            room.line,
            "up to 9960 streams at once: 20000 open files, two a stream and 80 for the rest"
        );
        let small = of(Some(1_024), 2).unwrap();
        assert_eq!((small.streams, small.is_small), (478, true));
        assert!(small.line.contains("that is few") && small.line.contains("LimitNOFILE"), "{}", small.line);
        assert!(!of(None, 1).unwrap().is_small);
    }

    #[test]
    fn no_room_for_a_single_stream_is_told_before_the_start() {
        let refused = of(Some(66), 1).unwrap_err().to_string();
        assert!(refused.contains("66 open files") && refused.contains("ulimit -Hn"), "{refused}");
        assert_eq!(of(Some(68), 1).unwrap().streams, 1);
    }
}
