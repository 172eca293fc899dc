//! After the load: everything that a request held has to be given back while the router still runs.
//!
//! Rule: looks until it is so, for a limited time; what is not back then is told with its number. Deliberately not here: what
//! the trace has to say (`audit`).

use std::sync::Arc;
use std::time::Duration;

use crate::page::Page;
use crate::router::Router;
use crate::worker::Worker;

/// Longest wait: idle connections to workers are closed after four seconds, a request ends after six.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Gauges that are 0 where nothing is going on.
const GAUGES: &[&str] = &[
    "milepost_requests_in_flight",
    "milepost_worker_in_flight",
    "smg_worker_requests_active",
    "smg_http_connections_active",
    "milepost_worker_idle_connections",
    "milepost_trace_buffer_records",
];

/// Waits until all is given back; the last page, and what is not.
pub async fn settle(router: &Router, workers: &[Arc<Worker>], idle_fds: usize) -> (Page, Vec<String>) {
    let mut page = Page::default();
    let mut held = Vec::new();
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        (page, held) = match Page::fetch(router.metrics_at).await {
            Ok(page) => {
                let held = held_by(router, &page, workers, idle_fds);
                (page, held)
            }
            Err(error) => (page, vec![error]),
        };
        if held.is_empty() {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    (page, held)
}

fn held_by(router: &Router, page: &Page, workers: &[Arc<Worker>], idle_fds: usize) -> Vec<String> {
    let mut held = Vec::new();
    for gauge in GAUGES {
        let value = page.sum(gauge, "");
        if value != 0 {
            held.push(format!("{gauge} is {value}, not 0, {PATIENCE:?} after the last client"));
        }
    }
    let open: usize = workers.iter().map(|worker| worker.open_connections()).sum();
    if open > 0 {
        held.push(format!("{open} connections to workers are open"));
    }
    match router.figures() {
        Some(figures) if figures.fds <= idle_fds => {}
        Some(figures) => held.push(format!("{} descriptors, {idle_fds} before the load", figures.fds)),
        None => held.push("the router is gone".to_owned()),
    }
    held
}
