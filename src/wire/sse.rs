//! Event boundaries of `text/event-stream`, over any chunking.
//!
//! Follows the WHATWG HTML standard, "9.2.6 Interpreting an event stream": lines end with LF, CRLF or CR, a blank line ends
//! an event, only `data` fields are kept, an event without one is no event, an unfinished event at the end is none either.
//! Rule: any split of the same bytes gives the same events, and never more than the cap is held. An event that lies whole
//! in one chunk is a slice of it, not a copy. Deliberately not here: what the data means.

use super::scan::line_length;

/// One event that had data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `data` lines, joined by `\n`; empty when the event was too long.
    pub data: &'a [u8],
    /// A line of the event, or its data, was longer than the cap; its data is dropped.
    pub overlong: bool,
}

/// Memory kept from one event for the next.
pub(super) const KEPT_BYTES: usize = 64 * 1024;

/// Finds events in a stream of chunks.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the states of line and event are independent")]
pub struct Scanner {
    cap_bytes: usize,
    /// The beginning of a line that the next chunk continues.
    line: Vec<u8>,
    line_too_long: bool,
    /// The data of an event that is not whole in the chunk at hand, or has several lines.
    data: Vec<u8>,
    has_data: bool,
    overlong: bool,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    first_line: bool,
}

impl Scanner {
    /// A scanner that holds at most about `cap_bytes` of one event.
    pub fn new(cap_bytes: usize) -> Self {
        Self {
            cap_bytes,
            line: Vec::new(),
            line_too_long: false,
            data: Vec::new(),
            has_data: false,
            overlong: false,
            after_cr: false,
            first_line: true,
        }
    }

    /// Takes the next chunk; calls `sink` for each event that ends in it.
    pub fn push(&mut self, chunk: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        // The only data line of the event at hand, if it lies in this chunk.
        let mut whole = None;
        let mut at = 0;
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            at = usize::from(chunk[0] == b'\n');
        }
        while at < chunk.len() {
            let Some(length) = line_length(&chunk[at..]) else {
                self.hold(&chunk[at..]);
                break;
            };
            let end = at + length;
            if self.line.is_empty() && !self.line_too_long {
                self.line(&chunk[at..end], &mut whole, sink);
            } else {
                self.hold(&chunk[at..end]);
                let mut line = std::mem::take(&mut self.line);
                let mut nothing = None;
                self.line(&line, &mut nothing, sink);
                if let Some(value) = nothing {
                    self.add(value);
                }
                line.clear();
                self.line = kept(line);
            }
            at = end + 1;
            if chunk[end] == b'\r' {
                match chunk.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
        }
        if let Some(value) = whole {
            self.add(value);
        }
    }

    /// True if the stream ended inside an event or a line.
    pub fn finish(&self) -> bool {
        !self.line.is_empty() || self.line_too_long || self.overlong || self.has_data
    }

    fn hold(&mut self, part: &[u8]) {
        if self.line_too_long || self.line.len() + part.len() > self.cap_bytes {
            self.line_too_long = true;
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(part);
        }
    }

    /// Takes a line; the first data line of an event is left in `whole`.
    fn line<'a>(
        &mut self,
        mut line: &'a [u8],
        whole: &mut Option<&'a [u8]>,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        let first = std::mem::take(&mut self.first_line);
        if std::mem::take(&mut self.line_too_long) || line.len() > self.cap_bytes {
            self.give_up(whole);
            return;
        }
        if first {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(whole.take(), sink);
            return;
        }
        let Some(rest) = line.strip_prefix(b"data") else {
            return;
        };
        let value = match rest {
            [b':', b' ', value @ ..] | [b':', value @ ..] => value,
            [] => rest,
            _ => return,
        };
        if self.overlong {
            return;
        }
        let held_bytes = whole.map_or(self.data.len(), <[u8]>::len);
        if held_bytes + 1 + value.len() > self.cap_bytes {
            self.give_up(whole);
        } else if !self.has_data && whole.is_none() {
            *whole = Some(value);
        } else {
            if let Some(before) = whole.take() {
                self.add(before);
            }
            self.add(value);
        }
    }

    fn add(&mut self, value: &[u8]) {
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        self.data.extend_from_slice(value);
    }

    fn give_up(&mut self, whole: &mut Option<&[u8]>) {
        *whole = None;
        self.overlong = true;
        self.forget();
    }

    fn forget(&mut self) {
        self.has_data = false;
        self.data.clear();
        self.data = kept(std::mem::take(&mut self.data));
    }

    fn dispatch(&mut self, whole: Option<&[u8]>, sink: &mut impl FnMut(Event<'_>)) {
        if std::mem::take(&mut self.overlong) {
            sink(Event { data: &[], overlong: true });
        } else if let Some(data) = whole {
            sink(Event { data, overlong: false });
        } else if self.has_data {
            sink(Event { data: &self.data, overlong: false });
            self.forget();
        }
    }
}

