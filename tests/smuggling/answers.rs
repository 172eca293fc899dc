//! What a worker may send so that a client, or the next request, reads something else in it.
//!
//! Deliberately not here: how it is sent (`stage`).

use crate::stage::Script;
use crate::table::{GARDEN, PORTSWIGGER, PROBE, RFC};

/// One answer.
pub struct Case {
    pub name: String,
    pub source: &'static str,
    pub method: &'static str,
    pub script: Script,
    /// What the client gets, less the router's stamps.
    pub told: String,
    /// On which connections the next request goes.
    pub next: &'static str,
}

/// The worker's connection carries the next request.
const SAME: &str = "next on the same connection";
/// The worker's connection is closed, the client's carries the next request.
const ANOTHER: &str = "next on another connection";
/// Both are closed.
const BOTH: &str = "next on another connection, the client's closed";

const HELLO: &str = "200\\r\\ncontent-length: 5\\r\\n\\r\\nhello";
const CHUNKS: &str = "200\\r\\ntransfer-encoding: chunked\\r\\n\\r\\nhello";
const EVIL: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = refused();
    cases.extend(doubtful());
    cases.extend(cut());
    cases.extend(bodiless());
    cases.extend(more_than_one());
    cases
}

fn case(name: &str, source: &'static str, answer: &[u8], told: &str, next: &'static str) -> Case {
    let script = Script { answer: answer.to_vec(), ..Script::default() };
    Case { name: name.to_owned(), source, method: "GET", script, told: told.to_owned(), next }
}

/// No answers: a client gets a 502 in their place.
fn refused() -> Vec<Case> {
    let head = |(fields, source): &(&str, &'static str)| {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\nhello");
        case(&fields.trim_end().escape_default().to_string(), source, answer.as_bytes(), "502", ANOTHER)
    };
    let mut cases: Vec<Case> = BAD_FIELDS.iter().map(head).collect();
    for (answer, source) in NO_ANSWERS {
        let name = answer.trim_end().escape_default().to_string();
        cases.push(case(&name, source, answer.as_bytes(), "502", ANOTHER));
    }
    let flood = [b"HTTP/1.1 103 Early\r\n\r\n".repeat(1000), EVIL.to_vec()].concat();
    cases.push(case("a thousand interim answers", RFC, &flood, "502", ANOTHER));
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "a: b\r\n".repeat(100));
    cases.push(case("101 fields", RFC, many.as_bytes(), "502", ANOTHER));
    let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(300_000));
    cases.push(case("a field of 300 kB", RFC, long.as_bytes(), "502", ANOTHER));
    cases
}

/// Answers whose end is known, on a connection that is not trusted with another one.
fn doubtful() -> Vec<Case> {
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let with = |line: &str, fields: &str, body: &str| format!("{line}\r\n{fields}\r\n{body}").into_bytes();
    let te = "transfer-encoding: chunked\r\n";
    vec![
        case(
            "a length and chunks",
            PORTSWIGGER,
            &with("HTTP/1.1 200 OK", &format!("content-length: 3\r\n{te}"), chunks),
            CHUNKS,
            ANOTHER,
        ),
        case(
            "chunks and a length",
            PORTSWIGGER,
            &with("HTTP/1.1 200 OK", &format!("{te}content-length: 50\r\n"), chunks),
            CHUNKS,
            ANOTHER,
        ),
        case(
            "chunks in HTTP/1.0",
            RFC,
            &with("HTTP/1.0 200 OK", &format!("connection: keep-alive\r\n{te}"), chunks),
            CHUNKS,
            ANOTHER,
        ),
        case(
            "connection: close",
            RFC,
            &with("HTTP/1.1 200 OK", "connection: close\r\ncontent-length: 5\r\n", "hello"),
            HELLO,
            ANOTHER,
        ),
        case(
            "connection: x-request-id, content-length",
            PORTSWIGGER,
            &with(
                "HTTP/1.1 200 OK",
                "connection: x-request-id, content-length\r\ncontent-length: 5\r\n",
                "hello",
            ),
            HELLO,
            SAME,
        ),
        case(
            "two lengths that agree",
            RFC,
            &with("HTTP/1.1 200 OK", "content-length: 5\r\ncontent-length: 05\r\n", "hello"),
            HELLO,
            SAME,
        ),
        case(
            "stamps of the worker's own",
            RFC,
            &with(
                "HTTP/1.1 200 OK",
                "x-request-id: evil\r\nx-policy: evil\r\ncontent-length: 5\r\n",
                "hello",
            ),
            HELLO,
            SAME,
        ),
        case(
            "trailers",
            PROBE,
            &with("HTTP/1.1 200 OK", te, "5\r\nhello\r\n0\r\ncontent-length: 50\r\nset-cookie: evil\r\n\r\n"),
            CHUNKS,
            SAME,
        ),
        case(
            "an extension",
            PORTSWIGGER,
            &with("HTTP/1.1 200 OK", te, "5;x=y\r\nhello\r\n0\r\n\r\n"),
            CHUNKS,
            SAME,
        ),
    ]
}

