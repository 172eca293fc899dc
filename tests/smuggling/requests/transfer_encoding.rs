//! Codings that are not plainly `chunked` (TE.TE).

use crate::table::{Class, GARDEN, PORTSWIGGER, PROBE, RFC, SMUGGLER, post, received};

/// One line that says `chunked`, in any case of letters, or a refusal that ends the connection.
pub fn class() -> Class {
    let mut class = Class::new("Codings (TE.TE)");
    let hello = "5\r\nhello\r\n0\r\n\r\n";
    let te = |line: &str| post(&format!("{line}\r\n"), hello);
    for (line, source) in REFUSED.iter().copied() {
        class.refused(&line.escape_default().to_string(), source, te(line));
    }
    for (line, source) in [
        ("transfer-encoding: x\r\ntransfer-encoding: chunked", PORTSWIGGER),
        ("transfer-encoding: identity\r\ntransfer-encoding: chunked", PORTSWIGGER),
        ("transfer-encoding:\r\ntransfer-encoding: chunked", PROBE),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", GARDEN),
        ("transfer-encoding: chunked, chunked", PROBE),
        ("transfer-encoding: ,chunked", GARDEN),
        ("transfer-encoding: cow, chunked", SMUGGLER),
        ("transfer-encoding: gzip, chunked", RFC),
        ("transfer-encoding: identity, chunked", PORTSWIGGER),
    ] {
        class.is(&line.escape_default().to_string(), source, te(line), "501, closed", "nothing");
    }
    for (line, source) in [
        ("Transfer-Encoding: chunked", RFC),
        ("TrAnSFer-EnCODinG: cHuNkeD", SMUGGLER),
        ("TRANSFER-ENCODING: CHUNKED", SMUGGLER),
        ("transfer-encoding:chunked", SMUGGLER),
        ("transfer-encoding:  chunked", SMUGGLER),
        ("transfer-encoding:\tchunked", PORTSWIGGER),
        ("transfer-encoding: chunked ", PROBE),
        ("transfer-encoding: chunked\t", SMUGGLER),
        ("connection: transfer-encoding\r\ntransfer-encoding: chunked", SMUGGLER),
    ] {
        class.passed(&line.escape_default().to_string(), source, te(line), &received("hello"));
    }
    for (line, source) in [
        ("transfer_encoding: chunked", SMUGGLER),
        ("content-encoding: chunked", SMUGGLER),
        ("x: transfer-encoding: chunked", SMUGGLER),
        ("xtransfer-encoding: chunked", PORTSWIGGER),
    ] {
        let fields = format!("{line}\r\ncontent-length: {}\r\n", hello.len());
        let kept = if line.starts_with("content-encoding") { "content-encoding: chunked\r\n" } else { "" };
        let worker = format!("POST /first HTTP/1.1\r\n{kept}content-length: {}\r\n\r\n{hello}", hello.len());
        class.passed(&format!("{line}: another field"), source, post(&fields, hello), &worker);
    }
    class.refused(
        "chunks in HTTP/1.0",
        PROBE,
        format!("POST /first HTTP/1.0\r\nhost: r\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n{hello}"),
    );
    class
}

const REFUSED: &[(&str, &str)] = &[
    ("transfer-encoding: xchunked", PORTSWIGGER),
    ("transfer-encoding : chunked", PORTSWIGGER),
    ("transfer-encoding\t:\tchunked", SMUGGLER),
    (" transfer-encoding: chunked", PORTSWIGGER),
    ("x: x\n transfer-encoding: chunked", PORTSWIGGER),
    ("x: x\ntransfer-encoding: chunked", PORTSWIGGER),
    ("x: x\rtransfer-encoding: chunked", SMUGGLER),
    ("transfer-encoding\r\n: chunked", PORTSWIGGER),
    ("transfer-\r\nencoding: chunked", GARDEN),
    ("transfer-encoding:\r\n chunked", PROBE),
    ("transfer-encoding:\n chunked", SMUGGLER),
    ("transfer-encoding: chunked\r\n foo", PROBE),
    ("transfer\r-encoding: chunked", SMUGGLER),
    ("transfer encoding: chunked", SMUGGLER),
    ("transfer\\encoding: chunked", SMUGGLER),
    ("transfer-encoding chunked : chunked", SMUGGLER),
    ("transfer-encoding chunked", GARDEN),
    (": chunked", GARDEN),
    (":", GARDEN),
    ("transfer-encoding: chunked, identity", PORTSWIGGER),
    ("transfer-encoding: chunked, cow", SMUGGLER),
    ("transfer-encoding: chunked,", PROBE),
    ("transfer-encoding: chunked;ext=val", PROBE),
    ("transfer-encoding: chunked; q=1", PROBE),
    ("transfer-encoding: identity", PROBE),
    ("transfer-encoding: identity, identity", GARDEN),
    ("transfer-encoding: gzip", RFC),
    ("transfer-encoding: chunked, gzip", PROBE),
    ("transfer-encoding:", PROBE),
    ("transfer-encoding: ,", PROBE),
    ("transfer-encoding: \"chunked\"", SMUGGLER),
    ("transfer-encoding: 'chunked'", SMUGGLER),
    ("transfer-encoding: chunk", SMUGGLER),
    ("transfer-encoding: chunkedchunked", SMUGGLER),
    ("transfer-encoding: cow chunked bar", SMUGGLER),
    ("transfer-encoding: \x0bchunked", PORTSWIGGER),
    ("transfer-encoding: \x0cchunked", PROBE),
    ("transfer-encoding: chunked\0", PROBE),
    ("transfer-encoding: \u{7f}chunked", SMUGGLER),
    ("transfer-encoding: \u{a0}chunked", GARDEN),
    ("transfer-encoding: chun\u{212a}ed", PROBE),
    ("transfer-encoding: chunked\r\ntransfer-encoding: x", PORTSWIGGER),
    ("transfer-encoding: chunked\r\ntransfer-encoding: identity", SMUGGLER),
    ("transfer-encoding: chunked\r\ntransfer-encoding:", PROBE),
];
