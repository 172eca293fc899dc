//! Lengths that are none, or more than one.

use crate::table::{Class, GARDEN, PORTSWIGGER, PROBE, RFC, SECOND, post, received};

/// Digits that agree, and nothing else.
pub fn class() -> Class {
    let mut class = Class::new("Lengths");
    let line = |value: &str| post(&format!("content-length:{value}\r\n"), "hello");
    for (value, source) in REFUSED.iter().copied() {
        class.refused(&format!("content-length:{}", value.escape_default()), source, line(value));
    }
    for (name, value, source) in [
        ("more blanks before it", "   5", PROBE),
        ("a tab before it", "\t5", PROBE),
        ("blanks behind it", " 5 \t ", PROBE),
        ("no blank before it", "5", RFC),
        ("leading zeros, which are not octal", " 005", PROBE),
    ] {
        class.passed(name, source, line(value), &received("hello"));
    }
    let octal = post("content-length: 010\r\n", "0123456789");
    class.passed("010 is ten", GARDEN, octal, &received("0123456789"));
    class.passed("00", PROBE, post("content-length: 00\r\n", ""), &received(""));
    let two = |a: &str, b: &str| post(&format!("content-length: {a}\r\nContent-Length: {b}\r\n"), "hello");
    class.passed("two lines that agree", RFC, two("5", "5"), &received("hello"));
    class.passed("two lines that agree, spelt differently", RFC, two("5", "05"), &received("hello"));
    for (a, b) in [("5", "0"), ("0", "5"), ("", "5"), ("5", ""), ("5", "5, 5")] {
        class.refused(&format!("two lines: {a:?} and {b:?}"), GARDEN, two(a, b));
    }
    class.refused("a blank before the colon", GARDEN, post("content-length : 5\r\n", "hello"));
    class.refused("a tab before the colon", PROBE, post("content-length\t: 5\r\n", "hello"));
    class.refused("no colon", GARDEN, post("content-length 5\r\n", "hello"));
    class.refused(
        "\\x85 in the name",
        GARDEN,
        [&b"POST /first HTTP/1.1\r\nhost: r\r\ncontent-length\x85: 5\r\n\r\nhello"[..]].concat(),
    );
    class.passed(
        "content_length is another field",
        PROBE,
        post("content-length: 5\r\ncontent_length: 99\r\n", "hello"),
        &received("hello"),
    );
    let prefix = format!("content-length: {}\r\n", 5 + SECOND.len());
    class.is(
        "a length that takes the request behind in",
        PORTSWIGGER,
        post(&prefix, "hello"),
        "200, closed",
        &received(&format!("hello{SECOND}")),
    );
    class.is(
        "a length that nothing fills",
        PORTSWIGGER,
        post("content-length: 4000\r\n", "x"),
        "408, closed",
        "nothing",
    );
    class.is(
        "a length over the limit of bodies",
        PROBE,
        post("content-length: 9223372036854775807\r\n", "x"),
        "413, closed",
        "nothing",
    );
    class
}

const REFUSED: &[(&str, &str)] = &[
    (" +5", PROBE),
    (" -5", PROBE),
    (" -0", PROBE),
    (" 0x5", PROBE),
    (" 0o5", PROBE),
    (" 5_0", PROBE),
    (" +1_0", GARDEN),
    (" 5 5", PROBE),
    (" 5, 5", PROBE),
    (" 5, 6", PROBE),
    (" 5,5,5", PROBE),
    (" 5,", PROBE),
    (" ,5", PROBE),
    (" 5;", PROBE),
    (" 5.0", PROBE),
    (" 5e0", PROBE),
    (" 1Z", GARDEN),
    (" five", PROBE),
    (" \"5\"", PROBE),
    ("", GARDEN),
    (" ", GARDEN),
    (" 99999999999999999999", PROBE),
    (" 18446744073709551621", PROBE),
    (" \u{a0}5", GARDEN),
    (" \u{0665}", PROBE),
    (" \x0b5", PROBE),
    (" 5\x0c", PROBE),
    (" 5\0", PROBE),
    (" 5\r", PROBE),
    ("\r\n 5", PROBE),
];
