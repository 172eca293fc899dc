//! What the client saw of the requests of a run, in the order in which they ended, to be read in the order of the plan.
//!
//! Rule: 8 bytes of memory for each planned request, whatever was seen of it. Deliberately not here: what becomes of it (`join`).

use super::{Keeping, Reader, Spool, Spooled};
use crate::load::arrivals::{Seen, never_sent};
use crate::load::failure::{Class, Failure};

/// Nothing was seen of it.
const NOTHING: u64 = u64::MAX;

/// What is being seen.
#[derive(Debug)]
pub(in crate::load) struct Seeing {
    spool: Spool,
    /// Of each planned request.
    places: Vec<u64>,
}

/// What was seen.
#[derive(Debug)]
pub(in crate::load) struct AllSeen {
    spooled: Spooled,
    places: Vec<u64>,
}

impl Seeing {
    /// Of so many requests.
    pub fn of(planned: usize, keeping: &Keeping) -> Self {
        Self { spool: Spool::new(keeping), places: vec![NOTHING; planned] }
    }

    /// What was seen of a request.
    pub fn put(&mut self, index: usize, seen: &Seen) {
        self.places[index] = self.spool.append(seen);
    }

    /// Those of which nothing was seen become what `instead` makes.
    pub fn finish(mut self, instead: impl Fn(usize) -> Seen) -> AllSeen {
        for index in 0..self.places.len() {
            if self.places[index] == NOTHING {
                self.put(index, &instead(index));
            }
        }
        AllSeen { spooled: self.spool.finish(), places: self.places }
    }
}

impl AllSeen {
    /// Each request, in the order of the plan. One that cannot be read back has failed, and says so.
    pub fn iter(&self) -> impl Iterator<Item = Seen> + '_ {
        let mut reader = self.spooled.reader();
        self.places.iter().map(move |place| read(&mut reader, *place))
    }

    /// What a reader of the figures has to know of how it was kept.
    pub fn trouble(&self) -> Option<String> {
        self.spooled.trouble.clone()
    }
}

fn read(reader: &mut Reader<'_>, place: u64) -> Seen {
    reader.value::<Seen>(place).unwrap_or_else(|why| {
        let mut seen = never_sent(0, "");
        seen.exchange.failure = Some(Failure::new(Class::Other, why));
        seen
    })
}
