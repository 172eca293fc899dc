//! The worker as an HTTP server: connections, and which endpoint answers what.
//!
//! Rules: an HTTP/1.1 server as uvicorn is one (idle connections closed after 5.0 s, no limit on connections seen there, one
//! of 10,000 here); a client that goes takes its jobs out of the engine at once (a real server notices up to four seconds
//! later). The idle limit is hyper's head time-out, so it also ends a connection that never sends a head, which uvicorn would
//! keep. At shutdown connections are dropped as they are. Deliberately not here: the bodies (one file an endpoint family).

mod ask;
mod call;
mod fault;
mod generate;
mod io;
mod openai;
mod probes;
mod problem;
mod reply;
mod switch;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::SimConfig;
use super::engine::Engine;
use super::runner::{Pace, Runner};
use super::tokens::mix;
use crate::clock::Clock;
use ask::Limits;
use call::Rids;
use fault::Fault;
use io::{HyperIo, HyperTimer};
use problem::{Family, Refusal};
use reply::{Cut, Replies, SimBody};
use switch::Switch;

/// Most bytes of a request body: a prompt of 16 MiB was seen to work on a real server.
const LARGEST_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Most connections at once; the next one waits in the kernel's backlog.
const MOST_CONNECTIONS: usize = 10_000;

/// How long a stalled answer is held.
const STALL: Duration = Duration::from_secs(600);

/// A simulated worker: an engine and what its HTTP endpoints need.
pub struct Worker {
    config: SimConfig,
    clock: Clock,
    runner: Runner,
    rids: Rids,
    /// Present where faults are allowed.
    switch: Option<Switch>,
    next_id: AtomicU64,
}

impl Worker {
    /// Starts the engine. Inside a tokio runtime.
    pub fn start(config: SimConfig, clock: Clock) -> std::io::Result<Arc<Self>> {
        config.check().map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidInput, e))?;
        let engine = Engine::new(config.profile.clone(), config.speedup, config.max_queued_requests);
        let runner = Runner::start(engine, clock.clone())?;
        let switch = config.allow_faults.then(Switch::default);
        Ok(Arc::new(Self {
            config,
            clock,
            runner,
            rids: Rids::default(),
            switch,
            next_id: AtomicU64::new(0),
        }))
    }

    /// How well the engine kept its deadlines so far.
    pub fn pace(&self) -> Pace {
        self.runner.pace()
    }

    /// Serves until `shutdown` is done, then drops every connection and stops the engine.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(self.clone().connection(stream))),
                    // Out of descriptors, or the client left first: the next accept may work.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
            }
        }
        self.runner.stop();
        connections.shutdown().await;
        Ok(())
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        // Refused, small writes wait for acknowledgements; nothing else changes.
        let _ = stream.set_nodelay(true);
        let reset = Arc::new(AtomicBool::new(false));
        let keep_alive = Duration::from_secs(self.config.dialect.keep_alive_s());
        let service = service_fn(|request| Box::pin(self.clone().respond(request, reset.clone())));
        let mut server = http1::Builder::new();
        server.timer(HyperTimer).header_read_timeout(keep_alive).max_headers(256);
        let mut connection = server.serve_connection(HyperIo(stream), service);
        // What ends a connection is the client's doing or a fault asked for.
        let _ = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
        let HyperIo(mut stream) = connection.into_parts().io;
        if reset.load(Ordering::Relaxed) {
            let _ = stream.set_zero_linger();
        } else {
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
        }
    }

    async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        reset: Arc<AtomicBool>,
    ) -> Result<Response<SimBody>, Cut> {
        let exchange = Exchange { worker: self };
        if request.uri().path() == switch::PATH {
            return Ok(switch::answer(&exchange, &request));
        }
        let Some(switch) = &exchange.worker.switch else {
            return Ok(exchange.dispatch(request).await);
        };
        switch.pass(&reset).await?;
        let fault = match switch.fault_of(&request) {
            Ok(fault) => fault,
            Err(message) => {
                return Ok(exchange.replies().json(
                    StatusCode::BAD_REQUEST,
                    problem::object("error", &message, "BadRequestError", 400),
                ));
            }
        };
        reset.store(
            matches!(fault, Some(Fault::ResetBeforeHead | Fault::ResetMidStream(_) | Fault::Stall)),
            Ordering::Relaxed,
        );
        match fault {
            Some(Fault::ResetBeforeHead) => return Err(Cut),
            Some(Fault::Stall) => {
                tokio::time::sleep(STALL).await;
                return Err(Cut);
            }
            Some(Fault::Error500) => return Ok(problem::internal_error(exchange.replies())),
            Some(Fault::Empty200) => {
                return Ok(exchange.replies().json(StatusCode::OK, Bytes::new()));
            }
            Some(Fault::Truncate | Fault::ResetMidStream(_)) | None => {}
        }
        let response = tokio::select! {
            response = exchange.dispatch(request) => response,
            () = switch.resets() => {
                reset.store(true, Ordering::Relaxed);
                return Err(Cut);
            }
        };
        switch.pass(&reset).await?;
        Ok(match fault {
            Some(fault) => fault.cut(response),
            None => switch.guard(response, reset),
        })
    }

    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// 32 hex digits that no other worker gives: from the seed, the clock and a number.
    fn random_id(&self, number: u64) -> String {
        let high = mix(self.config.seed ^ mix(self.clock.mono_ns()));
        format!("{high:016x}{:016x}", mix(high ^ number))
    }
}

