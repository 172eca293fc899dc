//! The head of an HTTP/1.1 message: bytes in, places of its fields out.
//!
//! Rule: a head means one thing or is refused. Lines end in CR LF, lengths are digits and agree, a transfer coding ends in
//! `chunked`, and what RFC 9112 leaves to taste (both framings in one request) is decided here, once, for every reader. Names
//! are made lower case where they stand, so that everybody after this compares bytes. Nothing is copied: a field is two ranges
//! of the buffer that was read. Syntax is `httparse`'s. Deliberately not here: what a field means to a router
//! (`proxy::headers`), bodies (`chunked`), reading.

use std::fmt;
use std::mem::MaybeUninit;

/// Most fields in one head; hyper takes as many.
pub const MAX_FIELDS: usize = 100;

const LINE_END: &str = "a line that ends in something else than CR LF";

/// A place in the buffer that a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// Where `part`, a slice of `whole`, stands in it.
    fn of(whole: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        Self { start: start as u32, len: part.len() as u32 }
    }

    fn in_bytes(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        bytes.get(start..start + self.len as usize).unwrap_or_default()
    }
}

/// Where the fields of a head are; kept by a connection and used again for each message.
#[derive(Debug, Default)]
pub struct Fields(Vec<[Span; 2]>);

impl Fields {
    /// Name in lower case and value of each field, in order; `bytes` is what the head was parsed from.
    pub fn iter<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.0.iter().map(move |[name, value]| (name.in_bytes(bytes), value.in_bytes(bytes)))
    }

    /// The first value under a name given in lower case.
    pub fn get<'a>(&'a self, bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
        self.iter(bytes).find(|(n, _)| *n == name.as_bytes()).map(|(_, value)| value)
    }

    fn take(&mut self, bytes: &[u8], parsed: &[httparse::Header<'_>]) {
        self.0.clear();
        self.0.extend(parsed.iter().map(|h| [Span::of(bytes, h.name.as_bytes()), Span::of(bytes, h.value)]));
    }

    fn lower_names(&self, bytes: &mut [u8]) {
        for [name, _] in &self.0 {
            bytes[name.start as usize..(name.start + name.len) as usize].make_ascii_lowercase();
        }
    }

    /// Every line of the head ends in CR LF: each field stands behind one, and two end the head. `httparse` takes an LF alone,
    /// which a proxy in front may have taken for a part of a value, and then the two do not see the same fields.
    fn stand_on_lines(&self, bytes: &[u8], head_bytes: usize) -> Result<(), HeadError> {
        let begins_line = |[name, _]: &[Span; 2]| bytes[..name.start as usize].ends_with(b"\r\n");
        if bytes[..head_bytes].ends_with(b"\r\n\r\n") && self.0.iter().all(begins_line) {
            Ok(())
        } else {
            Err(HeadError::Malformed(LINE_END))
        }
    }
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes; 0 for no body.
    Length(u64),
    /// Chunks, the last one empty.
    Chunked,
    /// All that comes until the connection closes (responses alone).
    UntilClose,
}

/// What both kinds of head say about their connection and body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Bytes of the head, the empty line included.
    pub head_bytes: usize,
    /// HTTP/1.1, else 1.0.
    pub is_http_11: bool,
    /// The sender will take or send another message on this connection.
    pub keeps_alive: bool,
    /// Where the body ends.
    pub framing: Framing,
    /// `content-length`, whatever the framing (an answer to HEAD has one and no body).
    pub content_length: Option<u64>,
}

/// A request head.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead {
    /// Connection and body.
    pub message: Message,
    /// A coding other than `chunked` alone was applied to the body.
    pub is_coded: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    method: Span,
    target: Span,
}

impl RequestHead {
    /// The method's bytes.
    pub fn method<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.method.in_bytes(bytes)
    }

    /// The target as it came: a path, a whole URI, `*`, or an authority.
    pub fn target<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.target.in_bytes(bytes)
    }
}

/// A response head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead {
    /// Connection and body.
    pub message: Message,
    /// Status, 100 to 999.
    pub status: u16,
    reason: Span,
}

impl ResponseHead {
    /// The words after the status; empty if there were none.
    pub fn reason<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.reason.in_bytes(bytes)
    }
}

/// Why bytes are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP/1, or it could be read in two ways.
    Malformed(&'static str),
    /// More than [`MAX_FIELDS`] fields.
    TooManyFields,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => f.write_str(what),
            Self::TooManyFields => write!(f, "more than {MAX_FIELDS} header fields"),
        }
    }
}

impl std::error::Error for HeadError {}

fn syntax(error: httparse::Error) -> HeadError {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => HeadError::TooManyFields,
        Error::HeaderName => HeadError::Malformed("a header name with a character that may not be in one"),
        Error::HeaderValue => HeadError::Malformed("a header value with a character that may not be in one"),
        Error::NewLine => HeadError::Malformed(LINE_END),
        Error::Status => HeadError::Malformed("a status line that is none"),
        Error::Token => HeadError::Malformed("a request line that is none"),
        Error::Version => HeadError::Malformed("a version other than HTTP/1.0 and HTTP/1.1"),
    }
}

/// True once `bytes` may hold a whole head: the empty line at its end stands at or after `from`. Parsing only then keeps a
/// sender of single bytes from making the parser start over with each.
pub fn may_be_whole(bytes: &[u8], from: usize) -> bool {
    let from = from.saturating_sub(3);
    bytes.get(from..).is_some_and(|new| {
        new.iter().enumerate().any(|(i, b)| {
            *b == b'\n' && (new[i + 1..].starts_with(b"\n") || new[i + 1..].starts_with(b"\r\n"))
        })
    })
}

