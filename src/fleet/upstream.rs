//! A connection to a worker, by the name the request path knows it under.
//!
//! Rule: the connection is [`crate::http1`]'s, the same as the load generator's. Deliberately not here: anything else.

pub use crate::http1::{Connection as Upstream, SendError};
