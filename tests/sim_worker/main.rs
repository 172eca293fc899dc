//! The simulated worker over real sockets, against captured answers of real servers and in the cases no capture holds.

mod behaviour;
mod captured;
mod client;
mod connections;
mod shape;
mod switch;

use std::net::SocketAddr;

use milepost::clock::Clock;
use milepost::sim::{Dialect, SimConfig, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Starts a worker; it stops when the second value is dropped.
async fn worker(dialect: Dialect, change: impl FnOnce(&mut SimConfig)) -> (SocketAddr, oneshot::Sender<()>) {
    let mut config = SimConfig { dialect, ..SimConfig::default() };
    change(&mut config);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve(listener, config, Clock::system(), async {
        // Dropping the sender stops it too.
        let _ = stopped.await;
    }));
    (address, stop)
}
