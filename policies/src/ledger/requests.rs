//! The requests at the workers, and of each worker those that have brought no token yet, in the order in which they went there.
//!
//! Rule: every step takes the same time, however many there are, but for a worker's leaving; there is a limit, and what is
//! beyond it is not kept. Deliberately not here: what is counted and learned from them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::slab::Slab;
use crate::view::WorkerId;

/// Requests kept: more than the sockets of one process allow.
const MAX_REQUESTS: usize = 1 << 17;
/// No place.
const NONE: u32 = u32::MAX;

/// A request at a worker.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Request {
    pub(super) seq: u64,
    pub(super) worker: WorkerId,
    /// Of its text; 0 for none, or where that is token ids.
    pub(super) prompt_bytes: u64,
    /// Of its prompt, what the worker has to compute.
    pub(super) prefill_tokens: u64,
    /// The same in [`prefill_work`](crate::prefill_work).
    pub(super) work: u64,
    /// Tokens that its answer is expected to have.
    pub(super) decode_tokens: u64,
    pub(super) routed_us: u64,
    /// When its first token came, or is thought to have come; `None`: it stands in its worker's line.
    pub(super) first_token_us: Option<u64>,
    /// Requests there that had a token when this one got its first.
    pub(super) batch: u32,
    /// Its first token will be seen.
    pub(super) stream: bool,
    pub(super) older: u32,
    pub(super) younger: u32,
}

impl Request {
    /// Of one that was removed from a line: none was before it.
    pub(super) fn was_oldest(&self) -> bool {
        self.older == NONE
    }
}

/// The requests at one worker that have brought no token yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    oldest: u32,
    youngest: u32,
}

impl Default for Line {
    fn default() -> Self {
        Self { oldest: NONE, youngest: NONE }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Requests {
    // Only looked up by key, so its order decides nothing.
    places: HashMap<u64, u32, BuildHasherDefault<Spread>>,
    slab: Slab<Request>,
    /// The first of the places given back; each names the next as `younger`.
    unused: u32,
}

impl Default for Requests {
    fn default() -> Self {
        Self { places: HashMap::default(), slab: Slab::with_capacity(MAX_REQUESTS), unused: NONE }
    }
}

impl Requests {
    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Puts a request at the end of its worker's line; `false` if there is no room for it. Its number is not there yet.
    pub(super) fn push(&mut self, request: Request, line: &mut Line) -> bool {
        let request = Request { older: line.youngest, younger: NONE, ..request };
        if self.places.capacity() == 0 {
            // The whole of it, as growing would copy it under the router's lock.
            self.places.reserve(MAX_REQUESTS);
        }
        let place = if self.unused == NONE {
            match self.slab.push(request) {
                Some(place) => place,
                None => return false,
            }
        } else {
            let place = self.unused;
            self.unused = self.slab[place].younger;
            self.slab[place] = request;
            place
        };
        self.places.insert(request.seq, place);
        match self.slab.get_mut(line.youngest) {
            Some(before) => before.younger = place,
            None => line.oldest = place,
        }
        line.youngest = place;
        true
    }

    /// The request with this number, if that is at this worker.
    pub(super) fn find(&self, seq: u64, worker: WorkerId) -> Option<&Request> {
        self.get(seq).filter(|request| request.worker == worker)
    }

    /// The request with this number.
    pub(super) fn get(&self, seq: u64) -> Option<&Request> {
        self.slab.get(*self.places.get(&seq)?)
    }

    /// The one that has waited longest in a line.
    pub(super) fn oldest(&self, line: Line) -> Option<&Request> {
        self.slab.get(line.oldest)
    }

    /// Takes a request out of the line of its worker, in which it is; `batch` others there have a token.
    pub(super) fn first_token(&mut self, seq: u64, at_us: u64, batch: u32, line: &mut Line) {
        if let Some(&place) = self.places.get(&seq) {
            self.unlink(place, line);
            self.slab[place].first_token_us = Some(at_us);
            self.slab[place].batch = batch;
        }
    }

    /// Removes a request, which is at the worker of this line.
    pub(super) fn remove(&mut self, seq: u64, line: &mut Line) -> Option<Request> {
        let place = self.places.remove(&seq)?;
        if self.slab[place].first_token_us.is_none() {
            self.unlink(place, line);
        }
        let request = self.slab[place];
        self.slab[place].younger = self.unused;
        self.unused = place;
        Some(request)
    }

    /// Removes all of a worker, whose line is empty from now on.
    pub(super) fn remove_all(&mut self, worker: WorkerId) {
        let Self { places, slab, unused } = self;
        places.retain(|_, place| {
            let stays = slab[*place].worker != worker;
            if !stays {
                slab[*place].younger = *unused;
                *unused = *place;
            }
            stays
        });
    }

    fn unlink(&mut self, place: u32, line: &mut Line) {
        let Request { older, younger, .. } = self.slab[place];
        match self.slab.get_mut(older) {
            Some(before) => before.younger = younger,
            None => line.oldest = younger,
        }
        match self.slab.get_mut(younger) {
            Some(after) => after.older = older,
            None => line.youngest = older,
        }
    }
}

/// Numbers that follow each other, spread over all bits by one multiplication.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        // Keys are `u64`, which come by the other way.
        for &byte in bytes {
            self.write_u64(self.0 << 8 | u64::from(byte));
        }
    }

    fn write_u64(&mut self, seq: u64) {
        // 2^64 divided by the golden ratio.
        self.0 = seq.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(seq: u64, worker: u32) -> Request {
        Request { seq, worker: WorkerId(worker), ..Request::default() }
    }

    #[test]
    fn a_line_keeps_its_order_whoever_leaves_it() {
        let mut requests = Requests::default();
        let mut line = Line::default();
        for seq in 1..=5 {
            assert!(requests.push(request(seq, 0), &mut line));
        }
        let mut left = Vec::new();
        requests.first_token(3, 9, 0, &mut line);
        assert_eq!(requests.remove(1, &mut line).map(|r| r.seq), Some(1));
        assert_eq!(requests.remove(3, &mut line).and_then(|r| r.first_token_us), Some(9));
        assert!(requests.push(request(6, 0), &mut line), "in the place of one that left");
        requests.remove(5, &mut line);
        while let Some(seq) = requests.oldest(line).map(|r| r.seq) {
            left.push(seq);
            requests.remove(seq, &mut line);
        }
        assert_eq!((left, requests.len()), (vec![2, 4, 6], 0));
    }

    #[test]
    fn there_is_room_for_so_many_and_again_when_they_are_gone() {
        let mut requests = Requests::default();
        let mut lines = [Line::default(); 2];
        for seq in 0..MAX_REQUESTS as u64 {
            assert!(requests.push(request(seq, seq as u32 % 2), &mut lines[seq as usize % 2]));
        }
        assert!(!requests.push(request(u64::MAX, 0), &mut lines[0]));
        requests.remove_all(WorkerId(0));
        assert_eq!(requests.len(), MAX_REQUESTS / 2);
        lines[0] = Line::default();
        assert!(requests.push(request(u64::MAX, 0), &mut lines[0]));
        assert_eq!(requests.oldest(lines[1]).map(|r| r.seq), Some(1));
        assert!(requests.find(u64::MAX, WorkerId(1)).is_none() && requests.get(u64::MAX).is_some());
    }
}
