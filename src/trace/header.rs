//! The records that tell of the capture itself: how it was made, its marks, what is missing in it.
//!
//! Rule: whoever reads a trace can tell from these alone what part of the traffic it holds and how to weigh it. Deliberately
//! not here: the records of requests ([`super::record`]), who writes these (`scribe`).

use serde::{Deserialize, Serialize};

use crate::clock::ClockSnapshot;

/// How a capture is made, in the `run` record that each of its files begins with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CaptureRecord {
    /// The router's own name for this run: files that have the same one tell of one run.
    pub instance: String,
    /// Number of this file: 1, and one more after each rotation.
    pub part: u64,
    /// Requests of this run that were accounted for before this record: written, lost, left out or not captured.
    pub requests_before: u64,
    /// Share of the requests that is kept; absent where all are. Each without `kept_for` stands for 1/share requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_share: Option<f64>,
    /// The slowest of each minute that are kept besides, by whole time and by first token; absent where all are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowest_per_minute: Option<u64>,
    /// What is told of prompts (`--trace-prompt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Bytes of routing text of a block in `prompt_hashes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_block_bytes: Option<u64>,
    /// Tells the key of `prompt_hashes`, not what it is: only hashes of captures that have the same one can be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_key_id: Option<String>,
}

/// The router's two clocks, read together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRecord {
    /// `CLOCK_MONOTONIC` in nanoseconds, middle of the window.
    pub mono_ns: u64,
    /// `CLOCK_REALTIME` in nanoseconds since the Unix epoch.
    pub unix_ns: u64,
    /// Width of the window of two monotonic reads round the wall read, in nanoseconds: the error of the pair is at most half.
    pub bracket_ns: u64,
    /// `boot_id` of the router's host when this was read: of two that differ the monotonic clocks are not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The wall clock was set by this much since the reading before, microseconds, less than 0 backwards: more than brackets and
    /// slewing (500 ppm) explain. Absent where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_step_us: Option<i64>,
    /// That lies between this moment and `mono_ns`, on the same clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_step_after_ns: Option<u64>,
}

impl ClockRecord {
    /// The reading alone.
    pub fn snapshot(&self) -> ClockSnapshot {
        ClockSnapshot { mono_ns: self.mono_ns, unix_ns: self.unix_ns, bracket_ns: self.bracket_ns }
    }
}

impl From<ClockSnapshot> for ClockRecord {
    fn from(read: ClockSnapshot) -> Self {
        let ClockSnapshot { mono_ns, unix_ns, bracket_ns } = read;
        Self { mono_ns, unix_ns, bracket_ns, ..Self::default() }
    }
}

/// Something that a person wanted to find again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkRecord {
    /// When, `CLOCK_MONOTONIC` of the router's host, nanoseconds.
    pub mono_ns: u64,
    /// When, Unix nanoseconds.
    pub unix_ns: u64,
    /// What was said, at most 200 bytes.
    pub label: String,
}

/// Records that are missing before this line, since the last such line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRecord {
    /// Request records that there was no room for, or that could not be written.
    pub requests: u64,
    /// Calls of the journal: what follows can be replayed approximately at best.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub journal: u64,
    /// Records of other kinds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub others: u64,
    /// Requests that ended while the capture was stopped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stopped: u64,
    /// Requests that were left out of the sample.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sampled: u64,
    /// Prompts that are missing in records, for want of memory while the writer was behind.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prompts: u64,
}

impl LostRecord {
    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.journal += other.journal;
        self.others += other.others;
        self.stopped += other.stopped;
        self.sampled += other.sampled;
        self.prompts += other.prompts;
    }

    /// Requests without a record, whatever the reason.
    pub fn all_requests(&self) -> u64 {
        self.requests + self.stopped + self.sampled
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}
