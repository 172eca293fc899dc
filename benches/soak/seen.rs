//! What one request asked and what became of it, as its client and the workers saw it.
//!
//! Rule: nothing here comes from the router but what it sent over the sockets. Deliberately not here: whether that agrees
//! with the trace (`agree`).

/// How a request ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A head and a whole body.
    Whole,
    /// A head, and a body that ended with the connection, to a client that cannot tell a part from the whole (HTTP/1.0).
    UntilClose,
    /// A head, and less of a body than was announced.
    Broken,
    /// The connection ended without a head.
    NoAnswer,
    /// The client closed in good order, with the head sent.
    Left,
    /// The client reset its connection, so that the router may never have seen the request.
    LeftByReset,
    /// The request was sent behind another one whose answer ended the connection: nobody may have taken it up.
    Behind,
    /// The client waited for longer than every limit of the router.
    Hung,
}

/// One request.
#[expect(clippy::struct_excessive_bools, reason = "each is a thing that was seen or not")]
#[derive(Clone, Debug)]
pub struct Seen {
    /// What kind of client sent it.
    pub visit: &'static str,
    /// `None`: its client has not come to an end.
    pub end: Option<End>,
    /// Status of the answer; 0 without a head.
    pub status: u16,
    /// The answer is the router's own error: it has `x-smg-error-code`.
    pub is_own_error: bool,
    /// Bytes of the answer's body that came.
    pub body_bytes: u64,
    /// Events with data that came, `[DONE]` not counted.
    pub events: u64,
    /// `[DONE]` came.
    pub is_done: bool,
    /// Something of another request was in the answer: its id, in the head or in the body.
    pub is_foreign: bool,
    /// The client closed its sending side before it read the answer.
    pub is_half_closed: bool,
    /// The client left before it had sent the whole body.
    pub is_body_cut: bool,
    /// Times that a worker got the whole of it.
    pub arrivals: u32,
    /// The worker that got it last was to answer it well.
    pub is_good_at_last: bool,
    /// A worker got a body that is not what the client sent.
    pub is_body_changed: bool,
}

impl Seen {
    /// A request that is about to be sent.
    pub fn begun(visit: &'static str) -> Self {
        Self {
            visit,
            end: None,
            status: 0,
            is_own_error: false,
            body_bytes: 0,
            events: 0,
            is_done: false,
            is_foreign: false,
            is_half_closed: false,
            is_body_cut: false,
            arrivals: 0,
            is_good_at_last: false,
            is_body_changed: false,
        }
    }
}
