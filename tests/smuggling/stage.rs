//! A router between a raw client and a raw worker, over pipes and in virtual time: what each of them sees of some bytes.
//!
//! Rule: everything that either receives must be HTTP to the strict reader, to the last byte; a wait for what never comes ends
//! with the router's own limits, which take no time here. Every answer has a record, and no connection or lease is left.
//! Deliberately not here: what should be seen (`table`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost::clock::Clock;
use milepost::config::{RouteConfig, worker_urls};
use milepost::net::{Connector, Io, PipeNet};
use milepost::proxy::Shared;
use milepost::proxy::serve::Router;
use milepost::trace::record::Record;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::strict::{self, Answer, Read, Request};
use crate::table::{SECOND, shown};

const ROUTER: u16 = 30_000;
const WORKER: u16 = 1;
/// What the router adds to every request; the first is the worker's own address.
const ADDED: [&str; 5] = ["host", "x-milepost-hop", "x-request-id", "x-arrival-time", "x-router-send-time"];
/// What the router adds to every answer of a worker.
const STAMPED: [&str; 7] = [
    "x-request-id",
    "x-arrival-time",
    "x-router-send-time",
    "server-timing",
    "x-worker-url",
    "x-policy",
    "x-smg-routed-worker-id",
];

/// What a worker sends in place of an answer to `/first`.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub answer: Vec<u8>,
    /// A second later, when the answer has been passed on.
    pub late: Vec<u8>,
    /// Then it closes.
    pub closes: bool,
}

/// What a worker received, in order: the number of its connection, and the request.
type Log = Arc<Mutex<Vec<(usize, Request)>>>;

/// A router, its worker and its records.
pub struct Stage {
    net: PipeNet,
    shared: Arc<Shared>,
    got: Log,
    script: Arc<Mutex<Option<Script>>>,
    workers: Arc<Mutex<Vec<String>>>,
    trace: std::path::PathBuf,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    answers: usize,
    /// Most bytes that a client sends at a time.
    pub part_bytes: usize,
}

/// What was seen of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub told: String,
    pub worker: String,
}

