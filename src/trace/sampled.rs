//! What a trace tells of having been sampled, for those who take its requests for the load that there was.
//!
//! Rule: whoever was kept for what it was (`kept_for`) stands for itself alone and is no part of a workload, as slow and failed ones
//! would be more in it than they were; the share is said, and no rate is made up from it. Deliberately not here: how requests are
//! sampled (`sample`), what a report says of it.

use super::record::{RequestRecord, RunRecord};

/// See the module.
#[derive(Debug, Default)]
pub struct Sampled {
    shares: Vec<f64>,
    beyond: u64,
}

impl Sampled {
    /// Learns the share from the first line of a file.
    pub fn hear(&mut self, run: &RunRecord) {
        let share = run.capture.as_ref().and_then(|capture| capture.sample_share);
        self.shares.extend(share.filter(|share| !self.shares.contains(share)));
    }

    /// The request is in the sample; one that is not is counted.
    pub fn has(&mut self, request: &RequestRecord) -> bool {
        self.beyond += u64::from(request.kept_for.is_some());
        request.kept_for.is_none()
    }

    /// What has to be said of a workload that is made of it; `None` where all requests were recorded.
    pub fn words(&self) -> Option<String> {
        if self.shares.is_empty() && self.beyond == 0 {
            return None;
        }
        let shares: Vec<String> = self.shares.iter().map(ToString::to_string).collect();
        Some(format!(
            "the trace is a sample (--trace-sample {}): the rate is that share of the real one, and prompts share only what those in the \
             sample do; {} requests that were kept for having failed or been slow are left out",
            shares.join(", "),
            self.beyond
        ))
    }
}
