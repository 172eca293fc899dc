//! Bodies where somebody may not expect one (CL.0, 0.CL), and bodies of requests that are refused.

use crate::table::{Class, GARDEN, PORTSWIGGER, PROBE, post};

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: r\r\n\r\n";

/// A body is what its head says, whatever the method and whatever becomes of the request.
pub fn class() -> Class {
    let mut class = Class::new("Bodies that somebody may not read (CL.0, 0.CL)");
    for (method, source) in [
        ("GET", GARDEN),
        ("HEAD", PROBE),
        ("OPTIONS", PROBE),
        ("DELETE", PROBE),
        ("PUT", PORTSWIGGER),
        ("QUERY", PROBE),
    ] {
        let message = |fields: &str| {
            format!("{method} /first HTTP/1.1\r\n{fields}content-length: {}\r\n\r\n{HIDDEN}", HIDDEN.len())
        };
        class.passed(
            &format!("{method} with a request for a body"),
            source,
            message("host: r\r\n"),
            &message(""),
        );
        let prefix =
            format!("{method} /first HTTP/1.1\r\nhost: r\r\ncontent-length: 14\r\n\r\nGET /x HTTP/1.");
        let worker = format!("{method} /first HTTP/1.1\r\ncontent-length: 14\r\n\r\nGET /x HTTP/1.");
        class.passed(&format!("{method} with half a request for a body"), source, prefix, &worker);
    }
    class.passed(
        "GET in chunks",
        PROBE,
        format!("GET /first HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len()),
        &format!("GET /first HTTP/1.1\r\ncontent-length: {}\r\n\r\n{HIDDEN}", HIDDEN.len()),
    );
    class.passed(
        "POST without a length has no body",
        PROBE,
        "POST /first HTTP/1.1\r\nhost: r\r\n\r\n",
        "POST /first HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    );
    class.is(
        "a length of 0, then a letter",
        PROBE,
        post("content-length: 0\r\n", "X"),
        // It is the first letter of the next method, which is a word of its own.
        "200, then the next",
        "POST /first HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    );
    class.is(
        "a length of 0, then a request of its own",
        GARDEN,
        post("content-length: 0\r\n", HIDDEN),
        "200, 200, then the next",
        "POST /first HTTP/1.1\r\ncontent-length: 0\r\n\r\n + GET /hidden HTTP/1.1\r\n\r\n",
    );
    let hidden = |fields: &str| post(&format!("{fields}content-length: {}\r\n", HIDDEN.len()), HIDDEN);
    for (name, fields, told) in [
        ("refused for two hosts", "host: r\r\n", "400, then the next"),
        ("refused for an upgrade", "upgrade: websocket\r\n", "501, then the next"),
        ("refused for two hosts, expecting", "host: r\r\nexpect: 100-continue\r\n", "400, then the next"),
    ] {
        class.is(name, PORTSWIGGER, hidden(fields), told, "nothing");
    }
    let unsent = |fields: &str| post(&format!("{fields}content-length: 4000\r\n"), HIDDEN);
    class.is("refused, its body not all there", PORTSWIGGER, unsent("host: r\r\n"), "400, closed", "nothing");
    class.is(
        "refused and expecting, its body not all there",
        PORTSWIGGER,
        unsent("expect: 100-continue\r\nupgrade: websocket\r\n"),
        "501, closed",
        "nothing",
    );
    class.passed(
        "a path of the router's own, with a body",
        PORTSWIGGER,
        format!("GET /health HTTP/1.1\r\nhost: r\r\ncontent-length: {}\r\n\r\n{HIDDEN}", HIDDEN.len()),
        "nothing",
    );
    class
}
