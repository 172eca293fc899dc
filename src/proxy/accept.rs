//! Client connections: bounded, one task each.
//!
//! Rule: a connection that ends before it carried a readable request leaves a `connection` record, as hyper answers such
//! heads itself (400, 431) and no request record can exist; so does a failed TLS handshake, which has a limit and runs in the
//! connection's task. Out of descriptors: pause, never spin. Deliberately not here: requests.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::client_io::ClientIo;
use super::{Shared, handle};
use crate::log;
use crate::net::tls::HandshakeError;
use crate::net::{Io, Link, Listener};
use crate::trace::record::{ConnectionRecord, Record};

/// Longest idle time between requests and for one head. Above the idle limit of common clients' pools.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Largest request head; sglang-router's hyper takes 400 kB, nginx 32 kB.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// Pause after a failed accept (descriptors exhausted).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until `closing` turns true, then lets connections end for at most the grace period.
pub async fn serve(shared: Arc<Shared>, mut listener: Listener, mut closing: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(shared.config.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let Some(permit) = permit(&room, &mut closing).await else {
            break;
        };
        let accepted = tokio::select! {
            biased;
            () = closed(&mut closing) => break,
            // Before accepting, or a queue that is never empty would let the ended ones pile up.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((io, link)) => {
                connections.spawn(connection(Arc::clone(&shared), io, link, closing.clone(), permit));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotConnected => break,
            Err(error) => {
                log::warn(&format!("accept: {error}; pausing 100 ms"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Frees the port before the streams end, so that a successor can bind it.
    drop(listener);
    while connections.try_join_next().is_some() {}
    let (open, grace_s) = (connections.len(), shared.config.shutdown_grace.as_secs_f64());
    if open > 0 {
        log::info(&format!("no longer listening; open connections: {open}, cut after {grace_s} s"));
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(shared.config.shutdown_grace, ended).await.is_err() {
        log::warn(&format!("{} connections were cut at the end of the grace period", connections.len()));
        shared.cutting.store(true, Ordering::Release);
        connections.shutdown().await;
    }
}

async fn permit(room: &Arc<Semaphore>, closing: &mut watch::Receiver<bool>) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        biased;
        () = closed(closing) => None,
        permit = Arc::clone(room).acquire_owned() => permit.ok(),
    }
}

/// Returns when `closing` has turned true, or its sender is gone.
pub(super) async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

async fn connection(
    shared: Arc<Shared>,
    io: Io,
    link: Link,
    mut closing: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    let _open = shared.metrics.connection();
    let Some(io) = secured(&shared, io, link, &mut closing).await else {
        return;
    };
    let requests = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&requests);
    let service_shared = Arc::clone(&shared);
    let client: Option<Arc<str>> = link.peer.map(|peer| peer.to_string().into());
    let service = service_fn(move |request| {
        counter.fetch_add(1, Ordering::Relaxed);
        let (shared, client) = (Arc::clone(&service_shared), client.clone());
        async move { Ok::<_, Infallible>(handle(shared, request, client).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(ClientIo::new(io, shared.config.request_timeout)), service);
    let mut serving = std::pin::pin!(serving);
    let result = tokio::select! {
        biased;
        result = serving.as_mut() => result,
        () = closed(&mut closing) => {
            serving.as_mut().graceful_shutdown();
            serving.as_mut().await
        }
    };
    if let Err(error) = result {
        note_unreadable(&shared, &error, link, requests.load(Ordering::Relaxed));
    }
}

fn note_unreadable(shared: &Shared, error: &hyper::Error, link: Link, requests: u64) {
    let what = if error.is_parse() {
        "malformed or too large request head"
    } else if error.is_timeout() && requests == 0 {
        "no whole request head in time"
    } else if error.is_incomplete_message() && requests == 0 {
        "closed before a whole request head"
    } else {
        // The connection broke under a request, which has a record of its own.
        return;
    };
    note(shared, link, requests, what.to_owned());
}

/// The plaintext of a connection: itself, or what its TLS handshake gives, for which it has a limited time.
async fn secured(shared: &Shared, io: Io, link: Link, closing: &mut watch::Receiver<bool>) -> Option<Io> {
    let Some(tls) = &shared.tls else {
        return Some(io);
    };
    let shaken = tokio::select! {
        biased;
        () = closed(closing) => return None,
        shaken = tls.accept(io) => shaken,
    };
    match shaken {
        Ok(io) => Some(io),
        // As on a plain port, where such a connection leaves no trace either.
        Err(HandshakeError::Left) => None,
        Err(error) => {
            note(shared, link, 0, error.to_string());
            None
        }
    }
}

fn note(shared: &Shared, link: Link, requests: u64, error: String) {
    shared.metrics.connection_unreadable();
    shared.sink.offer(Record::Connection(ConnectionRecord {
        end_mono_ns: shared.clock.mono_ns(),
        client: link.peer.map(|p| p.to_string()),
        requests,
        error,
    }));
}
