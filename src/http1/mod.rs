//! HTTP/1.1 as a client: a connection that stamps its own bytes, and the idle ones kept for later.
//!
//! The router's way to its workers and the load generator's way to its target are this one code, so that what either calls
//! "sent" or "first byte" is the same moment. Rule: no task of its own, the request's task polls its connection. Deliberately
//! not here: where to connect to, when to connect anew, what an answer means.

mod connection;
mod pool;
mod request_body;

pub use connection::{Connection, SendError};
pub use pool::{IDLE_LIMIT, Pool};
pub use request_body::RequestBody;
