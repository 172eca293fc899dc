//! How workers are reached: a transport, and TLS above it for those that want it.
//!
//! Rule: a connection is handed out when it can carry plaintext, its handshake done. Without what TLS needs, plain workers are
//! reached all the same, and the reason is kept for whoever asks for an https one. Deliberately not here: which
//! address is known of whom (`fleet`).

use std::io;
use std::net::SocketAddr;

use super::tls::{ClientTls, ServerName, TlsError};
use super::{Connector, Io, Link};

/// Opens connections to workers.
#[derive(Clone, Debug)]
pub struct Dialer {
    connector: Connector,
    tls: Result<ClientTls, TlsError>,
}

impl From<Connector> for Dialer {
    /// Plain workers only.
    fn from(connector: Connector) -> Self {
        let fallback = "this router was started without any".to_owned();
        Self { connector, tls: Err(TlsError::NoRoots { fallback }) }
    }
}

impl Dialer {
    /// A transport, and TLS or why there is none.
    pub fn new(connector: Connector, tls: Result<ClientTls, TlsError>) -> Self {
        Self { connector, tls }
    }

    /// What https workers are spoken to with, or why they cannot be.
    pub fn tls(&self) -> Result<&ClientTls, &TlsError> {
        self.tls.as_ref()
    }

    /// The transport.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The addresses of a name.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.connector.resolve(host, port).await
    }

    /// Connects to the first address that answers, by TLS where `server` says who it must be; the error is that of the last
    /// one. A failed handshake has a [`super::tls::HandshakeError`] inside.
    pub async fn connect(
        &self,
        addrs: &[SocketAddr],
        server: Option<&ServerName<'static>>,
    ) -> io::Result<(Io, Link)> {
        let Some(server) = server else {
            return self.connector.connect(addrs).await;
        };
        self.secured_by()?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
        for addr in addrs {
            let shaken = match self.connector.connect(std::slice::from_ref(addr)).await {
                Ok((io, link)) => self.secure(io, server).await.map(|io| (io, link)),
                Err(error) => Err(error),
            };
            match shaken {
                Ok(connected) => return Ok(connected),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The client's handshake on a connection to `server`. A failed one has a [`super::tls::HandshakeError`] inside, one without
    /// what it takes a [`TlsError`].
    pub async fn secure(&self, io: Io, server: &ServerName<'static>) -> io::Result<Io> {
        self.secured_by()?.connect(io, server.clone()).await.map_err(io::Error::other)
    }

    fn secured_by(&self) -> io::Result<&ClientTls> {
        self.tls.as_ref().map_err(|error| io::Error::other(error.clone()))
    }
}
