//! Records that wait in the writer for a value of another thread.
//!
//! Rule: a record waits for a few rounds of the writer and is then written as it is; none is lost. One that was given up and counted
//! is written without the value, even if that comes a moment later: count and record agree. How many wait is bounded by
//! whoever promises the values. Deliberately not here: the values ([`super::decision::Late`]).

use super::decision::Late;
use super::record::{Record, RequestRecord};

/// Rounds that a record waits at most: 64 ms and more.
const MAX_ROUNDS: u8 = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Awaited(Vec<(Record, u8)>);

impl Awaited {
    /// Takes those of `records` that wait for something, gives back those that need not, or not `any_longer`, and says how many
    /// were given back without their value.
    pub(super) fn sift(&mut self, records: &mut Vec<Record>, any_longer: bool) -> u64 {
        let mut given_up = 0;
        let mut still = Vec::new();
        let earlier = std::mem::take(&mut self.0);
        if earlier.is_empty() && !records.iter_mut().any(|record| awaiting(record).is_some()) {
            return 0;
        }
        let fresh = std::mem::take(records).into_iter().map(|record| (record, 0));
        for (mut record, rounds) in earlier.into_iter().chain(fresh) {
            match awaiting(&mut record) {
                Some(_) if any_longer && rounds < MAX_ROUNDS => {
                    still.push((record, rounds + 1));
                    continue;
                }
                Some(request) => {
                    request.shadow = Late::default();
                    given_up += 1;
                }
                None => {}
            }
            records.push(record);
        }
        self.0 = still;
        given_up
    }
}

fn awaiting(record: &mut Record) -> Option<&mut RequestRecord> {
    match record {
        Record::Request(request) if request.shadow.is_awaited() => Some(request),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(seq: u64, shadow: &Late<Vec<crate::trace::record::ShadowRecord>>) -> Record {
        Record::Request(Box::new(RequestRecord { seq, shadow: shadow.clone(), ..RequestRecord::default() }))
    }

    fn seqs(records: &[Record]) -> Vec<u64> {
        records.iter().map(|r| if let Record::Request(r) = r { r.seq } else { 0 }).collect()
    }

    #[test]
    fn a_record_waits_until_it_is_told_and_not_for_ever() {
        let (late, never) = (Late::awaited(), Late::awaited());
        let mut awaited = Awaited::default();
        let mut records = vec![request(1, &late), request(2, &Late::default()), request(3, &never)];
        assert_eq!((awaited.sift(&mut records, true), seqs(&records)), (0, vec![2]));
        records.clear();
        late.set(Vec::new());
        assert_eq!((awaited.sift(&mut records, true), seqs(&records)), (0, vec![1]));
        records.clear();
        let rounds = (2..100).find(|_| awaited.sift(&mut records, true) == 1);
        assert_eq!((rounds, seqs(&records)), (Some(MAX_ROUNDS), vec![3]));
        // Between the count and the line.
        never.set(Vec::new());
        assert!(matches!(&records[0], Record::Request(r) if r.shadow.is_absent()));
    }

    #[test]
    fn at_the_end_nothing_is_kept_back() {
        let mut awaited = Awaited::default();
        let mut records = vec![request(1, &Late::awaited())];
        assert_eq!((awaited.sift(&mut records, true), records.len()), (0, 0));
        records.push(request(2, &Late::awaited()));
        assert_eq!((awaited.sift(&mut records, false), seqs(&records)), (2, vec![1, 2]));
    }
}
