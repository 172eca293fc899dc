//! What one run saw.

/// What one run saw.
#[expect(clippy::struct_field_names, reason = "each is a time, and says its unit")]
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// From the first request to the last answer.
    pub wall_ns: u64,
    /// CPU of the load generator and the worker, which are one thread, meanwhile.
    pub own_cpu_ns: u64,
    /// From just before the request was written to the end of its answer, sorted.
    pub whole_ns: Vec<u64>,
    /// To the first byte of the answer's body, sorted.
    pub first_ns: Vec<u64>,
    /// Sent so long after the due time, sorted.
    pub late_ns: Vec<u64>,
}

impl Tally {
    /// Whole answers.
    pub fn answers(&self) -> usize {
        self.whole_ns.len()
    }

    /// Share of its core that the load generator used.
    pub fn own_share(&self) -> f64 {
        self.own_cpu_ns as f64 / self.wall_ns.max(1) as f64
    }

    pub(super) fn sort(&mut self) {
        for values in [&mut self.whole_ns, &mut self.first_ns, &mut self.late_ns] {
            values.sort_unstable();
        }
    }
}

/// The value below which a part of sorted values lies; 0 of none.
pub fn quantile(sorted: &[u64], part: f64) -> u64 {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}
