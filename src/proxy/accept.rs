//! Client connections: bounded, one task each.
//!
//! Rule: a connection that ends before it carried a readable request leaves a `connection` record, as no request record can
//! exist; so does a failed TLS handshake, which has a limit and runs in the connection's task. No more are accepted than
//! there are descriptors for, their connections to workers included: the others wait in the kernel's queue. Out of
//! descriptors all the same: pause, never spin. Deliberately not here: requests, how many connections that is (`cli::route`).

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::visit::{NoRequest, Visit};
use super::{Shared, handle};
use crate::http1::{Outgoing, Unreadable};
use crate::log::{self, Rarely};
use crate::net::descriptors::is_shortage;
use crate::net::tls::HandshakeError;
use crate::net::{Io, Link, Listener};
use crate::trace::record::{ConnectionRecord, Record};

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Least time between two lines about the same trouble.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// Accepts until `closing` turns true, then lets connections end for at most the grace period.
pub async fn serve(shared: Arc<Shared>, mut listener: Listener, mut closing: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(shared.config.max_connections));
    let mut connections = JoinSet::new();
    let (mut full, mut failing) = (Rarely::every(SAID_EVERY), Rarely::every(SAID_EVERY));
    loop {
        if room.available_permits() == 0 {
            full.warn(|| full_line(shared.config.max_connections));
        }
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
            Err(error) if error.kind() == ErrorKind::NotConnected => break,
            // A client that left before it was accepted.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(error) => {
                shared.metrics.accept_failed();
                failing.warn(|| format!("accept: {error}; tried again every 100 ms, clients wait meanwhile"));
                if is_shortage(&error) {
                    shared.fleet.close_idle();
                }
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
    let when = tokio::select! {
        biased;
        () = ended => return,
        () = shared.cut.wait() => "before the end of",
        () = tokio::time::sleep(shared.config.shutdown_grace) => "at the end of",
    };
    log::warn(&format!("{} connections were cut {when} the grace period", connections.len()));
    shared.cut.now();
    // Returns when each of them was dropped, its record offered.
    connections.shutdown().await;
}

fn full_line(connections: usize) -> String {
    format!(
        "{connections} client connections, as many as the descriptors of this process allow; more wait until one ends \
         (raise `ulimit -n`)"
    )
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
    let client: Option<Arc<str>> = link.peer.map(|peer| peer.to_string().into());
    let mut visit = Visit::new(io, client, closing.clone());
    let mut requests = 0;
    loop {
        let next = tokio::select! {
            biased;
            next = visit.next_request() => next,
            () = closed(&mut closing) => {
                if !visit.has_begun() {
                    return visit.leave().await;
                }
                // Somebody is asking, and would have to be told; the head has its time and the grace period its own.
                visit.next_request().await
            }
        };
        match next {
            Ok(Some(request)) => {
                requests += 1;
                if !handle(&shared, &mut visit, request).await {
                    break;
                }
            }
            Ok(None) => break,
            Err(why) => {
                unreadable(&shared, &mut visit, why, link, requests).await;
                break;
            }
        }
    }
    visit.close().await;
}

/// Answers what is no request, as far as there is somebody to be answered, and notes it.
async fn unreadable(shared: &Shared, visit: &mut Visit, why: NoRequest, link: Link, requests: u64) {
    let (words, answer) = match why {
        NoRequest::Unreadable(Unreadable::Malformed(error)) => {
            (format!("malformed request head: {error}"), Some("400 Bad Request"))
        }
        NoRequest::Unreadable(Unreadable::TooLarge) => {
            ("too large request head".to_owned(), Some("431 Request Header Fields Too Large"))
        }
        NoRequest::Slow => ("no whole request head in time".to_owned(), Some("408 Request Timeout")),
        NoRequest::Unreadable(Unreadable::Incomplete) => {
            ("closed before a whole request head".to_owned(), None)
        }
        NoRequest::Unreadable(Unreadable::Io(error)) => {
            (format!("broken before a whole request head: {error}"), None)
        }
        // A connection that said nothing is no event, if it has said something before.
        NoRequest::Idle if requests > 0 => return,
        NoRequest::Idle => ("no request in time".to_owned(), None),
    };
    note(shared, link, requests, words);
    if let Some(status) = answer {
        let told = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        visit.last_words();
        // Whether it is read is up to a client that sent no HTTP.
        let _ = visit.write(Outgoing::new([told.as_bytes()])).await;
    }
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
