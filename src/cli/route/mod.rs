//! `milepost route`: from what was typed to a router that serves until a signal.
//!
//! Deliberately not here: the flags (`config::flags`, `command`), what their values mean (`config`), the router
//! (`proxy::serve`).

mod command;
mod listen;
mod room;
mod start_lines;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

pub use self::command::RouteArgs;
use self::room::Room;
use super::Failure;
use super::signal::{self, StopSignals};
use crate::clock::Clock;
use crate::config::flags::{Settings, about_spans, without_effect};
use crate::log;
use crate::net::{Connector, Listener, descriptors};
use crate::proxy::Shared;
use crate::proxy::serve::Router;

/// Longest wait for a TCP connection to a worker; sglang-router's.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a second signal leaves for the records of what it cuts.
const LAST_WORDS: Duration = Duration::from_secs(1);

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
    if let Some(line) = about_spans(&args.given, settings.config.otlp_traces.as_ref()) {
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
    // Before the first line of the trace is written.
    signal::outlive_file_limits().map_err(|e| Failure::Run(format!("cannot listen for signals: {e}")))?;
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
    let interrupted = Arc::new(AtomicBool::new(false));
    tokio::spawn(stop_on_signal(signals, stop, Arc::clone(router.shared()), Arc::clone(&interrupted)));
    // With it goes the router, and the rest of the trace is written.
    router.serve(Listener::Tcp(listener), metrics, stopped).await;
    if interrupted.load(Ordering::Acquire) {
        return Err(Failure::Interrupted("ended by a second signal; the trace has what was open".to_owned()));
    }
    Ok(())
}

/// The first signal begins the drain; the second ends what is open, with its records, and then the process.
async fn stop_on_signal(
    mut signals: StopSignals,
    stop: watch::Sender<bool>,
    shared: Arc<Shared>,
    interrupted: Arc<AtomicBool>,
) {
    signals.next().await;
    log::info("stopping; a second signal ends at once");
    let _ = stop.send(true);
    signals.next().await;
    interrupted.store(true, Ordering::Release);
    shared.cut.now();
    // A disk that takes no more must not keep the process.
    tokio::time::sleep(LAST_WORDS).await;
    std::process::exit(130);
}
