//! Hosts: one, and what it must be. A worker gets its own whatever the client said.

use crate::table::{Class, GARDEN, PORTSWIGGER, PROBE, RFC};

/// One host, perhaps with a port.
pub fn class() -> Class {
    let mut class = Class::new("Hosts");
    let with = |fields: &str| format!("GET /first HTTP/1.1\r\n{fields}\r\n");
    for (name, fields, source) in [
        ("none", "", PROBE),
        ("two", "host: r\r\nhost: evil\r\n", PROBE),
        ("two that agree", "host: r\r\nHost: r\r\n", PROBE),
        ("a comma", "host: r, evil\r\n", PROBE),
        ("a user", "host: user@r\r\n", PROBE),
        ("a path", "host: r/path\r\n", PROBE),
        ("a query", "host: r?x\r\n", PROBE),
        ("a scheme", "host: http://r\r\n", PROBE),
        ("a blank", "host: r evil\r\n", PORTSWIGGER),
        ("a tab", "host: r\tevil\r\n", PORTSWIGGER),
        ("bytes beyond ASCII", "host: \u{ff}r\u{ff}\r\n", GARDEN),
    ] {
        class.is(name, source, with(fields), "400, then the next", "nothing");
    }
    for (name, fields, source) in [
        ("NUL", "host: r\0.evil\r\n", GARDEN),
        ("a folded line", "host: r\r\n evil\r\n", PORTSWIGGER),
        ("a blank before the colon", "host : r\r\n", PORTSWIGGER),
        ("a folded line first", " host: evil\r\nhost: r\r\n", PORTSWIGGER),
    ] {
        class.refused(name, source, with(fields));
    }
    for (name, fields, source) in [
        ("another one", "host: evil\r\n", PORTSWIGGER),
        ("a port", "host: r:30000\r\n", RFC),
        ("an IPv6 address", "host: [::1]:30000\r\n", RFC),
        ("empty", "host:\r\n", RFC),
        (
            "x-forwarded-host and others beside it",
            "host: r\r\nx-forwarded-host: evil\r\nx-host: evil\r\nforwarded: host=evil\r\n",
            PORTSWIGGER,
        ),
        (
            "x-original-url, x-rewrite-url",
            "host: r\r\nx-original-url: /evil\r\nx-rewrite-url: /evil\r\n",
            PORTSWIGGER,
        ),
    ] {
        class.passed(name, source, with(fields), "GET /first HTTP/1.1\r\n\r\n");
    }
    class
}
