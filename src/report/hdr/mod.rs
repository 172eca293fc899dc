//! Latencies as HDR histograms: what a run writes as `latency.hdr`, and such logs of several runs made one.
//!
//! Rule: the format is that of `HdrHistogram`'s log, so that its tools read it; whole numbers of nanoseconds with three significant
//! digits. A tag is the name of a quantity. Adding logs adds counts of buckets, so that what comes of several clients is what one
//! client of them all had recorded. Deliberately not here: reading a log back ([`super::read`]).

mod encoded;
mod record;
mod table;

pub use encoded::{decoded, encoded};
pub use record::{Recording, TAGS};
pub(in crate::report) use table::{MERGED, figures, notes, shown, tags, unit};
pub use table::{json, text};

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Counts by value.
pub type Counts = Histogram<u64>;

/// Significant digits of what is written: a value comes back within 0.1 %.
pub const DIGITS: u8 = 3;
/// Values above are counted as this one: a day.
pub const HIGHEST_NS: u64 = 86_400_000_000_000;
/// How a log of ours begins: by this its values are known to be nanoseconds.
pub const OURS: &str = "#[milepost ";
/// What begins a line of ours about what a reader of the log has to know; a bracket ends it.
pub const NOTE: &str = "#[milepost note: ";
/// The names of the columns, as every log has them.
pub const LEGEND: &str =
    "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"";

/// Counts that were read, of one log or of several together.
#[derive(Clone, Debug, Default)]
pub struct Tagged(pub BTreeMap<String, Counts>);

impl Tagged {
    /// Adds the counts of one interval to those of its tag, which then have the fewest digits of all that were added: buckets of
    /// fewer digits hold whole ones of more, so that the order is all one.
    ///
    /// # Errors
    /// They do not fit together, in words.
    pub fn add(&mut self, tag: &str, counts: &Counts) -> Result<(), String> {
        let failed = |e: &dyn std::fmt::Display| format!("the histogram of tag {tag:?} cannot be added: {e}");
        if let Some(sum) = self.0.get_mut(tag)
            && sum.sigfig() <= counts.sigfig()
        {
            return sum.add(counts).map_err(|e| failed(&e));
        }
        // Grows with what comes, whatever range a log was made for.
        let mut sum = Counts::new(counts.sigfig()).map_err(|e| failed(&e))?;
        sum.add(counts).map_err(|e| failed(&e))?;
        if let Some(finer) = self.0.get(tag) {
            sum.add(finer).map_err(|e| failed(&e))?;
        }
        self.0.insert(tag.to_owned(), sum);
        Ok(())
    }

    /// All of another's too.
    ///
    /// # Errors
    /// They do not fit together, in words.
    pub fn add_all(&mut self, other: &Self) -> Result<(), String> {
        other.0.iter().try_for_each(|(tag, counts)| self.add(tag, counts))
    }

    /// The fewest significant digits among them.
    pub fn digits(&self) -> Option<u8> {
        self.0.values().map(Counts::sigfig).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_up_has_the_fewest_digits() {
        let log = |digits, values: std::ops::Range<u64>| {
            let mut counts = Counts::new(digits).unwrap();
            values.for_each(|value| counts.record(value * 1_000).unwrap());
            counts
        };
        let logs = [log(3, 0..900), log(2, 500..5_000), log(3, 4_000..4_001)];
        let merged = |order: [usize; 3]| {
            let mut merged = Tagged::default();
            for at in order {
                merged.add("x", &logs[at]).unwrap();
            }
            merged
        };
        assert_eq!(merged([0, 1, 2]).0, merged([1, 2, 0]).0);
        assert_eq!((merged([0, 1, 2]).digits(), merged([0, 2, 1]).0["x"].len()), (Some(2), 5_401));
    }
}
