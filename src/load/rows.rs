//! All rows of a run, in the order of the plan.
//!
//! Rule: the first are in memory as they are, the others packed in a scratch file, so that any number of rows fits; whoever wants
//! figures goes through them one by one, as often as need be. Deliberately not here: what a row is (`row`).

use std::borrow::Cow;
use std::sync::Arc;

use super::failure::{Class, Failure};
use super::row::{Gap, Row};
use super::spool::{Keeping, Spool, Spooled};

/// The rows.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    held: Vec<Row>,
    rest: Option<Arc<Rest>>,
}

#[derive(Debug)]
struct Rest {
    spooled: Spooled,
    count: usize,
}

/// Rows that come one by one.
#[derive(Debug)]
pub(super) struct RowsMaker {
    keeping: Keeping,
    held: Vec<Row>,
    held_bytes: usize,
    rest: Option<(Spool, usize)>,
}

impl Rows {
    /// How many.
    pub fn len(&self) -> usize {
        self.held.len() + self.rest.as_ref().map_or(0, |rest| rest.count)
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first rows, which are in memory: of a run of some ten thousand requests all of them.
    pub fn held(&self) -> &[Row] {
        &self.held
    }

    /// Every row, in order. One that cannot be read back is there as a failed one that says so.
    pub fn iter(&self) -> Each<'_> {
        let rest = self.rest.iter().flat_map(|rest| rest.spooled.values());
        let rest = rest.map(|read| Cow::Owned(read.unwrap_or_else(unread)));
        Box::new(self.held.iter().map(Cow::Borrowed).chain(rest))
    }
}

/// Rows one by one.
pub type Each<'a> = Box<dyn Iterator<Item = Cow<'a, Row>> + 'a>;

impl<'a> IntoIterator for &'a Rows {
    type Item = Cow<'a, Row>;
    type IntoIter = Each<'a>;

    fn into_iter(self) -> Each<'a> {
        self.iter()
    }
}

/// All of them in memory.
impl From<Vec<Row>> for Rows {
    fn from(held: Vec<Row>) -> Self {
        Self { held, rest: None }
    }
}

fn unread(why: String) -> Row {
    Row { failure: Some(Failure::new(Class::Other, why)), ..Row::default() }
}

impl RowsMaker {
    pub(super) fn new(keeping: &Keeping) -> Self {
        Self { keeping: keeping.clone(), held: Vec::new(), held_bytes: 0, rest: None }
    }

    /// The next row.
    pub(super) fn push(&mut self, row: Row) {
        if let Some((spool, count)) = &mut self.rest {
            spool.append(&row);
            *count += 1;
            return;
        }
        let bytes = size_of::<Row>() + row.gaps.len() * size_of::<Gap>();
        if self.held_bytes + bytes <= self.keeping.memory_bytes {
            self.held_bytes += bytes;
            self.held.push(row);
            return;
        }
        // What the rows in memory leave of it belongs to none.
        let mut spool = Spool::new(&Keeping { memory_bytes: 0, ..self.keeping.clone() });
        spool.append(&row);
        self.rest = Some((spool, 1));
    }

    /// All of them, and what a reader of the figures has to know of how they are kept.
    pub(super) fn finish(self) -> (Rows, Option<String>) {
        let rest = self.rest.map(|(spool, count)| Rest { spooled: spool.finish(), count });
        let trouble = rest.as_ref().and_then(|rest| rest.spooled.trouble.clone());
        (Rows { held: self.held, rest: rest.map(Arc::new) }, trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::row::{Tried, example};

    /// Each field is unlike its default in one of them.
    fn rows() -> Vec<Row> {
        let tried = Tried { host: "b:1".to_owned(), send_ns: None, failed_ns: -7 };
        let failed = Row {
            failure: Some(Failure::new(Class::Truncated, "after 3 events")),
            counted_tokens: Some(3),
            token_times_dropped: true,
            queue_in_server_ns: Some(-1),
            order_broken: true,
            missing: vec![("ttft", "not streamed"), ("queue_time_end", "not sent")],
            connected_ns: Some(3),
            tried: vec![tried.clone(), Tried { send_ns: Some(i64::MAX), ..tried }],
            phase: Some("during 1".to_owned()),
            reconnects: 2,
            reused_connection: true,
            turn: Some((4, 2)),
            ..example()
        };
        vec![example(), Row::default(), failed]
    }

    #[test]
    fn rows_come_back_as_they_went_wherever_they_were() {
        for held in 0..4 {
            let bytes = rows().iter().take(held).map(|row| size_of::<Row>() + size_of_val(&*row.gaps)).sum();
            let mut maker = RowsMaker::new(&Keeping { memory_bytes: bytes, ..Keeping::default() });
            for row in rows() {
                maker.push(row);
            }
            let (all, trouble) = maker.finish();
            assert_eq!((all.len(), all.held().len(), trouble), (3, held.min(3), None));
            assert_eq!(all.iter().map(Cow::into_owned).collect::<Vec<_>>(), rows());
        }
    }
}
