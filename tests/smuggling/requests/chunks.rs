//! Chunks: their sizes, their lines, and what follows the last one.

use crate::table::{Class, GARDEN, PORTSWIGGER, PROBE, RFC, chunked, received};

/// Hex digits and nothing before or between them.
pub fn sizes() -> Class {
    let mut class = Class::new("Chunk sizes");
    for (size, source) in BAD_SIZES.iter().copied() {
        let body = format!("{size}\r\nhello\r\n0\r\n\r\n");
        class.refused(&size.escape_default().to_string(), source, chunked(&body));
    }
    for (name, size, source) in [
        ("leading zeros", "005", RFC),
        ("blanks behind it", "5 \t", PROBE),
        ("an extension", "5;x=y", PROBE),
        ("an extension, blanks about", "5 ; x = y", RFC),
        ("an extension in quotes", "5;x=\";\\\"\"", PORTSWIGGER),
        ("an extension without a name", "5;", PROBE),
        ("an extension beyond ASCII", "5;\u{e9}", PROBE),
    ] {
        class.passed(name, source, chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")), &received("hello"));
    }
    class.passed(
        "letters in either case",
        RFC,
        chunked("B\r\nhello world\r\nb\r\nhello world\r\n0\r\n\r\n"),
        &received("hello worldhello world"),
    );
    class.is(
        "a size that nothing fills",
        PORTSWIGGER,
        chunked("fff\r\nhello\r\n0\r\n\r\n"),
        "408, closed",
        "nothing",
    );
    class.is(
        "a size over the limit of bodies",
        PROBE,
        chunked("fffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        "408, closed",
        "nothing",
    );
    class.refused(
        "an extension of 100 kB",
        PROBE,
        chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(100_000))),
    );
    class
}

/// CR LF, everywhere.
pub fn lines() -> Class {
    let mut class = Class::new("Lines of chunks");
    for (name, body, source) in BAD_LINES.iter().copied() {
        class.refused(name, source, chunked(body));
    }
    class.is("no last chunk, then a request", PROBE, chunked("5\r\nhello\r\n"), "400, closed", "nothing");
    class
}

/// Fields, which are read and go no further.
pub fn trailers() -> Class {
    let mut class = Class::new("Trailers");
    let with = |trailers: &str| chunked(&format!("5\r\nhello\r\n0\r\n{trailers}\r\n"));
    for (line, source) in [
        ("content-length: 50", PROBE),
        ("transfer-encoding: chunked", PROBE),
        ("host: evil", PROBE),
        ("authorization: Bearer evil", PROBE),
        ("content-type: text/evil", PROBE),
        ("x-request-id: evil", RFC),
        ("connection: close", RFC),
        ("X:POST / HTTP/1.1", GARDEN),
    ] {
        class.passed(line, source, with(&format!("{line}\r\n")), &received("hello"));
    }
    for (name, lines, source) in [
        ("a request line", "GET /hidden HTTP/1.1\r\n", GARDEN),
        ("a request line with a colon", "GET http://r/hidden HTTP/1.1\r\n", GARDEN),
        ("no colon", "x\r\n", RFC),
        ("no name", ": x\r\n", RFC),
        ("a blank before the colon", "x : y\r\n", RFC),
        ("a folded line", "x: y\r\n z\r\n", RFC),
        ("LF", "x: y\n", PROBE),
        ("LF between two", "x: y\nz: z\r\n", PROBE),
        ("CR in a value", "x: y\rz: z\r\n", RFC),
        ("NUL in a value", "x: \0\r\n", RFC),
    ] {
        class.refused(name, source, with(lines));
    }
    class.refused("trailers of 100 kB", RFC, with(&format!("x: {}\r\n", "y".repeat(100_000))));
    class
}

const BAD_SIZES: &[(&str, &str)] = &[
    ("0x5", PROBE),
    ("+5", PROBE),
    ("-5", PROBE),
    ("-1", PROBE),
    ("-0x0", GARDEN),
    ("5_0", PROBE),
    ("0_2e", GARDEN),
    (" 5", PROBE),
    ("\t5", PROBE),
    ("           5", GARDEN),
    ("5 5", PROBE),
    ("5,5", PROBE),
    ("5.", PROBE),
    ("g", PROBE),
    ("5these-bytes-never-get-validated", GARDEN),
    ("", GARDEN),
    (";x", PROBE),
    ("\"5\"", PROBE),
    ("5\0", PROBE),
    ("5\u{a0}", GARDEN),
    ("\u{0665}", PROBE),
    ("5\x0b", PROBE),
    ("INVALID!!!", GARDEN),
    ("10000000000000005", PROBE),
    ("ffffffffffffffff5", PROBE),
    ("0000000000000005", PROBE),
];

const BAD_LINES: &[(&str, &str, &str)] = &[
    ("LF behind the size", "5\nhello\r\n0\r\n\r\n", PROBE),
    ("CR behind the size", "5\rhello\r\n0\r\n\r\n", PROBE),
    ("CR CR behind the size", "5\r\rhello\r\n0\r\n\r\n", GARDEN),
    ("CR before an extension", "5\r;x\r\nhello\r\n0\r\n\r\n", GARDEN),
    ("LF in an extension (TERM.EXT)", "5;\nx\r\nhello\r\n0\r\n\r\n", PORTSWIGGER),
    ("LF at the end of an extension (EXT.TERM)", "5;x\nhello\r\n0\r\n\r\n", PORTSWIGGER),
    ("CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n", PROBE),
    ("CR CR at the end of an extension", "5;a=b\r\rhello\r\n0\r\n\r\n", GARDEN),
    ("CR LF within quotes", "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n", PORTSWIGGER),
    ("LF within quotes", "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", PORTSWIGGER),
    ("NUL in an extension", "5;\0\r\nhello\r\n0\r\n\r\n", PROBE),
    ("a vertical tab in an extension", "5;\x0b\r\nhello\r\n0\r\n\r\n", PROBE),
    ("LF behind the data", "5\r\nhello\n0\r\n\r\n", PROBE),
    ("CR behind the data", "5\r\nhello\r0\r\n\r\n", PROBE),
    ("nothing behind the data", "5\r\nhello0\r\n\r\n", PROBE),
    ("more data than its size (SPILL)", "5\r\nhello12\r\n0\r\n\r\n", PROBE),
    ("two bytes for CR LF", "5\r\nhelloXX0\r\n\r\n", GARDEN),
    ("less data than its size", "7\r\nhello\r\n0\r\n\r\n", PORTSWIGGER),
    ("an empty line between chunks", "5\r\nhello\r\n\r\n0\r\n\r\n", GARDEN),
    ("LF behind the last size", "5\r\nhello\r\n0\n\r\n", PROBE),
    ("LF at the end", "5\r\nhello\r\n0\r\n\n", PROBE),
    ("CR at the end", "5\r\nhello\r\n0\r\n\rX", GARDEN),
    ("two bytes for the end", "5\r\nhello\r\n0\r\nXX", GARDEN),
];
