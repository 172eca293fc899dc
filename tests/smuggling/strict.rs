//! HTTP/1.1 by the letter: a second reader of the same bytes, against which the router's own is held.
//!
//! Rule: written from RFC 9112 alone, line by line and with copies, so that it shares neither code nor way with
//! `milepost::http1`. What two readers could take in two ways is refused, or is the last message of its connection. Used by the
//! smuggling table, by its mutations and by the fuzz properties. Deliberately not here: sockets, limits of size.

/// Most fields in one head, as the router has it.
const MAX_FIELDS: usize = 100;
/// Most interim answers before an answer, as the router has it.
const MAX_INTERIM: usize = 32;

/// What some bytes begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// A whole message, and how many bytes it took.
    Whole(T, usize),
    /// The beginning of one, or nothing.
    Partial,
    /// No message, and why.
    Refused(&'static str),
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub fields: Fields,
    pub body: Vec<u8>,
    /// A coding beside `chunked` was applied: it can be found, and not understood.
    pub is_coded: bool,
    /// Nothing after it on its connection is a request.
    pub is_last: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    /// Nothing after it on its connection is an answer.
    pub is_last: bool,
}

/// Names in lower case, and values, in order.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Why bytes give no message: they end too soon, or are none.
enum Stop {
    Partial,
    Refused(&'static str),
}

type Parse<T> = Result<T, Stop>;

/// Takes lines and bytes from the front.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// A line without its end, which is CR LF and nothing less.
    fn line(&mut self) -> Parse<&'a [u8]> {
        let rest = self.rest();
        let end = rest.iter().position(|b| *b == b'\n').ok_or(Stop::Partial)?;
        let line = rest[..end].strip_suffix(b"\r").ok_or(Stop::Refused("a line feed alone"))?;
        self.at += end + 1;
        Ok(line)
    }

    fn take(&mut self, count: u64) -> Parse<&'a [u8]> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let taken = self.rest().get(..count).ok_or(Stop::Partial)?;
        self.at += count;
        Ok(taken)
    }

    fn skip_empty_lines(&mut self) {
        while let Some(rest) = self.rest().strip_prefix(b"\r\n").or_else(|| self.rest().strip_prefix(b"\n")) {
            self.at = self.bytes.len() - rest.len();
        }
    }

    fn fields(&mut self) -> Parse<Fields> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            fields.push(field(line)?);
        }
    }

    fn head_fields(&mut self) -> Parse<Fields> {
        let fields = self.fields()?;
        if fields.len() > MAX_FIELDS { Err(Stop::Refused("too many fields")) } else { Ok(fields) }
    }

    fn chunks(&mut self) -> Parse<Vec<u8>> {
        let mut data = Vec::new();
        loop {
            let line = self.line()?;
            let (size, extensions) =
                line.iter().position(|b| *b == b';').map_or((line, &[][..]), |at| line.split_at(at));
            let size = chunk_size(trim_end(size)).ok_or(Stop::Refused("no chunk size"))?;
            if !extensions.iter().copied().all(is_text) {
                return Err(Stop::Refused("control characters in an extension"));
            }
            if size == 0 {
                self.fields()?;
                return Ok(data);
            }
            data.extend_from_slice(self.take(size)?);
            if self.take(2)? != b"\r\n" {
                return Err(Stop::Refused("data longer than its chunk"));
            }
        }
    }
}

/// Reads a request at the start of `bytes`.
pub fn request(bytes: &[u8]) -> Read<Request> {
    let mut reader = Reader { bytes, at: 0 };
    finish(parse_request(&mut reader), &reader)
}

/// Reads an answer at the start of `bytes`, which are all of the connection if it is `closed`. `to_head`: to a HEAD request.
pub fn answer(bytes: &[u8], to_head: bool, closed: bool) -> Read<Answer> {
    let mut reader = Reader { bytes, at: 0 };
    finish(parse_answer(&mut reader, to_head, closed), &reader)
}

fn finish<T>(parsed: Parse<T>, reader: &Reader<'_>) -> Read<T> {
    match parsed {
        Ok(message) => Read::Whole(message, reader.at),
        Err(Stop::Partial) => Read::Partial,
        Err(Stop::Refused(why)) => Read::Refused(why),
    }
}

fn parse_request(reader: &mut Reader<'_>) -> Parse<Request> {
    reader.skip_empty_lines();
    let line = reader.line()?;
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let [method, target, version] = words[..] else {
        return Err(Stop::Refused("no request line"));
    };
    let is_http_11 = version_of(version)?;
    let visible = !target.is_empty() && target.iter().all(|b| *b > b' ' && *b != 0x7f);
    if !is_token(method) || !visible || std::str::from_utf8(target).is_err() {
        return Err(Stop::Refused("no request line"));
    }
    let fields = reader.head_fields()?;
    let length = length(&fields)?;
    let codings = all(&fields, b"transfer-encoding");
    let is_chunked = match codings.last() {
        None => false,
        Some(_) if !is_http_11 => return Err(Stop::Refused("a coding in HTTP/1.0")),
        Some(last) if last.eq_ignore_ascii_case(b"chunked") => true,
        Some(_) => return Err(Stop::Refused("a coding that does not end in chunked")),
    };
    let is_coded = codings.len() > 1;
    let is_last = closes(&fields, is_http_11) || is_coded || (is_chunked && length.is_some());
    let body = if is_chunked { reader.chunks()? } else { reader.take(length.unwrap_or(0))?.to_vec() };
    Ok(Request { method: method.to_vec(), target: target.to_vec(), fields, body, is_coded, is_last })
}

