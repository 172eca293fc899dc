//! A length and chunks in one request: CL.TE, TE.CL and their variants.

use crate::table::{Class, PORTSWIGGER, PROBE, post, received};

const TE: &str = "transfer-encoding: chunked\r\n";
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: r\r\n\r\n";

/// The chunks count, and nothing behind them is read.
pub fn class() -> Class {
    let mut class = Class::new("A length and chunks (CL.TE, TE.CL)");
    let hello = "5\r\nhello\r\n0\r\n\r\n";
    let both = |length: usize, body: &str| post(&format!("content-length: {length}\r\n{TE}"), body);
    let reversed = |length: usize, body: &str| post(&format!("{TE}content-length: {length}\r\n"), body);
    class.last("both, and both right", PROBE, both(hello.len(), hello), &received("hello"));
    class.last("CL.TE: a prefix behind the last chunk", PORTSWIGGER, both(6, "0\r\n\r\nG"), &received(""));
    class.last(
        "CL.TE: a whole request behind the last chunk",
        PORTSWIGGER,
        both(5 + HIDDEN.len(), &format!("0\r\n\r\n{HIDDEN}")),
        &received(""),
    );
    class.last(
        "CL.TE: chunks longer than the length",
        PORTSWIGGER,
        both(4, "1\r\nA\r\n0\r\n\r\n"),
        &received("A"),
    );
    class.last("CL.TE, the coding first", PORTSWIGGER, reversed(6, "0\r\n\r\nG"), &received(""));
    let smuggled = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    class.last("TE.CL: a request within a chunk", PORTSWIGGER, both(4, &smuggled), &received(HIDDEN));
    class.last("TE.CL, the coding first", PORTSWIGGER, reversed(4, &smuggled), &received(HIDDEN));
    class.last("a length of 0 and chunks", PORTSWIGGER, both(0, hello), &received("hello"));
    class.last(
        "the same as HEAD",
        PROBE,
        format!("HEAD /first HTTP/1.1\r\nhost: r\r\ncontent-length: 6\r\n{TE}\r\n0\r\n\r\nG"),
        "HEAD /first HTTP/1.1\r\n\r\n",
    );
    class.is(
        "chunks that have not ended where the length ends",
        PORTSWIGGER,
        both(3, "1\r\nZ\r\nQ\r\n\r\n"),
        "400, closed",
        "nothing",
    );
    class.refused("and a length that is none", PROBE, post(&format!("content-length: 5x\r\n{TE}"), hello));
    class.refused(
        "and two lengths that differ",
        PROBE,
        post(&format!("content-length: 5\r\ncontent-length: 6\r\n{TE}"), hello),
    );
    class.refused(
        "in HTTP/1.0",
        PROBE,
        format!("POST /first HTTP/1.0\r\nhost: r\r\nconnection: keep-alive\r\ncontent-length: 5\r\n{TE}\r\n{hello}"),
    );
    class
}