impl Stage {
    pub fn start() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("milepost-smuggling-{}-{number}.jsonl", std::process::id());
        let trace = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&trace);
        let net = PipeNet::default();
        let (got, script, workers) = (Log::default(), Arc::default(), Arc::default());
        tokio::spawn(worker(net.clone(), Arc::clone(&got), Arc::clone(&script), Arc::clone(&workers)));
        let urls = worker_urls(&[format!("http://127.0.0.1:{WORKER}")], "127.0.0.1", ROUTER).unwrap();
        let mut config = RouteConfig {
            workers: urls,
            policy: "round_robin".to_owned(),
            trace_log: Some(trace.clone()),
            ..RouteConfig::default()
        };
        config.health.enabled = false;
        config.breaker.failure_threshold = 1_000_000;
        let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
        let router = Router::start(config, "pipe", clock, Connector::Pipes(net.clone())).unwrap();
        let shared = Arc::clone(router.shared());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(router.serve(net.listen(ROUTER), None, stopped));
        Self { net, shared, got, script, workers, trace, stop, task, answers: 0, part_bytes: usize::MAX }
    }

    /// Sends a case and [`SECOND`] behind it, all at once.
    pub async fn play(&mut self, bytes: &[u8]) -> Seen {
        let all = [bytes, SECOND.as_bytes()].concat();
        let to_head = |n: usize| n == 0 && bytes.starts_with(b"HEAD ");
        let (answers, got) = self.exchange(&all, to_head).await;
        let is_next = |request: &Request| request.target == b"/second";
        // A worker answers with the target that it was asked for: each answer must be that of its own request.
        let mut asked = got.iter();
        let mut words = Vec::new();
        for answer in &answers {
            let request = if is_passed_on(answer) { asked.next() } else { None };
            let is_own = request.is_none_or(|r| r.method == b"HEAD" || r.target == answer.body);
            assert!(is_own, "{}: somebody else's answer: {answer:?}", shown(bytes));
            words.push(match request {
                Some(request) if is_next(request) => "then the next".to_owned(),
                _ => answer.status.to_string(),
            });
        }
        if !words.iter().any(|word| word == "then the next") {
            words.push("closed".to_owned());
        }
        let received: Vec<String> = got
            .iter()
            .map(|request| (is_next(request), self.received(request)))
            .filter(|(is_next, _)| !is_next)
            .map(|(_, text)| text)
            .collect();
        let worker = if received.is_empty() { "nothing".to_owned() } else { received.join(" + ") };
        Seen { told: words.join(", "), worker }
    }

    /// Sends bytes: what the client is told and what the worker receives. `to_head`: the answer of this number is to a HEAD.
    pub async fn exchange(
        &mut self,
        bytes: &[u8],
        to_head: impl Fn(usize) -> bool,
    ) -> (Vec<Answer>, Vec<Request>) {
        let told = self.converse(&[bytes]).await;
        let answers = answers(&told, to_head);
        self.answers += answers.len();
        let got = std::mem::take(&mut *self.got.lock().unwrap());
        (answers, got.into_iter().map(|(_, request)| request).collect())
    }

    /// Asks for `/first`, which the script answers, and later for `/second`, on the same connection or, where that has closed,
    /// on another one.
    pub async fn play_answer(&mut self, method: &str, script: Script) -> Seen {
        *self.script.lock().unwrap() = Some(script);
        let first = format!("{method} /first HTTP/1.1\r\nhost: r\r\n\r\n");
        let told = self.converse(&[first.as_bytes(), SECOND.as_bytes()]).await;
        let (first, used_bytes) = match strict::answer(&told, method == "HEAD", true) {
            Read::Whole(answer, used_bytes) => (passed_on(&answer), used_bytes),
            Read::Partial => (format!("cut: {}", without(&told, &STAMPED)), told.len()),
            Read::Refused(why) => panic!("{}: {why}", shown(&told)),
        };
        self.answers += 1;
        let mut rest = told[used_bytes..].to_vec();
        let is_closed = rest.is_empty();
        if is_closed {
            rest = self.converse(&[SECOND.as_bytes()]).await;
        }
        let next = answers(&rest, |_| false);
        self.answers += next.len();
        let bodies: Vec<_> = next.iter().map(|answer| (answer.status, &answer.body[..])).collect();
        assert_eq!(bodies, [(200, &b"/second"[..])], "{}: the next request's own answer", shown(&rest));
        let got = std::mem::take(&mut *self.got.lock().unwrap());
        let connections: Vec<usize> = got.iter().map(|(connection, _)| *connection).collect();
        let reused =
            if connections.windows(2).all(|pair| pair[0] == pair[1]) { "the same" } else { "another" };
        let client = if is_closed { ", the client's closed" } else { "" };
        Seen { told: first, worker: format!("next on {reused} connection{client}") }
    }

    /// Sends parts, each when everything has settled after the one before, and reads to the end of the connection.
    async fn converse(&self, parts: &[&[u8]]) -> Vec<u8> {
        let (mut from, mut to) = tokio::io::split(self.net.connect(ROUTER).await.unwrap());
        let sending = async {
            for (n, part) in parts.iter().enumerate() {
                if n > 0 {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                for bytes in part.chunks(self.part_bytes.max(part.len() / 1000)) {
                    if to.write_all(bytes).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            // Closing would be leaving.
            to
        };
        let mut told = Vec::new();
        let (_to, read) = tokio::join!(sending, from.read_to_end(&mut told));
        read.unwrap();
        told
    }

    /// A request as the worker got it, less what the router adds to each, which must be there once.
    fn received(&self, request: &Request) -> String {
        let values = |name: &str| {
            let named = request.fields.iter().filter(move |(n, _)| n == name.as_bytes());
            named.map(|(_, value)| value.as_slice()).collect::<Vec<_>>()
        };
        assert!(ADDED.iter().all(|name| values(name).len() == 1), "{request:?}");
        assert_eq!(values("host"), [format!("127.0.0.1:{WORKER}").as_bytes()]);
        assert_eq!(values("x-milepost-hop"), [self.shared.instance.as_bytes()]);
        assert!(values("transfer-encoding").is_empty() && values("content-length").len() <= 1);
        assert!(values("connection").is_empty() && !request.is_last && !request.is_coded);
        let line = [&request.method[..], b" ", &request.target, b" HTTP/1.1"].concat();
        written(&line, &request.fields, &request.body, &ADDED)
    }

    /// Stops it: every answer has a record, of a request or of a connection, and nothing is held.
    pub async fn finish(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
        let text = std::fs::read_to_string(&self.trace).unwrap();
        std::fs::remove_file(&self.trace).unwrap();
        let (mut requests, mut connections) = (0, 0);
        for line in text.lines() {
            match serde_json::from_str(line).expect(line) {
                Record::Request(_) => requests += 1,
                Record::Connection(_) => connections += 1,
                _ => {}
            }
        }
        assert_eq!(requests + connections, self.answers, "a record for each answer");
        assert_eq!(self.shared.requests.load(Ordering::Relaxed), requests as u64);
        assert_eq!(self.shared.budget.used_bytes(), 0);
        for worker in self.shared.fleet.workers() {
            assert_eq!(worker.in_flight(), 0, "every lease is back");
        }
        let complaints = self.workers.lock().unwrap();
        assert!(complaints.is_empty(), "what a worker could not read: {complaints:#?}");
    }
}

/// An answer as the client got it, less what the router adds to each; of the router's own 502 nothing else.
fn passed_on(answer: &Answer) -> String {
    if answer.status == 502 {
        return "502".to_owned();
    }
    written(answer.status.to_string().as_bytes(), &answer.fields, &answer.body, &STAMPED)
}

/// A worker's answer, as against one of the router's own.
pub fn is_passed_on(answer: &Answer) -> bool {
    answer.fields.iter().any(|(name, _)| name == b"x-worker-url")
}

/// All answers on a connection that has closed, to the last byte.
fn answers(told: &[u8], to_head: impl Fn(usize) -> bool) -> Vec<Answer> {
    let mut rest = told;
    let mut found = Vec::new();
    while !rest.is_empty() {
        match strict::answer(rest, to_head(found.len()), true) {
            Read::Whole(answer, used_bytes) => {
                found.push(answer);
                rest = &rest[used_bytes..];
            }
            other => panic!("{}: {other:?}", shown(told)),
        }
    }
    found
}

fn written(line: &[u8], fields: &strict::Fields, body: &[u8], without: &[&str]) -> String {
    let mut text = [line, b"\r\n"].concat();
    for (name, value) in fields.iter().filter(|(name, _)| !without.iter().any(|w| w.as_bytes() == name)) {
        text.extend_from_slice(&[name, &b": "[..], value, b"\r\n"].concat());
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(body);
    shown(&text)
}

/// A head that was cut with what follows it, less these fields.
fn without(told: &[u8], names: &[&str]) -> String {
    let text = String::from_utf8_lossy(told);
    let is_kept = |line: &&str| !names.iter().any(|name| line.starts_with(&format!("{name}: ")));
    shown(text.split_inclusive("\r\n").filter(is_kept).collect::<String>().as_bytes())
}

async fn worker(
    net: PipeNet,
    got: Log,
    script: Arc<Mutex<Option<Script>>>,
    complaints: Arc<Mutex<Vec<String>>>,
) {
    let mut listener = net.listen(WORKER);
    for number in 0.. {
        let Ok((io, _)) = listener.accept().await else { return };
        let (got, script, complaints) = (Arc::clone(&got), Arc::clone(&script), Arc::clone(&complaints));
        tokio::spawn(async move {
            if let Err(complaint) = serve(io, number, &got, &script).await {
                complaints.lock().unwrap().push(complaint);
            }
        });
    }
}

/// Reads requests strictly and answers each by its target; the error is what cannot be read.
async fn serve(mut io: Io, number: usize, got: &Log, script: &Mutex<Option<Script>>) -> Result<(), String> {
    let mut bytes = Vec::new();
    loop {
        let request = match strict::request(&bytes) {
            // A client may begin with an empty line; the router never does.
            _ if bytes.starts_with(b"\r") || bytes.starts_with(b"\n") => return Err(shown(&bytes)),
            Read::Whole(request, used_bytes) => {
                bytes.drain(..used_bytes);
                request
            }
            Read::Refused(why) => return Err(format!("{why}: {}", shown(&bytes))),
            Read::Partial => {
                match io.read_buf(&mut bytes).await {
                    Ok(0) | Err(_) if bytes.is_empty() => return Ok(()),
                    Ok(0) | Err(_) => return Err(format!("closed in the middle: {}", shown(&bytes))),
                    Ok(_) => {}
                }
                continue;
            }
        };
        // The router's own questions carry no request id.
        let is_own = !request.fields.iter().any(|(name, _)| name == b"x-request-id");
        let scripted = if request.target == b"/first" { script.lock().unwrap().clone() } else { None };
        let Script { answer, late, closes } = match scripted {
            Some(script) => script,
            None => {
                let status = if is_own { "404 Not Found" } else { "200 OK" };
                let body = if request.method == b"HEAD" { &[][..] } else { &request.target[..] };
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", request.target.len());
                Script { answer: [head.as_bytes(), body].concat(), ..Script::default() }
            }
        };
        if !is_own {
            got.lock().unwrap().push((number, request));
        }
        let mut sent = io.write_all(&answer).await;
        if !late.is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            sent = sent.and(io.write_all(&late).await);
        }
        if closes || sent.is_err() {
            return Ok(());
        }
    }
}
