//! The router's two sockets, and what is said when a port is taken.

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpListener;

use crate::cli::Failure;
use crate::cli::holder;
use crate::config::flags::Endpoint;
use crate::log;
use crate::net::Listener;

/// Binds the clients' socket.
pub(super) async fn clients(at: &Endpoint) -> Result<TcpListener, Failure> {
    bind("--host/--port", at).await
}

/// Binds the socket of `/metrics`. A taken port that nobody asked for costs the metrics, not the router.
pub(super) async fn metrics(at: &Endpoint) -> Result<Option<Listener>, Failure> {
    match bind("--prometheus-host/--prometheus-port", at).await {
        Ok(listener) => Ok(Some(Listener::Tcp(listener))),
        Err(failure) if !at.port_is_given => {
            log::warn(&format!("{failure}; there are no metrics, routing goes on"));
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// Binds an address; the error names the flags, the address, who has it and what to do.
async fn bind(flags: &str, at: &Endpoint) -> Result<TcpListener, Failure> {
    let ip: IpAddr = match at.host.trim_start_matches('[').trim_end_matches(']') {
        "localhost" => IpAddr::from([127, 0, 0, 1]),
        text => text.parse().map_err(|_| {
            Failure::Usage(format!("{flags}: expected an IP address such as 0.0.0.0, got {}", at.host))
        })?,
    };
    let address = SocketAddr::new(ip, at.port);
    TcpListener::bind(address).await.map_err(|e| {
        Failure::Usage(match e.kind() {
            std::io::ErrorKind::AddrInUse => format!(
                "{flags}: {address} is taken by {}; choose another port or end that one",
                holder::of(address)
            ),
            std::io::ErrorKind::AddrNotAvailable => {
                format!("{flags}: {address} is no address of this machine; 0.0.0.0 listens on all of them")
            }
            std::io::ErrorKind::PermissionDenied => {
                format!("{flags}: this user may not listen on {address}; choose a port above 1023")
            }
            _ => format!("{flags}: cannot listen on {address}: {e}"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16, port_is_given: bool) -> Endpoint {
        Endpoint { host: host.to_owned(), port, port_is_given }
    }

    #[tokio::test]
    async fn a_taken_port_names_its_holder_and_costs_the_metrics_only_where_it_was_not_asked_for() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(metrics(&at("127.0.0.1", port, false)).await.unwrap().is_none());
        let failure = metrics(&at("127.0.0.1", port, true)).await.unwrap_err();
        let Failure::Usage(said) = &failure else { panic!("{failure:?}") };
        assert!(
            said.starts_with(&format!("--prometheus-host/--prometheus-port: 127.0.0.1:{port} is taken by "))
        );
        if cfg!(target_os = "linux") {
            assert!(said.contains(&format!("pid {} (", std::process::id())), "{said}");
        }
        assert!(said.ends_with("; choose another port or end that one"), "{said}");
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_listened_on_says_what_would_do() {
        for (host, words) in [
            ("nowhere", "expected an IP address such as 0.0.0.0, got nowhere"),
            ("192.0.2.1", "0.0.0.0 listens on all"),
        ] {
            let said = clients(&at(host, 0, true)).await.unwrap_err().to_string();
            assert!(said.starts_with("--host/--port: ") && said.contains(words), "{said}");
        }
        assert!(clients(&at("localhost", 0, true)).await.is_ok());
        assert!(
            clients(&at("[::1]", 0, true)).await.is_ok()
                || !std::path::Path::new("/proc/net/if_inet6").exists()
        );
    }
}
