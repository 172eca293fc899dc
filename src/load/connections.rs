//! The connections to the target: newest first, opened ahead, closed before the server would.
//!
//! Rule: connecting is no part of a request's time where it can be done before, and is stamped where it cannot. Deliberately
//! not here: a connection and the idle ones ([`crate::http1`]); requests, see `client`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::target::Target;
use crate::clock::Clock;
use crate::http1::{Connection, Pool};
use crate::net::Connector;
use crate::net::dialer::Dialer;
use crate::net::tls::ServerName;

/// Time to connect to one address.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections opened ahead at the same time: more may overflow a server's backlog, one by one would take a round trip each.
const OPENING: usize = 16;

/// TLS handshakes that were made, and what they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// How many.
    pub count: u64,
    /// All of them together.
    pub total_ns: u64,
}

impl Handshakes {
    /// Those after `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { count: self.count - before.count, total_ns: self.total_ns - before.total_ns }
    }

    /// Mean of one, milliseconds; none without one.
    pub fn mean_ms(self) -> Option<f64> {
        (self.count > 0).then(|| self.total_ns as f64 / self.count as f64 / 1e6)
    }
}

/// Connections to one target.
#[derive(Debug)]
pub struct Connections {
    dialer: Dialer,
    /// Who must be at the other end; none: plain.
    server: Option<ServerName<'static>>,
    addresses: Vec<SocketAddr>,
    clock: Clock,
    idle: Pool,
    opened: AtomicU64,
    handshakes: AtomicU64,
    handshake_ns: AtomicU64,
}

impl Connections {
    /// Looks the target's name up, once. Pipes go by the port alone.
    pub async fn to(target: &Target, dialer: impl Into<Dialer>, clock: Clock) -> io::Result<Self> {
        let dialer = dialer.into();
        let addresses = match dialer.connector() {
            Connector::Pipes(_) => vec![SocketAddr::from((Ipv4Addr::LOCALHOST, target.port))],
            Connector::Tcp { .. } => {
                tokio::net::lookup_host((target.host.as_str(), target.port)).await?.collect()
            }
        };
        Ok(Self {
            dialer,
            server: target.server_name(),
            addresses,
            clock,
            idle: Pool::default(),
            opened: AtomicU64::new(0),
            handshakes: AtomicU64::new(0),
            handshake_ns: AtomicU64::new(0),
        })
    }

    /// Opens a connection, its handshake done.
    pub async fn open(&self) -> io::Result<Connection> {
        let (mut io, link) = self.dialer.connect(&self.addresses, None).await?;
        if let Some(server) = &self.server {
            let begun_ns = self.clock.mono_ns();
            io = self.dialer.secure(io, server).await?;
            self.handshakes.fetch_add(1, Ordering::Relaxed);
            self.handshake_ns.fetch_add(self.clock.mono_ns() - begun_ns, Ordering::Relaxed);
        }
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Connection::new(io, link, self.clock.clone()))
    }

    /// The newest idle connection that is still open, if there is one.
    pub fn take(&self) -> Option<Connection> {
        self.idle.checkout(self.clock.mono_ns())
    }

    /// Gives a connection back after a whole answer.
    pub fn park(&self, connection: Connection) {
        self.idle.park(connection, self.clock.mono_ns());
    }

    /// Closes what has been idle too long, then opens connections until `spare` are idle. A server that refuses is left to
    /// the requests to report.
    pub async fn tend(self: &Arc<Self>, spare: usize) {
        self.idle.reap(self.clock.mono_ns());
        let mut missing = spare.saturating_sub(self.idle.idle());
        while missing > 0 {
            let now = missing.min(OPENING);
            let mut opening = JoinSet::new();
            for _ in 0..now {
                let connections = Arc::clone(self);
                opening.spawn(async move { connections.open().await });
            }
            while let Some(opened) = opening.join_next().await {
                let Ok(Ok(connection)) = opened else { return };
                self.park(connection);
            }
            missing -= now;
        }
    }

    /// TLS handshakes made so far.
    pub fn handshakes(&self) -> Handshakes {
        let count = self.handshakes.load(Ordering::Relaxed);
        Handshakes { count, total_ns: self.handshake_ns.load(Ordering::Relaxed) }
    }

    /// Connections opened so far.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }
}
