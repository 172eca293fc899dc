//! Serves `/metrics` on a port of its own.
//!
//! Rule: a scraper never holds up a request: few at one time, each with a limit of patience, and the page is made off the
//! request threads. Deliberately not here: what is on the page.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::page;
use super::scraper_io::ScraperIo;
use crate::net::Listener;
use crate::proxy::Shared;

/// Scrapers at one time.
const MAX_SCRAPERS: usize = 16;
/// Longest wait for a scraper's next request, and for it to take a byte.
const SCRAPER_PATIENCE: Duration = Duration::from_secs(30);

/// Serves `/metrics` for ever; run it as a task.
pub async fn serve(shared: Arc<Shared>, mut listener: Listener) {
    let room = Arc::new(Semaphore::new(MAX_SCRAPERS));
    // Dropped with this task, and its scrapers with it.
    let mut scrapers = JoinSet::new();
    loop {
        while scrapers.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((io, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        scrapers.spawn(async move {
            let service = service_fn(|request: Request<_>| answer(Arc::clone(&shared), request));
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(SCRAPER_PATIENCE)
                .serve_connection(TokioIo::new(ScraperIo::new(io, SCRAPER_PATIENCE)), service);
            // A scraper that leaves in the middle is no event.
            let _ = serving.await;
            drop(permit);
        });
    }
}

async fn answer<B>(shared: Arc<Shared>, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(request.uri().path(), "/metrics" | "/metrics/") {
        return Ok(with_status(StatusCode::NOT_FOUND, "GET /metrics\n"));
    }
    // Hundreds of workers make some ten thousand lines.
    let made = tokio::task::spawn_blocking(move || page::text(&shared)).await;
    let Ok(text) = made else {
        return Ok(with_status(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made\n"));
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

fn with_status(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
