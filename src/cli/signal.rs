//! Ctrl-C and SIGTERM, the same for every command.

/// Returns at the next SIGINT or SIGTERM.
pub async fn stop_requested() {
    let interrupt = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                biased;
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        // Without a SIGTERM handler the default action ends the process, which is what it asks for.
        Err(_) => drop(interrupt.await),
    }
}
