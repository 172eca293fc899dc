//! Lines with which tests begin a trace: the `run`, and a worker of it.
//!
//! Rule: what a field's value is concerns no test that takes it from here, so nothing optional is set but what the name of an
//! example says. Deliberately not here: lines with every field, which the schema's tests hold.

use super::record::{RunRecord, WorkerRecord};
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

/// A worker that says of itself that it is simulated, as it joins.
pub fn simulated_worker(url: &str) -> WorkerRecord {
    WorkerRecord {
        mono_ns: 1,
        worker: url.into(),
        event: "added".to_owned(),
        simulated: Some(true),
        ..WorkerRecord::default()
    }
}
