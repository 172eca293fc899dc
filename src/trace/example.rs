//! The `run` line with which tests begin a trace.
//!
//! Rule: what a field's value is concerns no test that takes it from here, so nothing optional is set. Deliberately not here: the
//! line with every field, which the schema's tests hold.

use super::record::RunRecord;
use super::schema::SCHEMA;
use crate::clock::ClockSnapshot;

/// A router of one worker, its clocks read so.
pub fn run_record(clock: ClockSnapshot) -> RunRecord {
    RunRecord {
        schema: SCHEMA,
        version: "0.1.0".to_owned(),
        pid: 7,
        boot_id: None,
        listen: "127.0.0.1:1".to_owned(),
        policy: "random".to_owned(),
        split: None,
        shadow_policies: Vec::new(),
        seed: 1,
        workers: vec!["http://w:1".to_owned()],
        capture: None,
        clock,
    }
}
