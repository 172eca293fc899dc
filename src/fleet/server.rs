//! The process behind a worker: where it is and how it is reached.
//!
//! Rule: the data-parallel ranks of one server share this value, and with it what is known of its addresses. Deliberately not
//! here: what a policy tells apart (`worker`), idle connections (`http1::Pool`).

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock::Clock;
use crate::config::worker_url::WorkerUrl;
use crate::http1::Connection;
use crate::log;
use crate::net::descriptors::is_shortage;
use crate::net::dialer::Dialer;
use crate::net::tls::{HandshakeError, ServerName, server_name};

/// A server that workers are at.
#[derive(Debug)]
pub struct Server {
    url: WorkerUrl,
    dialer: Dialer,
    // Whose certificate it must show; `None` for plain HTTP.
    tls_name: Option<ServerName<'static>>,
    addrs: Mutex<Vec<SocketAddr>>,
    // The last handshake failed, and the log says why.
    complained: AtomicBool,
    // Why the last health check failed; `None` if it passed, or if there was none.
    failed_check: Mutex<Option<String>>,
    // It answers the router's own questions with 401.
    wants_key: AtomicBool,
    // Nobody listened at its address, and that has not been taken note of.
    was_gone: AtomicBool,
}

/// Why there is no connection to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectError {
    /// In words.
    pub message: String,
    /// This process has no descriptor left, which says nothing of the server.
    pub is_shortage: bool,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConnectError {}

impl Server {
    /// A server that has not been reached yet.
    pub fn new(url: &WorkerUrl, dialer: Dialer) -> Self {
        Self {
            // A worker URL with a host that no certificate can be for was refused when it was read.
            tls_name: url.is_https().then(|| server_name(url.host())).flatten(),
            url: url.with_rank(None),
            dialer,
            addrs: Mutex::default(),
            complained: AtomicBool::new(false),
            failed_check: Mutex::default(),
            wants_key: AtomicBool::new(false),
            was_gone: AtomicBool::new(false),
        }
    }

    /// Keeps how the last health check went: what was wrong, if anything.
    pub fn checked(&self, failed: Option<String>) {
        *self.failed_check.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }

    /// Why the last health check failed; `None` if it passed, or if there was none.
    pub fn failed_check(&self) -> Option<String> {
        self.failed_check.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps whether it wants a key that the router does not send; true if that is news.
    pub fn set_wants_key(&self, wants: bool) -> bool {
        self.wants_key.swap(wants, Ordering::Relaxed) != wants
    }

    /// It answers the router's own questions with 401.
    pub fn wants_key(&self) -> bool {
        self.wants_key.load(Ordering::Relaxed)
    }

    /// Nobody listened at its address at some time since the last call: if it answers, it was started anew.
    pub fn take_was_gone(&self) -> bool {
        self.was_gone.swap(false, Ordering::Relaxed)
    }

    /// A new connection, to the addresses known last; resolves the name again if they fail.
    pub async fn connect(&self, clock: &Clock) -> Result<Connection, ConnectError> {
        let known = self.known_addrs();
        if known.is_empty() {
            return self.connect_to(&self.resolve().await?, clock).await;
        }
        match self.connect_to(&known, clock).await {
            Err(error) if !error.is_shortage && self.url.literal_addr().is_none() => {
                self.connect_to(&self.resolve().await?, clock).await
            }
            connected => connected,
        }
    }

    /// A new connection to where the name leads now, so that a worker whose old address still answers is followed too. Where
    /// the name is nobody's just now the addresses known last will do: a worker is not down because its name server is.
    pub async fn connect_anew(&self, clock: &Clock) -> Result<Connection, ConnectError> {
        if self.url.literal_addr().is_none() && !self.known_addrs().is_empty() {
            let _ = self.resolve().await;
        }
        self.connect(clock).await
    }

    async fn connect_to(&self, addrs: &[SocketAddr], clock: &Clock) -> Result<Connection, ConnectError> {
        let server = self.tls_name.as_ref();
        let (io, link) = self.dialer.connect(addrs, server).await.map_err(|error| {
            self.complain(&error);
            if error.kind() == std::io::ErrorKind::ConnectionRefused {
                self.was_gone.store(true, Ordering::Relaxed);
            }
            ConnectError { message: format!("connect: {error}"), is_shortage: is_shortage(&error) }
        })?;
        if server.is_some() {
            self.complained.store(false, Ordering::Relaxed);
        }
        Ok(Connection::new(io, link, clock.clone()))
    }

    /// A server that is not up yet is no news, but one that is up and cannot be agreed with needs a person: said once.
    fn complain(&self, error: &std::io::Error) {
        let shaken = error.get_ref().and_then(|inner| inner.downcast_ref::<HandshakeError>()).is_some();
        if shaken && !self.complained.swap(true, Ordering::Relaxed) {
            log::warn(&format!("worker {}: {error}", self.url));
        }
    }

    fn known_addrs(&self) -> Vec<SocketAddr> {
        match self.url.literal_addr() {
            Some(addr) => vec![addr],
            None => self.addrs.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        let (host, port) = (self.url.host(), self.url.port());
        let found = self.dialer.resolve(host, port).await;
        let addrs = found.map_err(|error| ConnectError {
            message: format!("resolve {host}: {error}"),
            is_shortage: is_shortage(&error),
        })?;
        if !addrs.is_empty() {
            self.addrs.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&addrs);
        }
        Ok(addrs)
    }
}
