//! A router's trace at an address that gives it page by page, as milepost's own does.
//!
//! Rule: one page in memory at a time, however long the trace is, and over rotations: a cursor goes on in the file that was rotated
//! away. Where the router has removed what stood at the cursor, reading goes on at the oldest that is left, and that is known.
//! Deliberately not here: what the lines say, and an address that gives a file whole ([`super::traced`]).

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::client::Client;
use crate::admin::trace_tail::Cursor;

/// Longest wait for a page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Times in a row that what stood at a cursor may be gone: the oldest file may be removed while it is asked for.
const MAX_GONE: u32 = 8;

/// Where reading stands.
#[derive(Debug)]
pub(super) struct Paging {
    path: String,
    /// Where the trace ended when the run began.
    begin: Cursor,
    /// Where the next page begins.
    at: Cursor,
    /// What stood at the cursor was removed before it was read.
    pub(super) has_gap: bool,
}

/// Whole lines of a trace.
#[derive(Debug)]
pub(super) struct Page {
    lines: Bytes,
    from: Cursor,
    begin: Cursor,
    /// Reading came further by it.
    pub(super) goes_on: bool,
}

/// Times that a page is asked for which does not come: one refused connection is not the end of a long trace.
const TRIES: u32 = 5;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(200);

/// What an address gives.
#[derive(Debug)]
pub(super) enum Begun {
    Pages(Paging),
    /// A file as a whole.
    NoPages,
    /// Nobody knows: why there was no answer, however often it was asked.
    Failed(String),
    /// What cannot be.
    Wrong(String),
}

/// Where a trace ends, as a page is asked for.
pub(super) const NEWEST: &str = "newest";

/// What was asked for is gone, or why there is no answer.
enum Missing {
    Gone,
    /// An answer that cannot be.
    Wrong(String),
    /// It may come another time.
    Failed(String),
    /// It will not.
    Refused(String),
}

impl Paging {
    /// Asks where the trace ends now. The file that is being written is read from its start, as it tells the clocks and the workers.
    pub(super) async fn begin(client: &Client, path: &str) -> Begun {
        let (_, begin) = match ask(client, path, NEWEST).await {
            Ok(told) => told,
            // A plain file, or an address that takes no such question.
            Err(Missing::Refused(_)) => return Begun::NoPages,
            Err(Missing::Failed(why)) => return Begun::Failed(why),
            Err(Missing::Gone) => {
                return Begun::Wrong(format!(
                    "{path}?from={NEWEST}: status 410: the end of a trace is never gone"
                ));
            }
            Err(Missing::Wrong(why)) => return Begun::Wrong(format!("{path}?from={NEWEST}: {why}")),
        };
        let at = Cursor { bytes: 0, ..begin.clone() };
        Begun::Pages(Self { path: path.to_owned(), begin, at, has_gap: false })
    }

    /// The next page, which may have nothing in it.
    pub(super) async fn next(&mut self, client: &Client) -> Result<Page, String> {
        let mut from = self.at.to_string();
        for _ in 0..MAX_GONE {
            match ask(client, &self.path, &from).await {
                Ok((lines, next)) => {
                    let from =
                        Cursor { bytes: next.bytes.saturating_sub(lines.len() as u64), ..next.clone() };
                    let goes_on = next != self.at;
                    self.at = next;
                    return Ok(Page { lines, from, begin: self.begin.clone(), goes_on });
                }
                Err(Missing::Gone) => {
                    self.has_gap = true;
                    "oldest".clone_into(&mut from);
                }
                Err(Missing::Failed(why) | Missing::Refused(why) | Missing::Wrong(why)) => return Err(why),
            }
        }
        Err(format!("its files were removed {MAX_GONE} times in a row while they were asked for"))
    }

    /// Where the trace ends now.
    pub(super) async fn end(&self, client: &Client) -> Result<Cursor, String> {
        match ask(client, &self.path, NEWEST).await {
            Ok((_, end)) => Ok(end),
            Err(Missing::Failed(why) | Missing::Refused(why) | Missing::Wrong(why)) => Err(why),
            Err(Missing::Gone) => Err("status 410".to_owned()),
        }
    }

