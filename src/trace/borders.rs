//! Where one run of the router ends and another begins in a trace.
//!
//! Rule: a `run` record that tells of the same run, as after a rotation or a capture that was stopped and started, is no border.
//! Deliberately not here: what is known of a run.

use super::record::{Record, RunRecord};

/// The run that is being read.
#[derive(Debug, Default)]
pub struct Borders(Option<RunRecord>);

impl Borders {
    /// The record is the first of a run. A file that begins in the middle of one is taken for a run of its own.
    pub fn is_new_run(&mut self, record: &Record, is_first_of_file: bool) -> bool {
        match record {
            Record::Run(run) => {
                let goes_on = self.0.as_ref().is_some_and(|earlier| run.continues(earlier));
                self.0 = Some(run.clone());
                !goes_on
            }
            _ if is_first_of_file => {
                self.0 = None;
                true
            }
            _ => false,
        }
    }
}
