//! The lines of a head that is being written.
//!
//! Rule: names and values come from a parsed head, from `http`'s types or from constants, so none of them can hold a line end.
//! Deliberately not here: which fields.

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Uri};

use super::coding::Coding;
use crate::buffer::Buffer;

/// `POST /generate HTTP/1.1`.
pub fn request_line(out: &mut Buffer, method: &[u8], target: &[u8]) {
    out.push(method);
    out.push(b" ");
    out.push(target);
    out.push(b" HTTP/1.1\r\n");
}

/// A whole request head of `http`'s types; `body_bytes` where it says how long its body is.
pub fn request_head<'a>(
    method: &Method,
    uri: &Uri,
    fields: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    body_bytes: Option<u64>,
) -> Buffer {
    let mut out = Buffer::with_room(512);
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    request_line(&mut out, method.as_str().as_bytes(), target.as_bytes());
    for (name, value) in fields {
        field(&mut out, name.as_str().as_bytes(), value.as_bytes());
    }
    if let Some(bytes) = body_bytes {
        content_length(&mut out, bytes);
    }
    end(&mut out);
    out
}

/// `HTTP/1.1 200 OK`.
pub fn status_line(out: &mut Buffer, is_http_11: bool, status: u16, reason: &[u8]) {
    out.push(if is_http_11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " });
    out.push(&[100, 10, 1].map(|unit| b'0' + (status / unit % 10) as u8));
    out.push(b" ");
    out.push(reason);
    out.push(b"\r\n");
}

/// One field.
#[inline]
pub fn field(out: &mut Buffer, name: &[u8], value: &[u8]) {
    out.push(name);
    out.push(b": ");
    out.push(value);
    out.push(b"\r\n");
}

/// One field with a moment in it, as Unix seconds.
#[inline]
pub fn unix_seconds(out: &mut Buffer, name: &str, unix_ns: u64) {
    out.push(name.as_bytes());
    out.push(b": ");
    out.push_unix_seconds(unix_ns);
    out.push(b"\r\n");
}

/// `content-length`.
pub fn content_length(out: &mut Buffer, bytes: u64) {
    out.push(b"content-length: ");
    out.push_u64(bytes);
    out.push(b"\r\n");
}

/// What frames the body of an answer and says whether the connection goes on, and the end of the head. `length` is the body's
/// where it is known.
pub fn framing(out: &mut Buffer, coding: Coding, length: Option<u64>, keeps_alive: bool, is_http_11: bool) {
    if coding.is_chunked() {
        field(out, b"transfer-encoding", b"chunked");
    } else if let Some(bytes) = length.filter(|_| coding == Coding::Length) {
        content_length(out, bytes);
    }
    match (keeps_alive, is_http_11) {
        (false, true) => field(out, b"connection", b"close"),
        (true, false) => field(out, b"connection", b"keep-alive"),
        _ => {}
    }
    end(out);
}

/// The empty line that ends a head.
pub fn end(out: &mut Buffer) {
    out.push(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_they_say() {
        let mut out = Buffer::default();
        request_line(&mut out, b"POST", b"/x?y");
        status_line(&mut out, true, 404, b"Not Found");
        status_line(&mut out, false, 200, b"");
        field(&mut out, b"a", b"b c");
        content_length(&mut out, 120);
        end(&mut out);
        let wanted = "POST /x?y HTTP/1.1\r\nHTTP/1.1 404 Not Found\r\nHTTP/1.0 200 \r\na: b c\r\ncontent-length: 120\r\n\r\n";
        assert_eq!(String::from_utf8(out.as_bytes().to_vec()).unwrap(), wanted);
    }
}
