//! What a record calls a request: its method, its path, and an id where the client gave none.
//!
//! Rule: what a client sends is cut to a length that a record can hold, and the usual words are not copied. Deliberately not here:
//! ids that clients give (`headers`).

use std::borrow::Cow;

use crate::wire::Endpoint;

/// Longest method kept in a record.
const MAX_METHOD_CHARS: usize = 16;
/// Longest path kept in a record.
const MAX_PATH_CHARS: usize = 256;

/// The method, without copying the usual ones.
pub(super) fn method_name(method: &http::Method) -> Cow<'static, str> {
    match method.as_str() {
        "POST" => "POST".into(),
        "GET" => "GET".into(),
        other => other.chars().take(MAX_METHOD_CHARS).collect::<String>().into(),
    }
}

/// The path, without copying the usual ones.
pub(super) fn path_name(endpoint: Endpoint, path: &str) -> Cow<'static, str> {
    match endpoint {
        Endpoint::Generate => "/generate".into(),
        Endpoint::Chat => "/v1/chat/completions".into(),
        Endpoint::Completions => "/v1/completions".into(),
        _ => path.chars().take(MAX_PATH_CHARS).collect::<String>().into(),
    }
}

/// An id like sglang-router's (a prefix by endpoint and 24 characters), unique over runs by the instance in it.
pub(super) fn generated_id(instance: &str, endpoint: Endpoint, seq: u64) -> String {
    let prefix = endpoint.id_prefix();
    let mut id = String::with_capacity(40);
    id.push_str(prefix);
    id.push_str(instance);
    for shift in (0..40).step_by(4).rev() {
        id.push(char::from(b"0123456789abcdef"[(seq >> shift & 0xf) as usize]));
    }
    id
}