/// An emptied buffer, or none if it is large.
fn kept(buffer: Vec<u8>) -> Vec<u8> {
    if buffer.capacity() > KEPT_BYTES { Vec::new() } else { buffer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Told = (Vec<u8>, bool);

    fn scan(chunks: &[&[u8]], cap_bytes: usize) -> (Vec<Told>, bool) {
        let mut events = Vec::new();
        let mut scanner = Scanner::new(cap_bytes);
        for chunk in chunks {
            scanner.push(chunk, &mut |e| events.push((e.data.to_vec(), e.overlong)));
        }
        (events, scanner.finish())
    }

    fn data(stream: &[u8]) -> Vec<String> {
        scan(&[stream], 1000).0.iter().map(|e| String::from_utf8_lossy(&e.0).into_owned()).collect()
    }

    #[test]
    fn line_ends_comments_fields_and_joined_data() {
        assert_eq!(data(b"data: a\n\ndata:b\r\n\r\ndata:  c\r\r"), ["a", "b", " c"]);
        assert_eq!(data(b": ping\n\nevent: x\nid: 1\ndata: a\ndata: b\ndata\n\n"), ["a\nb\n"]);
        assert_eq!(data(b"\xEF\xBB\xBFdata: a\n\n\xEF\xBB\xBFdata: b\n\ndatax: c\n\nevent: only\n\n"), ["a"]);
        assert_eq!(data(b"data\n\n"), [""]);
    }

    #[test]
    fn an_unfinished_event_is_none_but_is_told() {
        assert_eq!(scan(&[b"data: a\n\ndata: b\n"], 100).0.len(), 1);
        assert!(scan(&[b"data: b\n"], 100).1);
        assert!(scan(&[b"dat"], 100).1);
        assert!(!scan(&[b"data: b\n\n"], 100).1);
        assert!(!scan(&[b"data: b\r\n\r\n"], 100).1);
    }

    #[test]
    fn an_event_in_one_chunk_is_a_slice_of_it() {
        let chunk = b"data: 12345678\n\n";
        let mut seen = Vec::new();
        Scanner::new(100).push(chunk, &mut |e| seen.push(e.data.as_ptr()));
        assert_eq!(seen, [chunk[6..].as_ptr()]);
    }

    #[test]
    fn an_overlong_event_is_counted_and_the_next_one_is_whole() {
        let (events, partial) = scan(&[b"data: 0123456789abcdef\n\ndata: ok\n\n"], 12);
        assert_eq!(events[0], (Vec::new(), true));
        assert_eq!(events[1], (b"ok".to_vec(), false));
        assert!(!partial);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "data: hello", "data:x", "data", ": c", "event: e", "\n", "\n", "\n", "\r\n", "\r", "\u{feff}", "data: 0123456789012345678901234567890", "é",
            ]), 0..40),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            cap in 8usize..40,
        ) {
            let stream = pieces.concat().into_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|c| c.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            let single: Vec<&[u8]> = stream.chunks(1).collect();
            let whole = scan(&[&stream], cap);
            prop_assert_eq!(&scan(&chunks, cap), &whole);
            prop_assert_eq!(&scan(&single, cap), &whole);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), cap in 0usize..50) {
            scan(&[&bytes], cap);
        }
    }
}
