//! A schedule as a file: one due time a line, and a first line that says how many and their hash.
//!
//! Rule: what is read is what was written, bit for bit, or an error that names the line. A file without the first line is
//! taken too, for schedules made elsewhere. Deliberately not here: where the file lies.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Schedule;

/// Requests in a file at most.
const MAX_REQUESTS: usize = 100_000_000;
/// Version of the format.
const VERSION: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    milepost_schedule: u32,
    requests: usize,
    xxh3: String,
}

impl Schedule {
    /// XXH3 of the due times as little-endian numbers of 64 bits, in hexadecimal: two schedules with one hash are the same.
    pub fn hash(&self) -> String {
        let bytes: Vec<u8> = self.at_ns.iter().flat_map(|at_ns| at_ns.to_le_bytes()).collect();
        format!("{:016x}", milepost_policies::name_hash(&bytes))
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{{\"milepost_schedule\":{VERSION},\"requests\":{},\"xxh3\":\"{}\"}}\n",
            self.at_ns.len(),
            self.hash()
        );
        for at_ns in &self.at_ns {
            // A string takes everything.
            let _ = writeln!(text, "{at_ns}");
        }
        text
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// It cannot be opened, a line is no time or earlier than the one before, or it was changed since it was saved.
    pub fn read(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Self::from_lines(BufReader::new(file)).map_err(|e| format!("{}{e}", path.display()))
    }

    /// The error begins with the line's number.
    fn from_lines(lines: impl BufRead) -> Result<Self, String> {
        let mut head: Option<Head> = None;
        let mut at_ns: Vec<u64> = Vec::new();
        for (number, line) in (1..).zip(lines.lines()) {
            let line = line.map_err(|e| format!(":{number}: {e}"))?;
            let line = line.trim();
            if number == 1 && line.starts_with('{') {
                let read: Head = serde_json::from_str(line).map_err(|e| format!(":1: {e}"))?;
                if read.milepost_schedule != VERSION {
                    return Err(format!(":1: version {} of the format is not known", read.milepost_schedule));
                }
                head = Some(read);
                continue;
            }
            if line.is_empty() {
                continue;
            }
            let due_ns: u64 = line.parse().map_err(|_| {
                format!(":{number}: expected nanoseconds after the start as a whole number, got {line:.40}")
            })?;
            if at_ns.last().is_some_and(|last| *last > due_ns) {
                return Err(format!(":{number}: {due_ns} is earlier than the line before"));
            }
            if at_ns.len() == MAX_REQUESTS {
                return Err(format!(":{number}: more than {MAX_REQUESTS} requests"));
            }
            at_ns.push(due_ns);
        }
        let schedule = Self { at_ns };
        match head {
            _ if schedule.at_ns.is_empty() => Err(": there is no request in it".to_owned()),
            Some(head) if head.requests != schedule.at_ns.len() => Err(format!(
                ": its first line says {} requests, it has {}; it was cut or changed",
                head.requests,
                schedule.at_ns.len()
            )),
            Some(head) if head.xxh3 != schedule.hash() => Err(format!(
                ": its hash is {}, its first line says {}; it was changed (without that line it is taken as it is)",
                schedule.hash(),
                head.xxh3
            )),
            _ => Ok(schedule),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Schedule, String> {
        Schedule::from_lines(text.as_bytes())
    }

    #[test]
    fn what_was_changed_is_told_with_its_line() {
        let text = Schedule { at_ns: vec![0, 5, 9] }.to_text();
        assert_eq!(text.lines().count(), 4);
        assert!(read(&text.replace("\n5\n", "\n6\n")).unwrap_err().contains("its hash is"));
        assert!(read(&text.replace("\n9\n", "\n")).unwrap_err().contains("3 requests, it has 2"));
        assert_eq!(read("7\n3\n").unwrap_err(), ":2: 3 is earlier than the line before");
        assert!(read("0\n1.5\n").unwrap_err().starts_with(":2: expected nanoseconds"));
        assert!(read("").unwrap_err().contains("no request"));
        assert!(
            read("{\"milepost_schedule\":2,\"requests\":1,\"xxh3\":\"\"}\n0\n")
                .unwrap_err()
                .contains("version 2")
        );
        assert_eq!(read("0\n0\n12\n").unwrap().at_ns, [0, 0, 12]);
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(gaps in proptest::collection::vec(0_u64..1 << 40, 1..200)) {
            let at_ns = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let schedule = Schedule { at_ns };
            prop_assert_eq!(read(&schedule.to_text()), Ok(schedule));
        }
    }
}
