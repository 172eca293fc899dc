//! The mutations of smuggler: a byte in each place about `Transfer-Encoding: chunked`, before a length that says otherwise.

use std::ops::RangeInclusive;

use crate::table::{Family, SMUGGLER};

/// What a worker gets where the chunks count.
const CHUNKS: &str = "POST /first?cb=1 HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello";
/// What it gets where the line is another field, and the length counts.
const LENGTH: &str = "POST /first?cb=1 HTTP/1.1\r\ncontent-length: 15\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

const COUNT: &str = "200, closed";
const IGNORED: &str = "200, then the next";
const BLANKS: &[u8] = b"\t ";
const ALL: &[RangeInclusive<u8>] = &[0x00..=0x20, 0x7f..=0xff];
/// Within a value a blank or a byte beyond ASCII is a part of it.
const TEXT: &[u8] = &{
    let mut bytes = [b' '; 130];
    bytes[0] = b'\t';
    let mut at = 0;
    while at < 128 {
        bytes[2 + at] = 0x80 + at as u8;
        at += 1;
    }
    bytes
};

/// The template of the tool, its two fields without meaning left out.
fn with(gadget: &[&[u8]]) -> Vec<u8> {
    let rest = b"\r\nHost: r\r\nContent-Length: 15\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    [b"POST /first?cb=1 HTTP/1.1\r\n", &gadget.concat()[..], rest].concat()
}

const fn family(
    name: &'static str,
    make: fn(u8) -> Vec<u8>,
    but: &'static [(&'static [u8], &'static str, &'static str)],
) -> Family {
    Family { name, source: SMUGGLER, make, bytes: ALL, but }
}

/// All of them.
pub fn families() -> Vec<Family> {
    const TE: &[u8] = b"Transfer-Encoding";
    const BLANK: &[(&[u8], &str, &str)] = &[(BLANKS, COUNT, CHUNKS)];
    const LF: &[(&[u8], &str, &str)] = &[(b"\n", COUNT, CHUNKS)];
    const CR: &[(&[u8], &str, &str)] = &[(b"\r", COUNT, CHUNKS)];
    vec![
        family("Transfer-Encoding:<b>chunked", |b| with(&[TE, b":", &[b], b"chunked"]), BLANK),
        family("Transfer-Encoding<b>: chunked", |b| with(&[TE, &[b], b": chunked"]), &[]),
        family("<b>Transfer-Encoding: chunked", |b| with(&[&[b], TE, b": chunked"]), &[]),
        family("Transfer-Encoding: chunked<b>", |b| with(&[TE, b": chunked", &[b]]), BLANK),
        family(
            "X: X<b>Transfer-Encoding: chunked",
            |b| with(&[b"X: X", &[b], TE, b": chunked"]),
            &[(TEXT, IGNORED, LENGTH)],
        ),
        family("Transfer-Encoding: chunked<b>X: X", |b| with(&[TE, b": chunked", &[b], b"X: X"]), &[]),
        family("X: X\\r<b>Transfer-Encoding: chunked", |b| with(&[b"X: X\r", &[b], TE, b": chunked"]), LF),
        family(
            "X: X<b>\\nTransfer-Encoding: chunked",
            |b| with(&[b"X: X", &[b], b"\n", TE, b": chunked"]),
            CR,
        ),
        family("Transfer-Encoding: chunked\\r<b>X: X", |b| with(&[TE, b": chunked\r", &[b], b"X: X"]), LF),
        family("Transfer-Encoding: chunked<b>\\nX: X", |b| with(&[TE, b": chunked", &[b], b"\nX: X"]), CR),
        family("<b>Transfer-Encoding<b>: chunked", |b| with(&[&[b], TE, &[b], b": chunked"]), &[]),
        family("<b>Transfer-Encoding:<b>chunked", |b| with(&[&[b], TE, b":", &[b], b"chunked"]), &[]),
        family("<b>Transfer-Encoding: chunked<b>", |b| with(&[&[b], TE, b": chunked", &[b]]), &[]),
        family("Transfer-Encoding<b>:<b>chunked", |b| with(&[TE, &[b], b":", &[b], b"chunked"]), &[]),
        family("Transfer-Encoding<b>: chunked<b>", |b| with(&[TE, &[b], b": chunked", &[b]]), &[]),
        family("Transfer-Encoding:<b>chunked<b>", |b| with(&[TE, b":", &[b], b"chunked", &[b]]), BLANK),
    ]
}
