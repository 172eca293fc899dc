//! The connections to the target: newest first, opened ahead, closed before the server would.
//!
//! Rule: connecting is no part of a request's time where it can be done before, and is stamped where it cannot. SGLang
//! (uvicorn) closes a connection after 5.0 s idle; ours go after 4. Deliberately not here: requests, see `client`.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::connection::{Conn, Connector};
use super::target::Target;
use crate::clock::Clock;

/// An idle connection older than this is not used again.
pub const IDLE_NS: u64 = 4_000_000_000;
/// Time to connect.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle connections to one target.
#[derive(Debug)]
pub struct Pool {
    connector: Connector,
    addresses: Vec<SocketAddr>,
    clock: Clock,
    idle: Mutex<Vec<Idle>>,
    opened: AtomicU64,
}

struct Idle {
    conn: Conn,
    since_ns: u64,
}

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Idle since {} ns", self.since_ns)
    }
}

impl Pool {
    /// Looks the target's name up, once.
    pub async fn new(target: &Target, connector: Connector, clock: Clock) -> io::Result<Self> {
        let addresses = match connector {
            Connector::Memory(_) => Vec::new(),
            Connector::Tcp => tokio::net::lookup_host((target.host.as_str(), target.port)).await?.collect(),
        };
        Ok(Self { connector, addresses, clock, idle: Mutex::new(Vec::new()), opened: AtomicU64::new(0) })
    }

    /// Opens a connection.
    pub async fn open(&self) -> io::Result<Conn> {
        let opening = Conn::open(&self.connector, &self.addresses, &self.clock);
        let conn = tokio::time::timeout(CONNECT_TIMEOUT, opening).await.map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection after {} s", CONNECT_TIMEOUT.as_secs()),
            )
        })??;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(conn)
    }

    /// The newest idle connection that is still open, if there is one.
    pub async fn take(&self) -> Option<Conn> {
        loop {
            let mut idle = self.lock().pop()?;
            let fresh = self.clock.mono_ns().saturating_sub(idle.since_ns) < IDLE_NS;
            if fresh && idle.conn.is_usable().await {
                return Some(idle.conn);
            }
        }
    }

    /// Gives a connection back after a whole answer.
    pub async fn park(&self, mut conn: Conn) {
        if conn.is_usable().await {
            let since_ns = self.clock.mono_ns();
            self.lock().push(Idle { conn, since_ns });
        }
    }

    /// Closes what has been idle too long, then opens connections until `spare` are idle. A server that refuses is left to
    /// the requests to report.
    pub async fn tend(&self, spare: usize) {
        let now_ns = self.clock.mono_ns();
        let old: Vec<Idle> = {
            let mut idle = self.lock();
            let (young, old) = idle.drain(..).partition(|i| now_ns.saturating_sub(i.since_ns) < IDLE_NS);
            *idle = young;
            old
        };
        drop(old);
        let missing = spare.saturating_sub(self.lock().len());
        for _ in 0..missing {
            let Ok(conn) = self.open().await else { return };
            let since_ns = self.clock.mono_ns();
            // To the bottom: a connection that has just carried a request is the better choice.
            self.lock().insert(0, Idle { conn, since_ns });
        }
    }

    /// Connections opened so far.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        // A panic elsewhere cannot leave the list half changed.
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
