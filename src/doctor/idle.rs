//! How long a server keeps a connection that nobody uses.
//!
//! Rule: from the last byte of an answer to the end of the connection, and not for longer than the limit. Deliberately not here:
//! what follows from it (`remedy`).

use std::time::Duration;

use super::report::Idle;
use crate::clock::Clock;
use crate::http1::Connection;

/// Waits for the end of a connection on which one answer has come.
pub(super) async fn measure(mut connection: Connection, limit: Duration, clock: &Clock) -> Idle {
    if !connection.is_ready() {
        return Idle::NotKept;
    }
    let since_ns = connection.last_read_ns();
    let ended = tokio::time::timeout(limit, connection.idle_end()).await;
    let idle_ns = clock.mono_ns().saturating_sub(since_ns);
    if ended.is_ok() { Idle::ClosedAfterNs(idle_ns) } else { Idle::OpenAfterNs(idle_ns) }
}
