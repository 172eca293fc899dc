//! A schedule as a file: one due time a line, then one object for each turn that waits for an answer, and a first line that says how
//! many and their hash.
//!
//! Rule: what is read is what was written, bit for bit, or an error that names the line. A file without the first line is
//! taken too, for schedules made elsewhere. Deliberately not here: where the file lies.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use milepost_policies::PieceHash;
use serde::{Deserialize, Serialize};

use super::{Schedule, Wait};

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
    #[serde(default)]
    turns: usize,
    xxh3: String,
}

impl Schedule {
    /// XXH3 of the due times and the three numbers of each turn as little-endian numbers of 64 bits, in hexadecimal: two schedules
    /// with one hash are the same.
    pub fn hash(&self) -> String {
        let turns = self.waits.iter().flat_map(|w| [w.after as u64, w.think_ns, w.not_before_ns]);
        let mut hash = PieceHash::default();
        for number in self.at_ns.iter().copied().chain(turns) {
            hash.add(&number.to_le_bytes());
        }
        format!("{:016x}", hash.hash())
    }

    /// Writes the file.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (requests, turns) = (self.at_ns.len(), self.waits.len());
        let turns = if turns > 0 { format!("\"turns\":{turns},") } else { String::new() };
        writeln!(
            to,
            "{{\"milepost_schedule\":{VERSION},\"requests\":{requests},{turns}\"xxh3\":\"{}\"}}",
            self.hash()
        )?;
        for at_ns in &self.at_ns {
            writeln!(to, "{at_ns}")?;
        }
        for Wait { after, think_ns, not_before_ns } in &self.waits {
            writeln!(to, "{{\"after\":{after},\"think_ns\":{think_ns},\"not_before_ns\":{not_before_ns}}}")?;
        }
        Ok(())
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
        let mut schedule = Self::default();
        for (number, line) in (1..).zip(lines.lines()) {
            let line = line.map_err(|e| format!(":{number}: {e}"))?;
            let line = line.trim();
            if number == 1 && line.starts_with("{\"milepost_schedule\"") {
                let read: Head = serde_json::from_str(line).map_err(|e| format!(":1: {e}"))?;
                if read.milepost_schedule != VERSION {
                    return Err(format!(":1: version {} of the format is not known", read.milepost_schedule));
                }
                head = Some(read);
            } else if !line.is_empty() {
                schedule.take(line).map_err(|what| format!(":{number}: {what}"))?;
            }
        }
        schedule.checked(head)
    }

    /// Takes a line after the first.
    fn take(&mut self, line: &str) -> Result<(), String> {
        let requests = self.at_ns.len() + self.waits.len();
        if requests == MAX_REQUESTS {
            return Err(format!("more than {MAX_REQUESTS} requests"));
        }
        if line.starts_with('{') {
            let wait: Wait = serde_json::from_str(line).map_err(|e| e.to_string())?;
            if wait.after >= requests {
                return Err(format!("it waits for request {}, which is not before it", wait.after));
            }
            self.waits.push(wait);
            return Ok(());
        }
        let due_ns: u64 = line
            .parse()
            .map_err(|_| format!("expected nanoseconds after the start as a whole number, got {line:.40}"))?;
        if !self.waits.is_empty() {
            return Err("a due time after a turn that waits".to_owned());
        }
        if self.at_ns.last().is_some_and(|last| *last > due_ns) {
            return Err(format!("{due_ns} is earlier than the line before"));
        }
        self.at_ns.push(due_ns);
        Ok(())
    }

    fn checked(self, head: Option<Head>) -> Result<Self, String> {
        let (requests, turns) = (self.at_ns.len(), self.waits.len());
        match head {
            _ if requests == 0 => Err(": there is no request in it".to_owned()),
            Some(head) if (head.requests, head.turns) != (requests, turns) => Err(format!(
                ": its first line says {} requests, it has {}; it was cut or changed",
                head.requests + head.turns,
                requests + turns
            )),
            Some(head) if head.xxh3 != self.hash() => Err(format!(
                ": its hash is {}, its first line says {}; it was changed (without that line it is taken as it is)",
                self.hash(),
                head.xxh3
            )),
            _ => Ok(self),
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

    fn text_of(schedule: &Schedule) -> String {
        let mut text = Vec::new();
        schedule.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_was_changed_is_told_with_its_line() {
        let text = text_of(&Schedule { at_ns: vec![0, 5, 9], ..Schedule::default() });
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

    #[test]
    fn a_turn_waits_for_what_is_before_it() {
        let wait = |after: usize| format!("{{\"after\":{after},\"think_ns\":5,\"not_before_ns\":0}}\n");
        let read_back = read(&format!("0\n9\n{}{}", wait(1), wait(2))).unwrap();
        assert_eq!(read_back.waits.iter().map(|w| w.after).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(
            read(&format!("0\n{}", wait(1))).unwrap_err(),
            ":2: it waits for request 1, which is not before it"
        );
        assert_eq!(
            read(&format!("0\n{}7\n", wait(0))).unwrap_err(),
            ":3: a due time after a turn that waits"
        );
        let text = text_of(&read_back);
        assert!(text.starts_with("{\"milepost_schedule\":1,\"requests\":2,\"turns\":2,"), "{text}");
        assert!(read(&text.replace(":5,", ":6,")).unwrap_err().contains("its hash is"));
        assert!(
            read(text.trim_end().rsplit_once('\n').unwrap().0).unwrap_err().contains("4 requests, it has 3")
        );
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(
            gaps in proptest::collection::vec(0_u64..1 << 40, 1..200), thinks in proptest::collection::vec(any::<u64>(), 0..20),
        ) {
            let at_ns = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let wait = |(i, think_ns): (usize, &u64)| Wait { after: i, think_ns: *think_ns, not_before_ns: 1 };
            let schedule = Schedule { at_ns, waits: thinks.iter().enumerate().map(wait).collect() };
            prop_assert_eq!(read(&text_of(&schedule)), Ok(schedule));
        }
    }
}