/// Parses a request head at the start of `bytes`; `None` if it is not whole yet.
pub fn request(bytes: &mut [u8], fields: &mut Fields) -> Result<Option<RequestHead>, HeadError> {
    let mut room = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let httparse::Status::Complete(head_bytes) =
        parsed.parse_with_uninit_headers(bytes, &mut room).map_err(syntax)?
    else {
        return Ok(None);
    };
    let is_http_11 = parsed.version == Some(1);
    let method = Span::of(bytes, parsed.method.unwrap_or_default().as_bytes());
    let target = Span::of(bytes, parsed.path.unwrap_or_default().as_bytes());
    fields.take(bytes, parsed.headers);
    fields.stand_on_lines(bytes, head_bytes)?;
    fields.lower_names(bytes);
    let said = Said::gather(fields, bytes)?;
    let framing = match (said.chunked, said.content_length) {
        _ if said.coded && !said.chunked => {
            return Err(HeadError::Malformed("a transfer coding that does not end in chunked"));
        }
        (true, _) if !is_http_11 => {
            return Err(HeadError::Malformed("a transfer coding in an HTTP/1.0 request"));
        }
        (true, _) => Framing::Chunked,
        (false, length) => Framing::Length(length.unwrap_or(0)),
    };
    // Two framings in one request, or a coding that the next reader may not know, are attempts to be read in two ways: the
    // chunks count, and nothing after them does.
    let ambiguous = said.coded || (said.chunked && said.content_length.is_some());
    let message = Message {
        head_bytes,
        is_http_11,
        keeps_alive: said.keeps_alive(is_http_11) && !ambiguous,
        framing,
        content_length: said.content_length,
    };
    Ok(Some(RequestHead {
        message,
        is_coded: said.coded,
        expects_continue: said.expects_continue && is_http_11,
        method,
        target,
    }))
}

/// Parses a response head at the start of `bytes`; `None` if it is not whole yet. `to_head` is true of an answer to a HEAD
/// request, which has no body whatever it says.
pub fn response(
    bytes: &mut [u8],
    fields: &mut Fields,
    to_head: bool,
) -> Result<Option<ResponseHead>, HeadError> {
    let mut room = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let httparse::Status::Complete(head_bytes) = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, bytes, &mut room)
        .map_err(syntax)?
    else {
        return Ok(None);
    };
    let is_http_11 = parsed.version == Some(1);
    let status = parsed.code.unwrap_or_default();
    if status < 100 {
        return Err(HeadError::Malformed("a status below 100"));
    }
    let reason = Span::of(bytes, parsed.reason.unwrap_or_default().as_bytes());
    fields.take(bytes, parsed.headers);
    fields.stand_on_lines(bytes, head_bytes)?;
    fields.lower_names(bytes);
    let said = Said::gather(fields, bytes)?;
    let bodiless = to_head || matches!(status, 100..=199 | 204 | 304);
    let framing = match (said.chunked, said.content_length) {
        _ if bodiless => Framing::Length(0),
        _ if said.coded => return Err(HeadError::Malformed("a transfer coding other than chunked")),
        (true, _) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    };
    // As of requests: what frames a body in two ways is the last that is read on its connection. HTTP/1.0 has no codings, and
    // who announces a body with a 204 may send one.
    let announced = said.chunked || said.content_length.is_some_and(|bytes| bytes > 0);
    let ambiguous = (said.chunked && (said.content_length.is_some() || !is_http_11))
        || said.coded
        || (status == 204 && announced);
    let message = Message {
        head_bytes,
        is_http_11,
        keeps_alive: said.keeps_alive(is_http_11) && framing != Framing::UntilClose && !ambiguous,
        framing,
        // 204 has none (RFC 9110, 8.6); a client might wait for what it announces.
        content_length: said.content_length.filter(|_| status != 204),
    };
    Ok(Some(ResponseHead { message, status, reason }))
}

/// What the fields that frame a message say.
#[expect(clippy::struct_excessive_bools, reason = "each is a word that a field holds or not")]
#[derive(Default)]
struct Said {
    content_length: Option<u64>,
    chunked: bool,
    coded: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Said {
    fn gather(fields: &Fields, bytes: &[u8]) -> Result<Self, HeadError> {
        let mut said = Self::default();
        for (name, value) in fields.iter(bytes) {
            match name {
                b"content-length" => {
                    let length = length(value)
                        .ok_or(HeadError::Malformed("a content-length that is not a number of bytes"))?;
                    if said.content_length.is_some_and(|other| other != length) {
                        return Err(HeadError::Malformed("two lengths that differ"));
                    }
                    said.content_length = Some(length);
                }
                b"transfer-encoding" => {
                    // Of several fields or codings the last one frames; any other beside it is a coding of the bytes.
                    said.coded |= said.chunked || !value.eq_ignore_ascii_case(b"chunked");
                    said.chunked = last_coding(value).eq_ignore_ascii_case(b"chunked");
                }
                b"connection" => {
                    for token in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                        said.close |= token.eq_ignore_ascii_case(b"close");
                        said.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                b"expect" => said.expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
                _ => {}
            }
        }
        Ok(said)
    }

    fn keeps_alive(&self, is_http_11: bool) -> bool {
        !self.close && (is_http_11 || self.keep_alive)
    }
}

fn last_coding(value: &[u8]) -> &[u8] {
    value.rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii()
}

/// Digits and nothing else; a sign, a blank or a list is how one length is made to look like another.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    value.iter().try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
