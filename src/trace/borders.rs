//! Where one run of the router ends and another begins in a trace.
//!
//! Rule: a `run` record that tells of the same run, as after a rotation or a capture that was stopped and started, is no border; a
//! `clock` record of another boot than that before it is one, as in pieces of files that were put together without their first
//! lines: monotonic clocks of two boots are never compared. Deliberately not here: what is known of a run.

use super::record::{ClockRecord, Record, RunRecord};

/// The run that is being read.
#[derive(Debug, Default)]
pub struct Borders {
    run: Option<RunRecord>,
    boot_id: Option<String>,
}

impl Borders {
    /// The record is the first of a run. A file that begins in the middle of one is taken for a run of its own.
    pub fn is_new_run(&mut self, record: &Record, is_first_of_file: bool) -> bool {
        match record {
            Record::Run(run) => {
                let goes_on = self.run.as_ref().is_some_and(|earlier| run.continues(earlier));
                self.boot_id.clone_from(&run.boot_id);
                self.run = Some(run.clone());
                !goes_on
            }
            Record::Clock(clock) => self.is_headless(is_first_of_file) | self.is_other_boot(clock),
            _ => self.is_headless(is_first_of_file),
        }
    }

    fn is_headless(&mut self, is_first_of_file: bool) -> bool {
        if is_first_of_file {
            *self = Self::default();
        }
        is_first_of_file
    }

    fn is_other_boot(&mut self, clock: &ClockRecord) -> bool {
        let Some(told) = &clock.boot_id else { return false };
        let known = self.boot_id.replace(told.clone());
        let is_other = known.is_some_and(|known| known != *told);
        if is_other {
            self.run = None;
        }
        is_other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_another_boot_begins_another_run() {
        let clock = |boot_id: Option<&str>| {
            Record::Clock(ClockRecord { boot_id: boot_id.map(str::to_owned), ..ClockRecord::default() })
        };
        let request = Record::Request(Box::default());
        let mut borders = Borders::default();
        let told: Vec<bool> = [
            request.clone(),
            clock(Some("a")),
            request.clone(),
            clock(None),
            clock(Some("a")),
            clock(Some("b")),
            request,
        ]
        .iter()
        .enumerate()
        .map(|(place, record)| borders.is_new_run(record, place == 0))
        .collect();
        assert_eq!(told, [true, false, false, false, false, true, false]);
    }
}
