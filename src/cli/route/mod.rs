//! `milepost route`: from what was typed to a router that serves until a signal.
//!
//! Deliberately not here: the flags (`config::flags`, `command`), what their values mean (`config`), the router
//! (`proxy::serve`).

mod command;
mod listen;
mod room;
mod start_lines;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

pub use self::command::RouteArgs;
use self::room::Room;
use super::Failure;
use super::signal::StopSignals;
use crate::clock::Clock;
use crate::config::flags::{Settings, without_effect};
use crate::log;
use crate::net::{Connector, Listener, descriptors};
use crate::proxy::serve::Router;

/// Longest wait for a TCP connection to a worker; sglang-router's.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the router until a signal.
pub fn run(args: &RouteArgs) -> Result<(), Failure> {
    let mut settings = Settings::read(&args.given).map_err(|e| Failure::Usage(e.to_string()))?;
    let room = room::of(descriptors::raise(), settings.config.workers.len())?;
    settings.config.max_connections = room.streams;
    settings.config.tls.ssl_cert_file = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    log::set_level(settings.log_level);
    if let Some(line) = without_effect(&args.given) {
        log::warn(&line);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Run(format!("cannot start the runtime: {e}")))?;
    let result = runtime.block_on(route(settings, &room));
    runtime.shutdown_background();
    result
}

async fn route(settings: Settings, room: &Room) -> Result<(), Failure> {
    let listener = listen::clients(&settings.listen).await?;
    let metrics = listen::metrics(&settings.metrics).await?;
    let address = listener.local_addr().map_err(|e| Failure::Run(e.to_string()))?;
    let metrics_at = metrics.as_ref().and_then(Listener::local_addr);
    let lines = start_lines::of(&settings.config, address, metrics_at);
    let connector = Connector::Tcp { timeout: CONNECT_TIMEOUT };
    let router = Router::start(settings.config, &address.to_string(), Clock::system(), connector)
        .map_err(|e| Failure::Usage(e.to_string()))?;
    // Before the router says that it is there: whoever reads that may stop it.
    let signals =
        StopSignals::listen().map_err(|e| Failure::Run(format!("cannot listen for signals: {e}")))?;
    for line in &lines {
        log::info(line);
    }
    log::say(if room.is_small { log::Level::Warn } else { log::Level::Info }, &room.line);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(stop_on_signal(signals, stop));
    router.serve(Listener::Tcp(listener), metrics, stopped).await;
    Ok(())
}

/// The first signal begins the drain, the second ends the process.
async fn stop_on_signal(mut signals: StopSignals, stop: watch::Sender<bool>) {
    signals.next().await;
    log::info("stopping; a second signal ends at once");
    let _ = stop.send(true);
    signals.next().await;
    std::process::exit(130);
}