    /// Where the next page begins.
    pub(super) fn place(&self) -> &Cursor {
        &self.at
    }

    /// All up to that place was read.
    pub(super) fn has_reached(&self, end: &Cursor) -> bool {
        self.at.name != end.name || (self.at.part, self.at.bytes) >= (end.part, end.bytes)
    }
}

impl Page {
    /// Each line with its end, and whether it was written after the run began.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let Cursor { name, part, bytes } = &self.from;
        let is_same = *name == self.begin.name;
        let mut place = *bytes;
        self.lines.split_inclusive(|b| *b == b'\n').map(move |line| {
            let is_new = !is_same || (*part, place) >= (self.begin.part, self.begin.bytes);
            place += line.len() as u64;
            (line, is_new)
        })
    }
}

/// A page and where the next one begins, if need be at another try.
async fn ask(client: &Client, path: &str, from: &str) -> Result<(Bytes, Cursor), Missing> {
    for _ in 1..TRIES {
        match ask_once(client, path, from).await {
            Err(Missing::Failed(_)) => tokio::time::sleep(PAUSE).await,
            told => return told,
        }
    }
    ask_once(client, path, from).await
}

async fn ask_once(client: &Client, path: &str, from: &str) -> Result<(Bytes, Cursor), Missing> {
    let path = format!("{path}?from={from}");
    let answer = client.simple(Method::GET, &path, PAGE_TIMEOUT).await.map_err(Missing::Failed)?;
    match (answer.status, answer.next.as_deref().map(|next| (next, Cursor::parse(next)))) {
        (200, Some((_, Some(next)))) => Ok((answer.body, next)),
        (200, Some((next, None))) => {
            Err(Missing::Wrong(format!("its next page is {next:?}, which is no place in a trace")))
        }
        (200, None) => Err(Missing::Refused("it names no next page any more".to_owned())),
        (410, _) => Err(Missing::Gone),
        // Busy is no refusal.
        (status @ (408 | 429), _) => Err(Missing::Failed(format!("status {status}"))),
        (status @ 400..500, _) => Err(Missing::Refused(format!("status {status}"))),
        (status, _) => Err(Missing::Failed(format!("status {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(part: u64, bytes: u64) -> Cursor {
        Cursor { name: "t.jsonl".to_owned(), part, bytes }
    }

    fn told(from: Cursor) -> Vec<bool> {
        let page = Page { lines: Bytes::from_static(b"a\nbc\nd\n"), from, begin: at(3, 12), goes_on: true };
        let lines: Vec<(&[u8], bool)> = page.lines().collect();
        assert_eq!(lines.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [&b"a\n"[..], b"bc\n", b"d\n"]);
        lines.into_iter().map(|(_, is_new)| is_new).collect()
    }

    #[test]
    fn what_was_written_before_the_run_began_is_told_apart_by_file_and_byte() {
        assert_eq!(told(at(3, 0)), [false, false, false]);
        assert_eq!(told(at(3, 10)), [false, true, true]);
        assert_eq!(told(at(4, 0)), [true, true, true]);
        assert_eq!(told(at(2, 900)), [false, false, false]);
        assert_eq!(told(Cursor { name: "other.jsonl".to_owned(), ..at(1, 0) }), [true, true, true]);
    }

    #[test]
    fn an_end_is_reached_in_the_order_of_files_and_bytes() {
        let paging = |at: Cursor| Paging { path: "/".to_owned(), begin: at.clone(), at, has_gap: false };
        assert!(paging(at(4, 0)).has_reached(&at(3, 99)) && paging(at(3, 99)).has_reached(&at(3, 99)));
        assert!(!paging(at(3, 98)).has_reached(&at(3, 99)) && !paging(at(2, 500)).has_reached(&at(3, 0)));
        // Another capture was begun: what follows there ends by itself.
        assert!(paging(Cursor { name: "other.jsonl".to_owned(), ..at(1, 0) }).has_reached(&at(3, 0)));
    }
}