fn parse_answer(reader: &mut Reader<'_>, to_head: bool, closed: bool) -> Parse<Answer> {
    for interim in 0.. {
        reader.skip_empty_lines();
        let (is_http_11, status) = status_line(reader.line()?)?;
        let fields = reader.head_fields()?;
        let length = length(&fields)?;
        let codings = all(&fields, b"transfer-encoding");
        match status {
            101 => return Err(Stop::Refused("another protocol")),
            100..=199 if interim == MAX_INTERIM => return Err(Stop::Refused("interim answers without end")),
            100..=199 => continue,
            _ => {}
        }
        let is_bodiless = to_head || matches!(status, 204 | 304);
        let is_chunked = matches!(codings[..], [only] if only.eq_ignore_ascii_case(b"chunked"));
        let is_coded = !codings.is_empty() && !is_chunked;
        if is_coded && !is_bodiless {
            return Err(Stop::Refused("a coding other than chunked"));
        }
        let doubtful = is_coded || is_chunked && (length.is_some() || !is_http_11);
        let announced = status == 204 && (is_chunked || length.is_some_and(|bytes| bytes > 0));
        let mut is_last = closes(&fields, is_http_11) || doubtful || announced;
        let body = match length {
            _ if is_bodiless => Vec::new(),
            _ if is_chunked => reader.chunks()?,
            Some(bytes) => reader.take(bytes)?.to_vec(),
            None if closed => {
                is_last = true;
                reader.take(reader.rest().len() as u64)?.to_vec()
            }
            None => return Err(Stop::Partial),
        };
        return Ok(Answer { status, fields, body, is_last });
    }
    Err(Stop::Partial)
}

fn status_line(line: &[u8]) -> Parse<(bool, u16)> {
    let refused = || Stop::Refused("no status line");
    let (version, rest) = line.split_at_checked(8).ok_or_else(refused)?;
    let (status, reason) = rest.split_at_checked(4).ok_or_else(refused)?;
    let digits =
        status.strip_prefix(b" ").filter(|d| d.iter().all(u8::is_ascii_digit)).ok_or_else(refused)?;
    if !(reason.is_empty() || reason[0] == b' ' && reason.iter().copied().all(is_text)) {
        return Err(refused());
    }
    let status = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    if status < 100 { Err(refused()) } else { Ok((version_of(version)?, status)) }
}

/// True for 1.1, false for 1.0.
fn version_of(word: &[u8]) -> Parse<bool> {
    match word {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        _ => Err(Stop::Refused("another version")),
    }
}

fn field(line: &[u8]) -> Parse<(Vec<u8>, Vec<u8>)> {
    let colon = line.iter().position(|b| *b == b':').ok_or(Stop::Refused("a line that is no field"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) || !value.iter().copied().all(is_text) {
        return Err(Stop::Refused("a line that is no field"));
    }
    let start = value.iter().position(|b| !is_blank(*b)).unwrap_or(value.len());
    Ok((name.to_ascii_lowercase(), trim_end(&value[start..]).to_vec()))
}

/// The members of all lists under a name, empty ones included.
fn all<'a>(fields: &'a Fields, name: &[u8]) -> Vec<&'a [u8]> {
    let lists = fields.iter().filter(|(n, _)| n == name);
    lists.flat_map(|(_, value)| value.split(|b| *b == b',')).map(<[u8]>::trim_ascii).collect()
}

/// The one length that all lines agree on; a list is none, as some readers take its first member.
fn length(fields: &Fields) -> Parse<Option<u64>> {
    let mut found = None;
    for (_, value) in fields.iter().filter(|(name, _)| name == b"content-length") {
        let digits = (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(value).unwrap_or_default();
        let bytes: u64 = match text.parse() {
            Ok(bytes) if digits => bytes,
            _ => return Err(Stop::Refused("no length")),
        };
        if found.is_some_and(|other| other != bytes) {
            return Err(Stop::Refused("two lengths"));
        }
        found = Some(bytes);
    }
    Ok(found)
}

fn closes(fields: &Fields, is_http_11: bool) -> bool {
    let words = all(fields, b"connection");
    let says = |word: &[u8]| words.iter().any(|w| w.eq_ignore_ascii_case(word));
    says(b"close") || !(is_http_11 || says(b"keep-alive"))
}

fn chunk_size(digits: &[u8]) -> Option<u64> {
    let fits = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| fits)?;
    u64::from_str_radix(text, 16).ok()
}

fn trim_end(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|b| !is_blank(*b)).map_or(0, |at| at + 1);
    &value[..end]
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn is_text(byte: u8) -> bool {
    is_blank(byte) || (byte > b' ' && byte != 0x7f)
}

fn is_token(word: &[u8]) -> bool {
    let delimiters = b"\"(),/:;<=>?@[\\]{}";
    !word.is_empty() && word.iter().all(|b| b.is_ascii_graphic() && !delimiters.contains(b))
}
