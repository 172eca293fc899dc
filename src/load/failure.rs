//! Why a request did not succeed: a class to count by and words to read.
//!
//! Rule: one request, one class, the first thing that went wrong. Deliberately not here: the server's own classes of errors
//! inside an answer, see [`crate::wire::answer`].

use std::fmt;
use std::io;

use crate::net::tls::{HandshakeError, TlsError};

/// What a failed request is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// No connection to the target.
    Connect,
    /// A connection, but no TLS handshake on it.
    Tls,
    /// The connection broke before the answer's head, or was reset.
    Reset,
    /// The answer was cut: its body ended before its end, or a stream without its `[DONE]`.
    Truncated,
    /// No whole answer in the time given.
    Timeout,
    /// A status of 400 or more (or another that is not 200).
    HttpStatus,
    /// An error event inside a 200.
    ErrorEvent,
    /// The server gave the request up (`finish_reason` abort).
    Abort,
    /// A whole answer without a token.
    Empty,
    /// What came is not an answer of this endpoint.
    Malformed,
    /// The router's record says that it did not pass a whole answer.
    Router,
    /// Ended by Ctrl-C before its answer had come.
    Interrupted,
    /// Ctrl-C came before its turn: never sent.
    NotSent,
    /// Read from a file whose words are none of these.
    Other,
}

impl Class {
    /// Every class.
    const ALL: [Self; 14] = [
        Self::Connect,
        Self::Tls,
        Self::Reset,
        Self::Truncated,
        Self::Timeout,
        Self::HttpStatus,
        Self::ErrorEvent,
        Self::Abort,
        Self::Empty,
        Self::Malformed,
        Self::Router,
        Self::Interrupted,
        Self::NotSent,
        Self::Other,
    ];

    /// Its name in the CSV and the summary.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Truncated => "truncated",
            Self::Timeout => "timeout",
            Self::HttpStatus => "http_status",
            Self::ErrorEvent => "error_event",
            Self::Abort => "abort",
            Self::Empty => "empty",
            Self::Malformed => "malformed",
            Self::Router => "router",
            Self::Interrupted => "interrupted",
            Self::NotSent => "not_sent",
            Self::Other => "other",
        }
    }

    /// The class of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// Why one request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class.
    pub class: Class,
    /// In words.
    pub text: String,
}

impl Failure {
    /// A failure in words.
    pub fn new(class: Class, text: impl Into<String>) -> Self {
        Self { class, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.name(), self.text)
    }
}

/// The class of what kept a connection from being opened.
pub(super) fn of_opening(error: &io::Error) -> Failure {
    let inner = error.get_ref();
    let tls = inner.is_some_and(|inner| inner.is::<HandshakeError>() || inner.is::<TlsError>());
    Failure::new(if tls { Class::Tls } else { Class::Connect }, error.to_string())
}

/// The class of a connection's error; `head` says that the answer's head had come.
pub(super) fn of_connection(error: &io::Error, head: bool) -> Failure {
    let reset = match error.kind() {
        io::ErrorKind::InvalidData => {
            let hint = if head { "" } else { " (an https port needs https://)" };
            return Failure::new(Class::Malformed, format!("not HTTP/1.1: {error}{hint}"));
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => true,
        _ => false,
    };
    match (head, reset) {
        (true, true) => Failure::new(Class::Reset, "the connection was reset inside the answer"),
        (true, false) => Failure::new(Class::Truncated, "the connection ended inside the answer"),
        (false, true) => Failure::new(Class::Reset, "the connection was reset before an answer"),
        (false, false) => Failure::new(Class::Reset, "the connection was closed before an answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A class that is missing from the list would be read back as another's words.
    #[test]
    fn every_class_is_known_by_its_name() {
        for (place, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!((class as usize, Class::named(class.name())), (place, Some(class)));
        }
        assert_eq!(Class::ALL.last(), Some(&Class::Other));
    }
}
