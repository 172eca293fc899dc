//! Which numbers of requests have been seen, a bit for each.
//!
//! Rule: memory follows the highest number, not the requests: ten million of them are 1.25 MB. Numbers that lie so far apart that
//! their pages would take more than 256 MiB are counted and not compared. Deliberately not here: what is said of it.

use std::collections::BTreeMap;

/// Numbers in one page of 4 KiB.
const PAGE_SEQS: u64 = 32_768;
/// Pages that are held: two thousand million numbers in a row.
const MAX_PAGES: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub(super) struct Seqs {
    pages: BTreeMap<u64, Box<[u64; 512]>>,
    max_pages: usize,
    highest: u64,
    duplicates: u64,
    uncompared: u64,
}

impl Default for Seqs {
    fn default() -> Self {
        Self { pages: BTreeMap::new(), max_pages: MAX_PAGES, highest: 0, duplicates: 0, uncompared: 0 }
    }
}

impl Seqs {
    /// One more.
    pub(super) fn add(&mut self, seq: u64) {
        self.highest = self.highest.max(seq);
        let number = seq / PAGE_SEQS;
        if self.pages.len() >= self.max_pages && !self.pages.contains_key(&number) {
            self.uncompared += 1;
            return;
        }
        let page = self.pages.entry(number).or_insert_with(|| Box::new([0; 512]));
        let within = seq % PAGE_SEQS;
        let (word, bit) = (&mut page[(within / 64) as usize], 1 << (within % 64));
        self.duplicates += u64::from(*word & bit != 0);
        *word |= bit;
    }

    /// The highest so far; 0 if there is none.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// How many had been there before.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// How many were not compared.
    pub(super) fn uncompared(&self) -> u64 {
        self.uncompared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_come_twice_are_found_in_any_order() {
        let mut seqs = Seqs::default();
        for seq in [3, 1, PAGE_SEQS, 2, PAGE_SEQS - 1, 3, PAGE_SEQS] {
            seqs.add(seq);
        }
        assert_eq!((seqs.duplicates(), seqs.highest(), seqs.uncompared()), (2, PAGE_SEQS, 0));
    }

    #[test]
    fn wild_numbers_cost_no_more_than_the_limit_and_are_counted() {
        let mut seqs = Seqs { max_pages: 2, ..Seqs::default() };
        for seq in [1, u64::MAX, PAGE_SEQS * 5, PAGE_SEQS * 5, 1] {
            seqs.add(seq);
        }
        assert_eq!((seqs.pages.len(), seqs.uncompared(), seqs.duplicates()), (2, 2, 1));
        assert_eq!(seqs.highest(), u64::MAX);
    }
}
