//! Request lines: their words, their targets, their versions.

use crate::table::{Class, GARDEN, PORTSWIGGER, PROBE, RFC};

/// Three words with a blank between each, of which a worker gets a path.
pub fn class() -> Class {
    let mut class = Class::new("Request lines");
    for (line, source) in REFUSED.iter().copied() {
        let shown = line.escape_default().to_string();
        class.refused(&shown, source, format!("{line}\r\nhost: r\r\n\r\n"));
    }
    // Its target is no UTF-8, which a table of texts cannot say.
    class.refused("GET /\\xa0 HTTP/1.1", PROBE, &b"GET /\xa0 HTTP/1.1\r\nhost: r\r\n\r\n"[..]);
    class.refused("PRI * HTTP/2.0, SM", PROBE, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    class.refused("a TLS greeting", PROBE, &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..]);
    class.is(
        "a method of 200 kB",
        PROBE,
        format!("{} / HTTP/1.1\r\nhost: r\r\n\r\n", "A".repeat(200_000)),
        "431, closed",
        "nothing",
    );
    class.is(
        "a target of 200 kB",
        PROBE,
        format!("GET /{} HTTP/1.1\r\nhost: r\r\n\r\n", "a".repeat(200_000)),
        "431, closed",
        "nothing",
    );
    for (line, told, source) in UNFIT.iter().copied() {
        let shown = line.escape_default().to_string();
        class.is(&shown, source, format!("{line}\r\nhost: r\r\n\r\n"), told, "nothing");
    }
    for (line, worker, source) in FIT.iter().copied() {
        let shown = line.escape_default().to_string();
        class.passed(
            &shown,
            source,
            format!("{line}\r\nhost: r\r\n\r\n"),
            &format!("{worker} HTTP/1.1\r\n\r\n"),
        );
    }
    class.passed(
        "get /first HTTP/1.1: a method of its own",
        PROBE,
        "get /first HTTP/1.1\r\nhost: r\r\ncontent-length: 5\r\n\r\nhello",
        "get /first HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello",
    );
    class.last(
        "HTTP/1.0 without a Host",
        RFC,
        "POST /first HTTP/1.0\r\ncontent-length: 5\r\n\r\nhello",
        "POST /first HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello",
    );
    class
}

/// No request line: the connection ends.
const REFUSED: &[(&str, &str)] = &[
    ("GET /first", GARDEN),
    ("GET /first HTTP/0.9", GARDEN),
    ("GET /first HTTP/1.2", PROBE),
    ("GET /first HTTP/1.32", GARDEN),
    ("GET /first HTTP/1", PROBE),
    ("GET /first HTTP/1.", PROBE),
    ("GET /first HTTP/01.1", PROBE),
    ("GET /first HTTP/1.01", PROBE),
    ("GET /first HTTP/2.0", PROBE),
    ("GET /first HTTP/3.0", PROBE),
    ("GET /first HTTP /1.1", PROBE),
    ("GET /first HTTP/ 1.1", PROBE),
    ("GET /first http/1.1", PROBE),
    ("GET /first HTTPS/1.1", PROBE),
    ("GET /first HTTP/4294967295.255", GARDEN),
    ("GET /first HTTP/\r\r1.1", GARDEN),
    ("GET /first\nHTTP/1.1", GARDEN),
    ("GET /first HTTP/1.1 ", PROBE),
    ("GET /first HTTP/1.1 HTTP/1.1", PORTSWIGGER),
    ("GET  /first HTTP/1.1", PROBE),
    ("GET /first  HTTP/1.1", PROBE),
    ("GET\t/first HTTP/1.1", PROBE),
    ("GET /first\tHTTP/1.1", PROBE),
    ("GET\x0b/first HTTP/1.1", PROBE),
    ("GET /first\x0cHTTP/1.1", PROBE),
    ("GET /fi rst HTTP/1.1", PROBE),
    ("GET /fi\0rst HTTP/1.1", PROBE),
    ("GET /fi\u{7f}rst HTTP/1.1", PROBE),
    ("GET HTTP/1.1", PROBE),
    (" GET /first HTTP/1.1", PROBE),
    ("\tGET /first HTTP/1.1", PROBE),
    ("   ", PROBE),
    ("G(T /first HTTP/1.1", GARDEN),
    ("G=\":<>(e),[T];?\" /first HTTP/1.1", GARDEN),
    ("\0 /first HTTP/1.1", GARDEN),
    ("GET: /first HTTP/1.1", PROBE),
];

/// A request line whose target or method is not proxied; what is behind it is another request.
const UNFIT: &[(&str, &str, &str)] = &[
    ("GET first HTTP/1.1", "400, then the next", PROBE),
    ("GET ! HTTP/1.1", "400, then the next", GARDEN),
    ("GET r:80 HTTP/1.1", "400, then the next", RFC),
    ("GET * HTTP/1.1", "400, then the next", PROBE),
    ("GET ?x HTTP/1.1", "400, then the next", RFC),
    ("GET http:// HTTP/1.1", "400, then the next", RFC),
    ("GET http:///first HTTP/1.1", "400, then the next", RFC),
    ("GET @evil/first HTTP/1.1", "400, then the next", PORTSWIGGER),
    ("CONNECT evil:443 HTTP/1.1", "501, then the next", PROBE),
    ("CONNECT /first HTTP/1.1", "501, then the next", PROBE),
    ("TRACE /first HTTP/1.1", "501, then the next", PROBE),
];

/// A request line, and that of the worker.
const FIT: &[(&str, &str, &str)] = &[
    ("GET //first HTTP/1.1", "GET //first", PORTSWIGGER),
    ("GET /../first HTTP/1.1", "GET /../first", PORTSWIGGER),
    ("GET /%2e%2e%2ffirst HTTP/1.1", "GET /%2e%2e%2ffirst", PORTSWIGGER),
    ("GET /first%0d%0ax:y HTTP/1.1", "GET /first%0d%0ax:y", PORTSWIGGER),
    ("GET /first#x HTTP/1.1", "GET /first", PROBE),
    ("GET /first?x#y HTTP/1.1", "GET /first?x", PROBE),
    ("GET /\\first HTTP/1.1", "GET /\\first", PORTSWIGGER),
    ("GET /fi\u{a0}rst HTTP/1.1", "GET /fi%C2%A0rst", GARDEN),
    ("GET http://r/first HTTP/1.1", "GET /first", RFC),
    ("GET http://evil/first HTTP/1.1", "GET /first", PROBE),
    ("GET HTTP://EVIL:1/first?x HTTP/1.1", "GET /first?x", RFC),
    ("GET http://u:p@evil/first HTTP/1.1", "GET /first", PORTSWIGGER),
    ("GET http://evil?x HTTP/1.1", "GET /?x", RFC),
    ("GET http://evil HTTP/1.1", "GET /", RFC),
    ("OPTIONS * HTTP/1.1", "OPTIONS *", RFC),
];
