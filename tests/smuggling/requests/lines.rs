//! The lines of a head: their ends, their names, their values.

use crate::table::{Class, GARDEN, PORTSWIGGER, PROBE, RFC, post, received};

/// CR LF at every end, a token before every colon, text behind it.
pub fn class() -> Class {
    let mut class = Class::new("Lines of a head");
    for (name, bytes, source) in REFUSED.iter().copied() {
        class.refused(name, source, bytes);
    }
    class.is("101 fields", RFC, post(&"a: b\r\n".repeat(100), ""), "431, closed", "nothing");
    class.is(
        "a field of 200 kB",
        PROBE,
        post(&format!("a: {}\r\n", "b".repeat(200_000)), ""),
        "431, closed",
        "nothing",
    );
    class.is(
        "a name of 200 kB",
        PROBE,
        post(&format!("{}: b\r\n", "a".repeat(200_000)), ""),
        "431, closed",
        "nothing",
    );
    let get = |fields: &[u8]| [b"GET /first HTTP/1.1\r\nhost: r\r\n", fields, b"\r\n"].concat();
    let plain = "GET /first HTTP/1.1\r\n\r\n";
    class.passed("an empty value", RFC, get(b"x:\r\n"), plain);
    class.passed(
        "\\xa0 about a value stays",
        GARDEN,
        get("user-agent: \u{a0}x\u{a0}\r\n".as_bytes()),
        "GET /first HTTP/1.1\r\nuser-agent: \u{a0}x\u{a0}\r\n\r\n",
    );
    class.passed(
        "an empty line before it",
        PROBE,
        [b"\r\n", &post("content-length: 5\r\n", "hello")[..]].concat(),
        &received("hello"),
    );
    class.passed("empty lines, one an LF", RFC, [b"\r\n\n\r\n", &get(b"")[..]].concat(), plain);
    class.passed(
        "an empty line behind the body",
        PORTSWIGGER,
        post("content-length: 5\r\n", "hello\r\n"),
        &received("hello"),
    );
    class.refused("CR and no LF before it", PROBE, [b"\r", &get(b"")[..]].concat());
    class.is("NUL behind it", GARDEN, [&get(b"")[..], b"\0"].concat(), "200, 400, closed", plain);
    class
}

const REFUSED: &[(&str, &[u8], &str)] = &[
    ("LF everywhere", b"POST /first HTTP/1.1\nhost: r\ncontent-length: 5\n\nhello", GARDEN),
    ("LF behind the request line", b"GET /first HTTP/1.1\nhost: r\r\n\r\n", PROBE),
    ("LF behind a field", b"GET /first HTTP/1.1\r\nhost: r\nx: y\r\n\r\n", PROBE),
    ("LF at the end", b"GET /first HTTP/1.1\r\nhost: r\r\n\n", PROBE),
    ("LF before the empty line", b"GET /first HTTP/1.1\r\nhost: r\n\r\n", PROBE),
    (
        "LF behind an empty value",
        b"GET /first HTTP/1.1\r\nhost: r\r\nx:\n\nGET /hidden HTTP/1.1\r\n\r\n",
        GARDEN,
    ),
    ("CR everywhere", b"GET /first HTTP/1.1\rhost: r\r\r", PROBE),
    ("CR in a value", b"GET /first HTTP/1.1\r\nhost: r\r\nx: y\rz: z\r\n\r\n", PROBE),
    ("CR before a name", b"GET /first HTTP/1.1\r\nhost: r\r\n\rx: y\r\n\r\n", GARDEN),
    (
        "CR for the end",
        b"GET /first HTTP/1.1\r\nhost: r\r\n\rZGET /hidden: HTTP/1.1\r\nhost: r\r\n\r\n",
        GARDEN,
    ),
    ("CR CR LF", b"GET /first HTTP/1.1\r\nhost: r\r\r\n\r\n", PROBE),
    ("NUL in a value", b"GET /first HTTP/1.1\r\nhost: r\r\nx: \0\r\n\r\n", GARDEN),
    ("NUL and CR in a value", b"GET /first HTTP/1.1\r\nhost: r\r\nx: v\0\ralue\r\n\r\n", GARDEN),
    ("NUL in a line of its own", b"GET /first HTTP/1.1\r\nhost: r\r\na:b\r\nc\0\r\n\r\n", GARDEN),
    ("control characters in a value", b"GET /first HTTP/1.1\r\nhost: r\r\nx: \x01\x08\x1f\r\n\r\n", PROBE),
    ("DEL in a value", b"GET /first HTTP/1.1\r\nhost: r\r\nx: \x7f\r\n\r\n", PROBE),
    ("a folded line", b"GET /first HTTP/1.1\r\nhost: r\r\nx: y\r\n z\r\n\r\n", PROBE),
    ("a folded line by a tab", b"GET /first HTTP/1.1\r\nhost: r\r\nx: y\r\n\tz\r\n\r\n", PROBE),
    ("a blank before the first field", b"GET /first HTTP/1.1\r\n host: r\r\n\r\n", PROBE),
    ("a tab before the first field", b"GET /first HTTP/1.1\r\n\thost: r\r\n\r\n", GARDEN),
    ("a line of blanks", b"GET /first HTTP/1.1\r\nhost: r\r\n  \r\n\r\n", PROBE),
    ("no name", b"GET /first HTTP/1.1\r\n: x\r\nhost: r\r\n\r\n", GARDEN),
    ("nothing but a colon", b"GET /first HTTP/1.1\r\nhost: r\r\n:\r\n\r\n", GARDEN),
    ("no colon", b"GET /first HTTP/1.1\r\nhost: r\r\nTe\r\n\r\n", GARDEN),
    ("a bracket in a name", b"GET /first HTTP/1.1\r\nhost: r\r\nx[]: y\r\n\r\n", PROBE),
    ("quotes in a name", b"GET /first HTTP/1.1\r\nhost: r\r\n\"x\": y\r\n\r\n", GARDEN),
    ("a name beyond ASCII", b"GET /first HTTP/1.1\r\nhost: r\r\n\xefoo: y\r\n\r\n", GARDEN),
    ("NUL in a name", b"GET /first HTTP/1.1\r\nhost: r\r\nx\0: y\r\n\r\n", GARDEN),
];