/// One request's view of the worker.
struct Exchange {
    worker: Arc<Worker>,
}

impl Exchange {
    fn replies(&self) -> Replies {
        let offset_ns = self.worker.config.clock_offset_us.saturating_mul(1_000);
        Replies {
            dialect: self.worker.config.dialect,
            unix_ns: self.worker.clock.now().unix_ns.saturating_add_signed(offset_ns),
        }
    }

    fn limits(&self) -> Limits<'_> {
        let config = &self.worker.config;
        Limits { dialect: config.dialect, profile: &config.profile, seed: config.seed }
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Response<SimBody> {
        let (head, body) = request.into_parts();
        let (path, dialect) = (head.uri.path(), self.worker.config.dialect);
        let Some(methods) = dialect.methods(path) else {
            return self.refuse_path(StatusCode::NOT_FOUND, None);
        };
        if !methods.contains(&head.method.as_str()) {
            return self.refuse_path(StatusCode::METHOD_NOT_ALLOWED, Some(&methods.join(", ")));
        }
        if head.method == Method::GET || head.method == Method::HEAD || path == "/flush_cache" {
            return probes::answer(self, path).await;
        }
        let family = match path {
            "/v1/chat/completions" => Family::Chat,
            "/v1/completions" => Family::Completions,
            _ => Family::Native,
        };
        let is_json =
            head.headers.get(CONTENT_TYPE).is_none_or(|v| v.as_bytes().starts_with(b"application/json"));
        let must_be_json = path != "/abort_request" && (family == Family::Native || !dialect.is_rust());
        let parsed = match read(body).await {
            Ok(bytes) if bytes.is_empty() => Err(Refusal::NoBody),
            Ok(_) if must_be_json && !is_json => Err(Refusal::ContentType),
            Ok(bytes) => ask::parse(&bytes),
            Err(refusal) => Err(refusal),
        };
        match path {
            "/generate" => generate::answer(self, &parsed).await,
            "/abort_request" => self.abort(&parsed),
            _ => openai::answer(self, &parsed, family).await,
        }
    }

    /// Unknown request ids are no error, as on real servers.
    fn abort(&self, body: &Result<Value, Refusal>) -> Response<SimBody> {
        let body = match body {
            Ok(body) => body,
            Err(refusal) => return refusal.answer(self.replies(), Family::Native, false),
        };
        let all = (body["abort_all"] == true).then_some("");
        if let Some(prefix) = all.or(body["rid"].as_str().filter(|rid| !rid.is_empty())) {
            self.worker.runner.abort(&self.worker.rids.starting_with(prefix));
        }
        self.replies().empty(StatusCode::OK)
    }

    fn refuse_path(&self, status: StatusCode, allow: Option<&str>) -> Response<SimBody> {
        if self.worker.config.dialect.is_rust() {
            return self.replies().whole(status, None, allow, Bytes::new());
        }
        let detail = status.canonical_reason().unwrap_or_default();
        self.replies().whole(status, Some(reply::JSON), allow, format!("{{\"detail\":\"{detail}\"}}").into())
    }
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let whole = Limited::new(body, LARGEST_BODY_BYTES).collect().await;
    whole.map(http_body_util::Collected::to_bytes).map_err(|error| {
        match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Refusal::TooLarge(LARGEST_BODY_BYTES),
            // The client has gone; nobody reads this.
            None => Refusal::NoBody,
        }
    })
}
