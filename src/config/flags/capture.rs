//! From flags to how a trace is captured.
//!
//! Rule: what would write a secret, or could not be done, is refused before the router serves. Deliberately not here: the flags
//! ([`super::observe`]), the capture (`trace::writer`).

use std::time::Duration;

use http::HeaderName;

use super::{Flag, FlagError, Given, observe, settings};
use crate::export::otlp::send::Collector;
use crate::trace::prompt::PromptTrace;
use crate::trace::sample::Sampling;
use crate::trace::writer::CaptureConfig;

/// A file is so small a part of all that the oldest can go without half of the trace going with it.
const LEAST_FILES: u64 = 4;
/// Files that a limit on all of them makes where nobody says how long one is.
const USUAL_FILES: u64 = 8;
/// Parts of names of headers that carry secrets.
const SECRET: [&str; 15] = [
    "auth",
    "cookie",
    "token",
    "secret",
    "password",
    "key",
    "credential",
    "signature",
    "jwt",
    "assertion",
    "session",
    "csrf",
    "principal",
    "bearer",
    "passwd",
];
/// Whole words of such names, which are parts of harmless ones too.
const SECRET_WORDS: [&str; 1] = ["sid"];

/// Reads them.
pub(super) fn capture(given: &Given) -> Result<CaptureConfig, FlagError> {
    let max_bytes: Option<u64> = given.optional_integer(&observe::TRACE_MAX_SIZE)?;
    let rotate_bytes: Option<u64> = given.optional_integer(&observe::TRACE_ROTATE_SIZE)?;
    if let (Some(max_bytes), Some(bytes)) = (max_bytes, rotate_bytes)
        && max_bytes / LEAST_FILES < bytes
    {
        let why = format!("there must be room for {LEAST_FILES} files; got {max_bytes} and {bytes} bytes");
        return Err(pair(&observe::TRACE_MAX_SIZE, &observe::TRACE_ROTATE_SIZE, why));
    }
    let rotates = given.has(&observe::TRACE_ROTATE_SECS) || rotate_bytes.or(max_bytes).is_some();
    if rotates && given.path(&observe::TRACE_LOG)?.is_some_and(|path| path.as_os_str() == "-") {
        let why = "standard output cannot be rotated; leave the limits of files out".to_owned();
        return Err(pair(&observe::TRACE_LOG, &observe::TRACE_ROTATE_SIZE, why));
    }
    let rotate_after = given.optional_integer(&observe::TRACE_ROTATE_SECS)?.map(Duration::from_secs);
    Ok(CaptureConfig {
        folder: given.path(&observe::TRACE_DIR)?,
        rotate_bytes: rotate_bytes.or(max_bytes.map(|bytes| bytes / USUAL_FILES)),
        rotate_after,
        max_bytes,
        packs: given.text(&observe::TRACE_COMPRESS)? == Some("zstd"),
        sampling: Sampling {
            share: given.number(&observe::TRACE_SAMPLE)?,
            slowest_per_minute: given.integer(&observe::TRACE_SLOWEST)?,
        },
        prompt: prompt(given)?,
        headers: headers(given)?,
    })
}

/// Where spans are sent, if they are.
pub(super) fn collector(given: &Given) -> Result<Option<Collector>, FlagError> {
    if !given.switch(&observe::ENABLE_TRACE) {
        // What a start line says for nothing is no reason to refuse it.
        return Ok(None);
    }
    let flag = &observe::OTLP_TRACES_ENDPOINT;
    let text = given.text(flag)?.unwrap_or_default();
    let collector = Collector::of_endpoint(text).map_err(|_| {
        let expected = "HOST:PORT, or an http URL (https is not spoken here: name a collector on this host)";
        FlagError::expected(flag, expected, text)
    })?;
    Ok(Some(collector))
}

/// What is to be known of where spans are sent, if anything is.
pub fn about_spans(given: &Given, collector: Option<&Collector>) -> Option<String> {
    let (flag, switch) = (observe::OTLP_TRACES_ENDPOINT.name, observe::ENABLE_TRACE.name);
    match collector {
        None if given.differs(&observe::OTLP_TRACES_ENDPOINT) => {
            Some(format!("--{flag} has no effect without --{switch}"))
        }
        Some(to) if to.is_instead_of_grpc() && given.has(&observe::OTLP_TRACES_ENDPOINT) => Some(format!(
            "spans are sent to {to}, by OTLP over HTTP: 4317 is the port of gRPC, which is not spoken here; --{flag} {to} says the same without this line"
        )),
        _ => None,
    }
}

fn pair(flag: &Flag, other: &Flag, why: String) -> FlagError {
    FlagError::Pair { flag: flag.name, other: other.name, why }
}

fn prompt(given: &Given) -> Result<PromptTrace, FlagError> {
    let flag = &observe::TRACE_PROMPT;
    let word = given.text(flag)?.unwrap_or_default();
    PromptTrace::parse(word)
        .ok_or_else(|| FlagError::expected(flag, "none, hash, head:N (N characters) or full", word))
}

fn headers(given: &Given) -> Result<Vec<HeaderName>, FlagError> {
    let flag = &observe::TRACE_HEADERS;
    let names = settings::header_names(given, flag)?;
    match names.iter().find(|name| is_secret(name.as_str())) {
        Some(name) => {
            let expected =
                "names of headers that carry no secret; a trace never holds keys, tokens or cookies";
            Err(FlagError::expected(flag, expected, name.as_str()))
        }
        None => Ok(names),
    }
}

/// What is called a session may be a routing key or a login; nothing tells, so it is taken for the login.
fn is_secret(name: &str) -> bool {
    SECRET.iter().any(|part| name.contains(part))
        || name.split(['-', '_', '.']).any(|word| SECRET_WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn names_that_may_carry_a_login_are_known_and_others_stay() {
        let secret = ["x-goog-iap-jwt-assertion", "x-session-id", "x-ms-client-principal", "x-csrf", "x-sid"];
        assert!(secret.into_iter().all(is_secret));
        assert!(!["x-tenant", "x-side", "x-request-id", "user-agent"].into_iter().any(is_secret));
    }
}
