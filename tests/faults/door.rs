//! The way to a router, over pipes or sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use milepost::net::{Io, PipeNet};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::events::Events;

/// Where connections are made.
#[derive(Clone)]
pub enum Net {
    /// On this network, in virtual time.
    Pipes(PipeNet),
    /// Over TCP.
    Sockets,
}

/// The way to a router.
#[derive(Clone)]
pub struct Door {
    net: Net,
    at: SocketAddr,
    events: Arc<Events>,
}

impl Door {
    /// To what listens there.
    pub fn new(net: Net, at: SocketAddr, events: Arc<Events>) -> Self {
        Self { net, at, events }
    }

    /// To another address.
    pub fn at(&self, at: SocketAddr) -> Self {
        Self { at, ..self.clone() }
    }

    /// Where it leads.
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// A client on a connection of its own; the error where nobody listens.
    pub async fn enter(&self) -> std::io::Result<Client> {
        let io = match &self.net {
            Net::Pipes(net) => net.connect(self.at.port()).await?,
            Net::Sockets => {
                let stream = TcpStream::connect(self.at).await?;
                stream.set_nodelay(true)?;
                Io::Tcp(stream)
            }
        };
        Ok(Client::on(io, Arc::clone(&self.events)))
    }

    /// Of a metrics page: the sum of a family's series.
    pub async fn gauge(&self, name: &str) -> f64 {
        // Not an event of the row.
        let door =
            Self { events: Arc::new(Events::begin(matches!(self.net, Net::Pipes(_)))), ..self.clone() };
        let mut client = door.enter().await.unwrap();
        client.send("GET /metrics HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n").await;
        let page = String::from_utf8(client.answer().await.body).unwrap();
        let series = page.lines().filter(|l| l.strip_prefix(name).is_some_and(|l| l.starts_with(['{', ' '])));
        let values: Vec<f64> = series.map(|l| l.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert!(!values.is_empty(), "{name} is on the page");
        values.into_iter().sum()
    }
}
