//! A worker that is often not well: its port, its connections, and the end of both.
//!
//! Rule: what is done with a request is drawn from the seed, its number and the worker, so that the order in which requests
//! come changes nothing. A worker that is down refuses connections at its own port, which nobody else
//! is given meanwhile. Deliberately not here: what is said (`answers`), when it is down or sick (`operator`).

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use crate::answers::{self, Ending, Health, Length, Plan, Request, Step};
use crate::dice::Dice;
use crate::ledger::{self, Ledger};
use crate::line::{field, find};

/// Longest conversation without a word from the router.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a worker says of itself.
const INFO: &str =
    r#"{"version":"0.5.23","model_path":"soak","served_model_name":"soak","max_running_requests":64}"#;

/// A worker.
#[derive(Debug)]
pub struct Worker {
    /// Where it is.
    pub url: String,
    number: u64,
    seed: u64,
    at: SocketAddr,
    // Bound and never listened on: the port stays this worker's while it is down.
    _held: OwnedFd,
    up: watch::Sender<bool>,
    sick: AtomicBool,
    open: Arc<AtomicUsize>,
    ledger: Arc<Ledger>,
}

impl Worker {
    /// Takes a port and begins to listen.
    pub fn start(number: u64, seed: u64, ledger: &Arc<Ledger>) -> Result<Arc<Self>, String> {
        let (held, at) = hold_port().map_err(|error| format!("a port for a worker: {error}"))?;
        let worker = Arc::new(Self {
            url: format!("http://{at}"),
            number,
            seed,
            at,
            _held: held,
            up: watch::channel(true).0,
            sick: AtomicBool::new(false),
            open: Arc::default(),
            ledger: Arc::clone(ledger),
        });
        tokio::spawn(listen(Arc::clone(&worker)));
        Ok(worker)
    }

    /// Up, or down: no listener, every connection reset.
    pub fn set_up(&self, up: bool) {
        self.up.send_replace(up);
    }

    /// Most requests fail, health checks too.
    pub fn set_sick(&self, sick: bool) {
        self.sick.store(sick, Ordering::Relaxed);
    }

    /// Connections that are open.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn health(&self) -> Health {
        if self.sick.load(Ordering::Relaxed) { Health::Sick } else { Health::Well }
    }
}

fn hold_port() -> rustix::io::Result<(OwnedFd, SocketAddr)> {
    // Not for the router, which is started afterwards.
    let held = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&held, true)?;
    bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    let at = getsockname(&held)?.try_into()?;
    Ok((held, at))
}

fn bind_again(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(1024)
}

async fn listen(worker: Arc<Worker>) {
    let mut up = worker.up.subscribe();
    while up.wait_for(|up| *up).await.is_ok() {
        let listener = match bind_again(worker.at) {
            Ok(listener) => listener,
            Err(error) => {
                worker.ledger.complain(format!("{}: its port is taken: {error}", worker.url));
                return;
            }
        };
        loop {
            tokio::select! {
                () = down(&mut up) => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(tokio::spawn(serve(Arc::clone(&worker), stream))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                },
            }
        }
    }
}

async fn down(up: &mut watch::Receiver<bool>) {
    // A worker that is gone is down too.
    let _ = up.wait_for(|up| !*up).await;
}

/// Counts a connection as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(worker: Arc<Worker>, mut stream: TcpStream) {
    worker.open.fetch_add(1, Ordering::Relaxed);
    let _open = Open(Arc::clone(&worker.open));
    let mut up = worker.up.subscribe();
    // Without it answers come late, and nothing else happens.
    let _ = stream.set_nodelay(true);
    let ending = tokio::select! {
        () = down(&mut up) => Ending::Reset,
        ending = converse(&worker, &mut stream) => ending,
    };
    match ending {
        Ending::Reset => drop(stream.set_zero_linger()),
        Ending::Close => {
            // What the router still sends is read, or closing would be a reset.
            let _ = stream.shutdown().await;
            until_closed(&mut stream, Duration::from_secs(1)).await;
        }
        Ending::GoesOn | Ending::Stall => {}
    }
}

