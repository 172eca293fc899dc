//! Words for this hop alone: `Connection` and what it names, `Upgrade`, `Expect`, and fields that are the router's.

use crate::table::{Class, GARDEN, PORTSWIGGER, PROBE, RFC, post, received};

/// None of them reaches a worker, and none takes away what the router says.
pub fn class() -> Class {
    let mut class = Class::new("Connection, Upgrade, Expect and the router's own fields");
    let hello = |fields: &str| post(&format!("{fields}content-length: 5\r\n"), "hello");
    for (name, fields, source) in [
        ("connection: content-length", "connection: content-length\r\n", PORTSWIGGER),
        ("connection: transfer-encoding", "connection: transfer-encoding\r\n", PORTSWIGGER),
        ("connection: host", "connection: host\r\n", PORTSWIGGER),
        (
            "connection: x-request-id, x-arrival-time",
            "connection: x-request-id, x-arrival-time\r\n",
            PORTSWIGGER,
        ),
        ("connection: x-milepost-hop", "connection: x-milepost-hop, x-router-send-time\r\n", PORTSWIGGER),
        ("keep-alive and proxy-connection", "keep-alive: timeout=5\r\nproxy-connection: close\r\n", RFC),
        ("te: trailers", "te: trailers\r\ntrailer: content-length\r\n", RFC),
        (
            "upgrade: h2c",
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
            PORTSWIGGER,
        ),
        ("expect: 100-continue", "expect: 100-continue\r\n", PROBE),
        ("expect: 100-Continue", "expect: 100-Continue\r\n", PORTSWIGGER),
        ("expect: y 100-continue", "expect: y 100-continue\r\n", PORTSWIGGER),
        ("expect: 200-ok", "expect: 200-ok\r\n", PROBE),
        ("expect twice", "expect: 100-continue\r\nexpect: x\r\n", PORTSWIGGER),
        ("arrival and send stamps of the client's", "x-arrival-time: 1\r\nx-router-send-time: 1\r\n", RFC),
        ("stamps with underscores", "x_request_id: evil\r\nx_arrival_time: 1\r\n", PROBE),
        ("max-forwards: 0", "max-forwards: 0\r\n", RFC),
        (
            "x-http-method-override",
            "x-http-method-override: DELETE\r\nx-method-override: PUT\r\n",
            PORTSWIGGER,
        ),
        ("cookies", "cookie: a=b\r\n", RFC),
    ] {
        class.passed(name, source, hello(fields), &received("hello"));
    }
    class.passed(
        "connection: authorization, with one",
        PORTSWIGGER,
        hello("connection: authorization\r\nauthorization: Bearer k\r\n"),
        "POST /first HTTP/1.1\r\nauthorization: Bearer k\r\ncontent-length: 5\r\n\r\nhello",
    );
    class.passed(
        "two authorizations: the first",
        PORTSWIGGER,
        hello("authorization: Bearer k\r\nauthorization: Bearer evil\r\n"),
        "POST /first HTTP/1.1\r\nauthorization: Bearer k\r\ncontent-length: 5\r\n\r\nhello",
    );
    class.last("connection: close", RFC, hello("connection: close\r\n"), &received("hello"));
    class.last(
        "connection: keep-alive, Close",
        RFC,
        hello("connection: keep-alive, Close\r\n"),
        &received("hello"),
    );
    class.is(
        "connection: close, then something invalid",
        GARDEN,
        [&hello("connection: close\r\n")[..], b"Invalid\r\n\r\n"].concat(),
        "200, closed",
        &received("hello"),
    );
    class.is(
        "upgrade: websocket",
        RFC,
        hello("connection: upgrade\r\nupgrade: websocket\r\n"),
        "501, then the next",
        "nothing",
    );
    class.passed(
        "expect and a body that comes with it, without a body",
        PROBE,
        post("expect: 100-continue\r\ncontent-length: 0\r\n", ""),
        &received(""),
    );
    class
}
