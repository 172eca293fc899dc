//! A server that is asked for its load, and a router whose policy keeps what it sees of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use milepost::config::RouteConfig;
use milepost::net::{Io, PipeNet};
use milepost::trace::record::Outcome;
use milepost_policies::{Decision, Labels, Needs, Policy, RequestView, Time, WorkerView, Workers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::harness::{post, read_message};
use crate::piped::{self, PipedRouter};

const TOKEN: &str = r#"{"text":"w","meta_info":{"id":"x","finish_reason":{"type":"length","length":1},"prompt_tokens":3,"completion_tokens":1}}"#;
pub const LOADS: &str = "/v1/loads";

/// What a server does with a question.
#[derive(Clone, Debug)]
pub enum Reply {
    Body(String),
    Status(u16),
    /// This body, passed on by a router.
    Routed(String),
    /// An answer of so many bytes.
    Long(usize),
    /// It says that the answer has one byte more than it sends, and hangs up.
    Cut(String),
    Hang,
    HangUp,
}

/// A question about the load.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Instant,
    pub path: String,
    pub connection: usize,
}

/// A server that is asked.
pub struct Server {
    port: u16,
    pub url: String,
    replies: Arc<Mutex<HashMap<&'static str, Reply>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: AtomicUsize,
    // Questions about the load that it has and has not answered, and the most there ever were.
    pub open: Arc<(AtomicUsize, AtomicUsize)>,
}

impl Server {
    pub fn start(net: &PipeNet, port: u16, path: &'static str, body: &str) -> Arc<Self> {
        let server = Arc::new(Self {
            port,
            url: piped::url(port),
            replies: Arc::default(),
            asked: Arc::default(),
            connections: AtomicUsize::new(0),
            open: Arc::default(),
        });
        server.says(path, Reply::Body(body.to_owned()));
        server.says("/generate", Reply::Body(TOKEN.to_owned()));
        server.listen(net);
        server
    }

    pub fn listen(self: &Arc<Self>, net: &PipeNet) {
        let (mut listener, server) = (net.listen(self.port), Arc::clone(self));
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let server = Arc::clone(&server);
                tokio::spawn(async move { server.converse(io).await });
            }
        });
    }

    pub fn says(&self, path: &'static str, reply: Reply) {
        self.replies.lock().unwrap().insert(path, reply);
    }

    /// Questions about its load since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    pub fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.path).collect()
    }

    fn reply(&self, path: &str) -> Reply {
        self.replies.lock().unwrap().get(path).cloned().unwrap_or(Reply::Status(404))
    }

    async fn converse(&self, mut io: Io) {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let mut buffer = Vec::new();
        while let Some((head, _)) = read_message(&mut io, &mut buffer).await {
            let path = head.split([' ', '?']).nth(1).unwrap().to_owned();
            let of_load = [LOADS, "/get_load", "/metrics"].contains(&path.as_str());
            if of_load {
                let asked = Asked { at: Instant::now(), path: path.clone(), connection };
                self.asked.lock().unwrap().push(asked);
                let now = self.open.0.fetch_add(1, Ordering::Relaxed) + 1;
                self.open.1.fetch_max(now, Ordering::Relaxed);
            }
            let stays = answer(&mut io, self.reply(&path)).await;
            if of_load {
                self.open.0.fetch_sub(1, Ordering::Relaxed);
            }
            if !stays {
                return;
            }
        }
    }
}

/// False if the connection ends.
async fn answer(io: &mut Io, reply: Reply) -> bool {
    let mark = if matches!(reply, Reply::Routed(_)) { "x-smg-routed-worker-id: w\r\n" } else { "" };
    let (status, body, length) = match reply {
        Reply::Body(body) | Reply::Routed(body) => (200, body.clone(), body.len()),
        Reply::Status(status) => (status, String::new(), 0),
        Reply::Long(bytes) => (200, " ".repeat(bytes), bytes),
        Reply::Cut(body) => (200, body.clone(), body.len() + 1),
        Reply::HangUp => return false,
        Reply::Hang => {
            while !matches!(io.read(&mut [0; 64]).await, Ok(0) | Err(_)) {}
            return false;
        }
    };
    let whole = length == body.len();
    let text = format!("HTTP/1.1 {status} Said\r\n{mark}content-length: {length}\r\n\r\n{body}");
    io.write_all(text.as_bytes()).await.is_ok() && whole
}

/// Takes the first worker, and keeps what it saw.
#[derive(Clone, Default)]
struct Watching {
    needs: Needs,
    seen: Arc<Mutex<Vec<(WorkerView, Labels)>>>,
}

impl Policy for Watching {
    fn name(&self) -> &'static str {
        "watching"
    }

    fn needs(&self) -> Needs {
        self.needs
    }

    fn choose(&mut self, _: Time, _: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        let labelled = workers.iter().enumerate().map(|(i, view)| (*view, workers.labels(i).clone()));
        *self.seen.lock().unwrap() = labelled.collect();
        out.choose(0, "first");
    }
}

/// A router whose policy watches.
pub struct Watched {
    pub router: PipedRouter,
    seen: Arc<Mutex<Vec<(WorkerView, Labels)>>>,
}

impl Watched {
    pub fn start(net: &PipeNet, servers: &[&Arc<Server>]) -> Self {
        Self::with(net, servers, |_| {})
    }

    pub fn with(net: &PipeNet, servers: &[&Arc<Server>], change: impl FnOnce(&mut RouteConfig)) -> Self {
        let needs = Needs { server_loads: true, ..Needs::default() };
        Self::needing(needs, net, servers, change)
    }

    pub fn needing(
        needs: Needs,
        net: &PipeNet,
        servers: &[&Arc<Server>],
        change: impl FnOnce(&mut RouteConfig),
    ) -> Self {
        let policy = Watching { needs, ..Watching::default() };
        let (seen, urls) =
            (Arc::clone(&policy.seen), servers.iter().map(|s| s.url.clone()).collect::<Vec<_>>());
        Self { router: PipedRouter::with_policy(net, &urls, Box::new(policy), change), seen }
    }

    /// What a policy sees now of each worker.
    pub async fn views(&self) -> Vec<WorkerView> {
        self.labelled_views().await.into_iter().map(|(view, _)| view).collect()
    }

    pub async fn labelled_views(&self) -> Vec<(WorkerView, Labels)> {
        assert_eq!(self.router.ask(post("/generate", "{}")).await.status, 200);
        self.seen.lock().unwrap().clone()
    }

    /// The queues as a policy sees them now.
    pub async fn queues(&self) -> Vec<Option<u32>> {
        self.views().await.iter().map(|view| view.queue_depth).collect()
    }

    /// Every request was routed, whatever the servers said.
    pub async fn finish(self) {
        let (records, _) = self.router.finish().await;
        assert!(!records.is_empty() && records.iter().all(|r| r.outcome == Outcome::Done), "{records:?}");
    }
}
