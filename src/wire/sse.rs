//! Event boundaries of `text/event-stream`, over any chunking.
//!
//! Follows the WHATWG HTML standard, "9.2.6 Interpreting an event stream": lines end with LF, CRLF or CR, a blank line ends
//! an event, only `data` fields are kept, an event without one is no event, an unfinished event at the end is none either.
//! Rule: any split of the same bytes gives the same events, and never more than the cap is held. An event that lies whole
//! in one chunk is a slice of it, not a copy. Deliberately not here: what the data means.

use bytes::Bytes;

use super::scan::line_length;

/// One event that had data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The `data` lines, joined by `\n`; empty when the event was too long.
    pub data: Bytes,
    /// A line of the event, or its data, was longer than the cap; its data is dropped.
    pub overlong: bool,
}

/// Finds events in a stream of chunks.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the states of line and event are independent")]
pub struct Scanner {
    cap_bytes: usize,
    /// The beginning of a line that the next chunk continues.
    line: Vec<u8>,
    line_too_long: bool,
    data: Data,
    overlong: bool,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    first_line: bool,
}

#[derive(Debug)]
enum Data {
    None,
    One(Bytes),
    Joined(Vec<u8>),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(line) => line.len(),
            Self::Joined(lines) => lines.len(),
        }
    }
}

impl Scanner {
    /// A scanner that holds at most about `cap_bytes` of one event.
    pub fn new(cap_bytes: usize) -> Self {
        Self {
            cap_bytes,
            line: Vec::new(),
            line_too_long: false,
            data: Data::None,
            overlong: false,
            after_cr: false,
            first_line: true,
        }
    }

    /// Takes the next chunk; calls `sink` for each event that ends in it.
    pub fn push(&mut self, chunk: &Bytes, sink: &mut impl FnMut(Event)) {
        let mut at = 0;
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            at = usize::from(chunk[0] == b'\n');
        }
        while at < chunk.len() {
            let Some(length) = line_length(&chunk[at..]) else {
                self.hold(&chunk[at..]);
                return;
            };
            let end = at + length;
            if self.line.is_empty() && !self.line_too_long {
                self.line(chunk.slice(at..end), sink);
            } else {
                self.hold(&chunk[at..end]);
                let line = Bytes::from(std::mem::take(&mut self.line));
                self.line(line, sink);
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
    }

    /// True if the stream ended inside an event or a line.
    pub fn finish(&self) -> bool {
        !self.line.is_empty() || self.line_too_long || self.overlong || !matches!(self.data, Data::None)
    }

    fn hold(&mut self, part: &[u8]) {
        if self.line_too_long || self.line.len() + part.len() > self.cap_bytes {
            self.line_too_long = true;
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn line(&mut self, mut line: Bytes, sink: &mut impl FnMut(Event)) {
        let first = std::mem::take(&mut self.first_line);
        if std::mem::take(&mut self.line_too_long) || line.len() > self.cap_bytes {
            self.give_up();
            return;
        }
        if first && line.starts_with(b"\xEF\xBB\xBF") {
            line = line.slice(3..);
        }
        if line.is_empty() {
            self.dispatch(sink);
            return;
        }
        let colon = line.iter().position(|&b| b == b':').unwrap_or(line.len());
        if &line[..colon] != b"data" {
            return;
        }
        let mut value = (colon + 1).min(line.len());
        if line.get(value) == Some(&b' ') {
            value += 1;
        }
        self.add_data(line.slice(value..));
    }

    fn add_data(&mut self, value: Bytes) {
        if self.overlong {
            return;
        }
        if self.data.len() + 1 + value.len() > self.cap_bytes {
            self.give_up();
            return;
        }
        self.data = match std::mem::replace(&mut self.data, Data::None) {
            Data::None => Data::One(value),
            Data::One(first) => Data::Joined([&first[..], b"\n", &value[..]].concat()),
            Data::Joined(mut lines) => {
                lines.push(b'\n');
                lines.extend_from_slice(&value);
                Data::Joined(lines)
            }
        };
    }

    fn give_up(&mut self) {
        self.overlong = true;
        self.data = Data::None;
    }

    fn dispatch(&mut self, sink: &mut impl FnMut(Event)) {
        let overlong = std::mem::take(&mut self.overlong);
        match std::mem::replace(&mut self.data, Data::None) {
            Data::None if overlong => sink(Event { data: Bytes::new(), overlong }),
            Data::None => {}
            Data::One(data) => sink(Event { data, overlong }),
            Data::Joined(lines) => sink(Event { data: Bytes::from(lines), overlong }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(chunks: &[&[u8]], cap_bytes: usize) -> (Vec<Event>, bool) {
        let mut events = Vec::new();
        let mut scanner = Scanner::new(cap_bytes);
        for chunk in chunks {
            scanner.push(&Bytes::copy_from_slice(chunk), &mut |e| events.push(e));
        }
        (events, scanner.finish())
    }

    fn data(stream: &[u8]) -> Vec<String> {
        scan(&[stream], 1000).0.iter().map(|e| String::from_utf8_lossy(&e.data).into_owned()).collect()
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
        let chunk = Bytes::from_static(b"data: 12345678\n\n");
        let mut seen = Vec::new();
        Scanner::new(100).push(&chunk, &mut |e| seen.push(e.data));
        assert_eq!(seen[0].as_ptr(), chunk[6..].as_ptr());
    }

    #[test]
    fn an_overlong_event_is_counted_and_the_next_one_is_whole() {
        let (events, partial) = scan(&[b"data: 0123456789abcdef\n\ndata: ok\n\n"], 12);
        assert_eq!(events[0], Event { data: Bytes::new(), overlong: true });
        assert_eq!(events[1], Event { data: Bytes::from_static(b"ok"), overlong: false });
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
