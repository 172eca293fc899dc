//! HTTP/1.1: the codec, and the client's side of a connection, of the router and of the load generator.
//!
//! `head`, `chunked`, `body` are pure: bytes in, places out. `connection` (one connection, polled by the task that uses it),
//! `pool` (the idle ones of one server). Rule: this knows nothing of
//! workers, policies or records. Deliberately not here: the request path (`proxy`).

mod accepted;
pub mod body;
pub mod chunked;
pub mod coding;
mod connection;
pub mod head;
mod incoming;
pub mod lines;
mod outgoing;
mod pool;

pub use self::accepted::{Accepted, Request, Unreadable};
pub use self::connection::{Connection, SendError};
pub use self::outgoing::Outgoing;
pub use self::pool::{IDLE_LIMIT, Pool};