/// Requests one after the other; how the connection ends.
async fn converse(worker: &Worker, stream: &mut TcpStream) -> Ending {
    let mut buffer = Vec::new();
    loop {
        let Some(head) = read_head(stream, &mut buffer).await else {
            return Ending::Close;
        };
        let body_bytes = field(&head, "content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        let Some(id) = field(&head, "x-request-id").map(str::to_owned) else {
            if !answer_router(worker, stream, &head).await {
                return Ending::Close;
            }
            continue;
        };
        let Some(number) = ledger::number_of(&id) else {
            worker.ledger.complain(format!("a worker got {id}, which nobody has sent"));
            return Ending::Close;
        };
        let mut dice = Dice::of(worker.seed, (3 << 60) + (worker.number << 40) + number as u64);
        let plan = answers::plan(&mut dice, worker.health());
        let mut request = Request { id: &id, stream: false, chat: false, length: Length::Short };
        if plan == Plan::Early && body_bytes > 0 {
            return play(stream, answers::script(plan, request, &mut dice)).await;
        }
        let Some(body) = read_body(stream, &mut buffer, body_bytes).await else {
            return Ending::Close;
        };
        request.stream = find(&body, b"\"stream\":true").is_some();
        request.chat = head.contains("/v1/chat/completions");
        let asks_for =
            |length: &Length| find(&body, format!("tokens\":{}", length.tokens()).as_bytes()).is_some();
        request.length = Length::ALL.into_iter().find(asks_for).unwrap_or_default();
        let is_changed = field(&head, "x-request-id-sum").is_some_and(|sum| sum != checksum(&body));
        // What has a body is a generation, whose answer the router reads.
        worker.ledger.arrived(number, is_changed, plan.is_good(request.stream, !body.is_empty()));
        let ending = play(stream, answers::script(plan, request, &mut dice)).await;
        if ending != Ending::GoesOn {
            return ending;
        }
    }
}

async fn play(stream: &mut TcpStream, (steps, ending): (Vec<Step>, Ending)) -> Ending {
    for step in steps {
        match step {
            Step::Send(bytes) => {
                let written = tokio::time::timeout(PATIENCE, stream.write_all(&bytes)).await;
                if !matches!(written, Ok(Ok(()))) {
                    return Ending::Close;
                }
            }
            Step::Pause(pause) => tokio::time::sleep(pause).await,
        }
    }
    if ending == Ending::Stall {
        until_closed(stream, PATIENCE).await;
    }
    ending
}

/// A question of the router's own: health, and what this is. A sick worker says that it is.
async fn answer_router(worker: &Worker, stream: &mut TcpStream, head: &str) -> bool {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match path {
        "/health" if worker.health() == Health::Sick => (503, ""),
        "/health" => (200, ""),
        "/server_info" => (200, INFO),
        _ => (404, ""),
    };
    let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await.is_ok()
}

async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..at + 4).collect();
            return Some(String::from_utf8_lossy(&head).into_owned());
        }
        fill(stream, buffer).await?;
    }
}

async fn read_body(stream: &mut TcpStream, buffer: &mut Vec<u8>, bytes: usize) -> Option<Vec<u8>> {
    while buffer.len() < bytes {
        fill(stream, buffer).await?;
    }
    Some(buffer.drain(..bytes).collect())
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    buffer.reserve(16 * 1024);
    match tokio::time::timeout(PATIENCE, stream.read_buf(buffer)).await {
        Ok(Ok(1..)) => Some(()),
        _ => None,
    }
}

/// Reads and forgets until the router closes.
async fn until_closed(stream: &mut TcpStream, patience: Duration) {
    let reading = async {
        let mut some = vec![0; 16 * 1024];
        while matches!(stream.read(&mut some).await, Ok(1..)) {}
    };
    // A router that does not close shows in the count of open connections.
    let _ = tokio::time::timeout(patience, reading).await;
}

/// FNV-1a of a body, in hex: enough to see that bytes were lost, added or mixed up.
pub fn checksum(body: &[u8]) -> String {
    let sum = body
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{sum:016x}")
}