/// Answers that break: their head has left by then, so the client's connection is cut.
fn cut() -> Vec<Case> {
    let mut cases = Vec::new();
    for (body, source) in BAD_CHUNKS {
        let name = format!("in chunks: {}", body.escape_default());
        let told = "cut: HTTP/1.1 200 OK\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n";
        let mut broken =
            case(&name, source, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", told, BOTH);
        broken.script.late = body.as_bytes().to_vec();
        cases.push(broken);
    }
    let told = "cut: HTTP/1.1 200 OK\\r\\ncontent-length: 50\\r\\n\\r\\nhello";
    let mut short =
        case("less than its length", RFC, b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello", told, BOTH);
    short.script.closes = true;
    cases.push(short);
    cases
}

/// Answers without a body, whatever they say, and a body all the same.
fn bodiless() -> Vec<Case> {
    let mut cases = Vec::new();
    for (method, line, fields, told, next) in [
        ("GET", "HTTP/1.1 204 No Content", "content-length: 5\r\n", "204\\r\\n\\r\\n", ANOTHER),
        ("GET", "HTTP/1.1 204 No Content", "transfer-encoding: chunked\r\n", "204\\r\\n\\r\\n", ANOTHER),
        ("GET", "HTTP/1.1 204 No Content", "", "204\\r\\n\\r\\n", ANOTHER),
        (
            "GET",
            "HTTP/1.1 304 Not Modified",
            "content-length: 5\r\n",
            "304\\r\\ncontent-length: 5\\r\\n\\r\\n",
            ANOTHER,
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK",
            "content-length: 5\r\n",
            "200\\r\\ncontent-length: 5\\r\\n\\r\\n",
            ANOTHER,
        ),
        ("HEAD", "HTTP/1.1 200 OK", "transfer-encoding: chunked\r\n", "200\\r\\n\\r\\n", ANOTHER),
    ] {
        for (body, late) in
            [("hello", ""), ("", "hello"), ("", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")]
        {
            let when = match (body.is_empty(), late.len()) {
                (false, _) => "a body",
                (true, 5) => "a body later",
                _ => "another answer later",
            };
            let name = format!("{method}, {}, {}{when}", &line[9..], fields.replace("\r\n", ", "));
            let answer = format!("{line}\r\n{fields}\r\n{body}");
            let mut case = case(&name, PROBE, answer.as_bytes(), told, next);
            (case.method, case.script.late) = (method, late.as_bytes().to_vec());
            cases.push(case);
        }
    }
    let mut head = case(
        "HEAD, a length and no body",
        RFC,
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        "200\\r\\ncontent-length: 5\\r\\n\\r\\n",
        SAME,
    );
    head.method = "HEAD";
    cases.push(head);
    cases.push(case("204 and nothing", RFC, b"HTTP/1.1 204 No Content\r\n\r\n", "204\\r\\n\\r\\n", SAME));
    cases
}

/// Something behind an answer, which must not become that of the next request (response queue poisoning).
fn more_than_one() -> Vec<Case> {
    let hello = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let mut cases = Vec::new();
    for (what, more) in [
        ("another answer", EVIL),
        ("half of another answer", &EVIL[..20]),
        ("an interim answer", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("an empty line", b"\r\n"),
        ("a byte", b"\0"),
    ] {
        cases.push(case(&format!("{what} behind one"), PORTSWIGGER, &[hello, more].concat(), HELLO, ANOTHER));
        cases.push(case(
            &format!("{what} behind chunks"),
            PORTSWIGGER,
            &[chunks, more].concat(),
            CHUNKS,
            ANOTHER,
        ));
        let mut late = case(&format!("{what} behind one, later"), PORTSWIGGER, hello, HELLO, ANOTHER);
        late.script.late = more.to_vec();
        cases.push(late);
    }
    cases.push(case(
        "interim answers first",
        RFC,
        &[b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n", &hello[..]].concat(),
        HELLO,
        SAME,
    ));
    cases.push(case(
        "an interim answer with a length",
        PROBE,
        &[b"HTTP/1.1 103 Early\r\ncontent-length: 43\r\n\r\n", &hello[..]].concat(),
        HELLO,
        SAME,
    ));
    let mut until_close =
        case("neither, and the connection ends", RFC, b"HTTP/1.1 200 OK\r\n\r\nhello", CHUNKS, ANOTHER);
    until_close.script.closes = true;
    cases.push(until_close);
    let mut gone = case("it closes behind one", RFC, hello, HELLO, ANOTHER);
    gone.script.closes = true;
    cases.push(gone);
    cases
}

const BAD_FIELDS: &[(&str, &str)] = &[
    ("content-length: 5\r\ncontent-length: 6\r\n", PORTSWIGGER),
    ("content-length: 5, 5\r\n", PROBE),
    ("content-length: +5\r\n", PROBE),
    ("content-length: -5\r\n", GARDEN),
    ("content-length: 0x5\r\n", PROBE),
    ("content-length:\r\n", GARDEN),
    ("content-length: 99999999999999999999\r\n", PROBE),
    ("content-length : 5\r\n", PROBE),
    ("transfer-encoding: xchunked\r\n", PORTSWIGGER),
    ("transfer-encoding: gzip, chunked\r\n", RFC),
    ("transfer-encoding: chunked, identity\r\n", PORTSWIGGER),
    ("transfer-encoding: ,chunked\r\n", GARDEN),
    ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", GARDEN),
    ("transfer-encoding: identity\r\ncontent-length: 5\r\n", PROBE),
    ("transfer-encoding: \x0bchunked\r\n", PROBE),
    ("transfer-encoding : chunked\r\n", PROBE),
    ("x: y\r\n z\r\ncontent-length: 5\r\n", PROBE),
    ("x: y\ncontent-length: 5\r\n", GARDEN),
    ("x: y\rcontent-length: 5\r\n", GARDEN),
    ("x: \0\r\ncontent-length: 5\r\n", GARDEN),
    ("x\r\ncontent-length: 5\r\n", GARDEN),
    (": y\r\ncontent-length: 5\r\n", GARDEN),
    (" content-length: 5\r\n", PROBE),
];

const NO_ANSWERS: &[(&str, &str)] = &[
    ("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n", PORTSWIGGER),
    ("HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n", RFC),
    ("HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n", RFC),
    ("HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n", RFC),
    ("HTTP/1.1  200 OK\r\ncontent-length: 0\r\n\r\n", RFC),
    ("HTTP/2 200\r\ncontent-length: 0\r\n\r\n", RFC),
    ("HTTP/1.1 200 O\0K\r\ncontent-length: 0\r\n\r\n", RFC),
    ("HTTP/1.1 200 OK\ncontent-length: 0\n\n", RFC),
    ("hello\r\n\r\n", RFC),
    ("{\"text\": \"no head\"}", RFC),
];

const BAD_CHUNKS: &[(&str, &str)] = &[
    ("0x5\r\nhello\r\n0\r\n\r\n", GARDEN),
    ("+5\r\nhello\r\n0\r\n\r\n", GARDEN),
    ("-5\r\nhello\r\n0\r\n\r\n", GARDEN),
    (" 5\r\nhello\r\n0\r\n\r\n", PROBE),
    ("5\nhello\r\n0\r\n\r\n", PROBE),
    ("\r\n\r\n", GARDEN),
    ("ffffffffffffffff5\r\nhello\r\n0\r\n\r\n", PROBE),
    ("5;\0\r\nhello\r\n0\r\n\r\n", PROBE),
    ("5;\n\r\nhello\r\n0\r\n\r\n", PORTSWIGGER),
];
