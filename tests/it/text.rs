//! The bytes of requests and the fields of heads, for tests that speak HTTP themselves; `tests/faults` has it too.
//!
//! Deliberately not here: sockets, and reading an answer to its end.

/// A header's value in a head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (n, v) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| v.trim())
    })
}

/// Where `needle` begins.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// The bytes of a POST with a JSON body.
pub fn post(path: &str, body: &str) -> String {
    post_with(path, "", body)
}

/// As [`post`], with more header lines (each ended by CR LF).
pub fn post_with(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: router\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}
