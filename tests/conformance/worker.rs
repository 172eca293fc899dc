//! A scripted SGLang worker: it shows what it got and answers as a case says, else as an engine would.
//!
//! Rule: a router's own questions (health, descriptions, loads) are answered by themselves and kept apart from clients'
//! requests. Deliberately not here: what an answer means.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};

use crate::client::header;
use crate::process::PATIENCE;

/// One request as a worker got it.
#[derive(Clone, Debug)]
pub struct Got {
    /// `POST /generate`.
    pub line: String,
    /// Request line and headers.
    pub head: String,
    /// Body.
    pub body: String,
}

impl Got {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }

    /// The body as JSON, else null.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// What a case makes of a request; `None`: as an engine would.
type Script = Arc<dyn Fn(&Got, &mut TcpStream) -> Option<()> + Send + Sync>;

struct State {
    got: Mutex<Vec<Got>>,
    asked: Mutex<Vec<Got>>,
    script: Mutex<Script>,
    healthy: AtomicBool,
    closed: AtomicU32,
    stopped: AtomicBool,
}

/// A worker.
#[derive(Clone)]
pub struct Worker {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    state: Arc<State>,
}

impl Worker {
    /// Starts one on a free port.
    pub fn start() -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Starts one at an address.
    pub fn start_at(address: SocketAddr) -> Self {
        Self::listen(TcpListener::bind(address).unwrap())
    }

    fn listen(listener: TcpListener) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            got: Mutex::default(),
            asked: Mutex::default(),
            script: Mutex::new(Arc::new(|_, _| None)),
            healthy: AtomicBool::new(true),
            closed: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), state) = (stream, Arc::clone(&shared)) else { return };
                if state.stopped.load(Ordering::Acquire) {
                    return;
                }
                std::thread::spawn(move || converse(stream, &state));
            }
        });
        Self { url, state }
    }

    /// From now on, clients' requests are answered so.
    pub fn answers(&self, script: impl Fn(&Got, &mut TcpStream) -> Option<()> + Send + Sync + 'static) {
        *self.state.script.lock().unwrap() = Arc::new(script);
    }

    /// From now on, clients' requests get this status and body.
    pub fn says(&self, status: u16, body: &'static str) {
        self.answers(move |_, stream| {
            reply(stream, status, "application/json", body);
            Some(())
        });
    }

    /// Health checks are answered with 200 or with 503.
    pub fn set_healthy(&self, healthy: bool) {
        self.state.healthy.store(healthy, Ordering::Release);
    }

    /// Clients' requests so far.
    pub fn got(&self) -> Vec<Got> {
        self.state.got.lock().unwrap().clone()
    }

    /// The router's own questions so far.
    pub fn asked(&self) -> Vec<Got> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Connections of scripts that watched for the router's leaving and saw it.
    pub fn closed(&self) -> u32 {
        self.state.closed.load(Ordering::Acquire)
    }

    /// A request waits until the router closes its connection, and that is counted; with or without the head of a stream.
    pub fn waits_until_closed(&self, after_head: bool) {
        let state = Arc::downgrade(&self.state);
        self.answers(move |_, stream| {
            if after_head {
                begin_stream(stream);
                send_chunk(stream, "data: {\"text\":\"a\"}\n\n");
            }
            let mut rest = [0; 64];
            while !matches!(stream.read(&mut rest), Ok(0) | Err(_)) {}
            close(stream);
            state.upgrade()?.closed.fetch_add(1, Ordering::AcqRel);
            Some(())
        });
    }

    /// Refuses connections from now on, and closes those that are there.
    pub fn stop(&self) {
        self.state.stopped.store(true, Ordering::Release);
        self.answers(|_, stream| {
            close(stream);
            Some(())
        });
        // The accepting thread looks at the mark when somebody comes.
        let address = self.url.trim_start_matches("http://");
        drop(TcpStream::connect(address));
        crate::process::until("the worker is gone", || TcpStream::connect(address).is_err().then_some(()));
    }

    /// Forgets requests.
    pub fn forget(&self) {
        self.state.got.lock().unwrap().clear();
        self.state.asked.lock().unwrap().clear();
        self.state.closed.store(0, Ordering::Release);
    }

    /// Forgets requests and script.
    pub fn clear(&self) {
        self.forget();
        self.set_healthy(true);
        self.answers(|_, _| None);
    }
}

fn converse(mut stream: TcpStream, state: &State) {
    stream.set_nodelay(true).unwrap();
    let mut bytes = Vec::new();
    while let Some(got) = read_request(&mut stream, &mut bytes) {
        let path = got.line.split(' ').nth(1).unwrap_or_default().to_owned();
        if got.line.starts_with("PRI ") {
            // A question whether this is a gRPC worker; it is not.
            return close(&stream);
        }
        if is_own_question(&got) {
            state.asked.lock().unwrap().push(got.clone());
            describe(&path, state, &mut stream);
            continue;
        }
        state.got.lock().unwrap().push(got.clone());
        let script = Arc::clone(&state.script.lock().unwrap());
        if script(&got, &mut stream).is_none() {
            engine(&got, &path, &mut stream);
        }
        // A script that closed the connection meant it.
        if stream.peer_addr().is_err() {
            return;
        }
    }
}

/// A router asks these of its own accord; whether a client stood behind the question is not told apart here.
fn is_own_question(got: &Got) -> bool {
    let own = [
        "/health",
        "/server_info",
        "/get_server_info",
        "/model_info",
        "/get_model_info",
        "/get_load",
        "/mine",
    ];
    got.line.strip_prefix("GET ").is_some_and(|path| own.contains(&path))
}

fn describe(path: &str, state: &State, stream: &mut TcpStream) {
    let server = json!({
        "model_path": "/models/m", "served_model_name": "m", "version": "0.5.23", "tp_size": 1, "dp_size": 1,
        "max_running_requests": 8, "internal_states": [{"last_gen_throughput": 1.0}],
    });
    let model = json!({"model_path": "/models/m", "tokenizer_path": "/models/m", "served_model_name": "m", "is_generation": true});
    let answer = match path {
        "/health" | "/mine" if state.healthy.load(Ordering::Acquire) => json!({}),
        "/health" | "/mine" => return reply(stream, 503, "application/json", "{}"),
        "/get_load" => json!([{"dp_rank": 0, "num_reqs": 1, "num_waiting_reqs": 0, "num_tokens": 7}]),
        "/model_info" | "/get_model_info" => model,
        _ => server,
    };
    reply(stream, 200, "application/json", &answer.to_string());
}

/// What an engine would answer.
fn engine(got: &Got, path: &str, stream: &mut TcpStream) {
    let path = path.split('?').next().unwrap_or_default();
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4});
    let answer = match (got.line.split(' ').next().unwrap_or_default(), path) {
        ("POST", "/generate") => {
            json!({"text": "w", "meta_info": {"id": "x", "prompt_tokens": 3, "completion_tokens": 1,
            "finish_reason": {"type": "length", "length": 1}}})
        }
        ("POST", "/v1/chat/completions") => {
            json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "w"}, "finish_reason": "stop"}], "usage": usage})
        }
        ("POST", "/v1/completions") => {
            json!({"id": "c", "object": "text_completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "text": "w", "finish_reason": "stop"}], "usage": usage})
        }
        ("POST", "/v1/embeddings") => json!({"object": "list", "model": "m", "usage": usage,
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}),
        ("POST", "/rerank" | "/v1/rerank") => json!([{"score": 0.5, "document": "d", "index": 0}]),
        ("POST", "/flush_cache" | "/pause_generation") => json!({"success": true, "message": "done"}),
        ("POST", "/update_weights_from_disk" | "/abort_request") => {
            json!({"success": true, "message": "done"})
        }
        ("GET", "/metrics") => {
            let text = "# HELP sglang:num_running_reqs running\n# TYPE sglang:num_running_reqs gauge\n\
                        sglang:num_running_reqs{model_name=\"m\"} 2.0\n";
            return reply(stream, 200, "text/plain", text);
        }
        ("GET", "/v1/models") => {
            json!({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "sglang"}]})
        }
        ("GET", "/v1/loads") => json!({"loads": [{"dp_rank": 0, "num_total_tokens": 7}]}),
        ("POST", "/v1/responses" | "/v1/classify" | "/encode") | ("GET", "/health_generate") => {
            json!({"id": "r"})
        }
        _ => return reply(stream, 404, "application/json", "{\"detail\":\"Not Found\"}"),
    };
    reply(stream, 200, "application/json", &answer.to_string());
}

/// Writes a whole answer. A router that has gone is the case's own doing.
pub fn reply(stream: &mut TcpStream, status: u16, kind: &str, body: &str) {
    reply_with(stream, status, &format!("content-type: {kind}\r\n"), body);
}

/// As [`reply`], with these header lines, each ended by CR LF.
pub fn reply_with(stream: &mut TcpStream, status: u16, headers: &str, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Scripted\r\n{headers}content-length: {length}\r\n\r\n");
    let _ = stream.write_all((head + body).as_bytes());
}

/// The head of a chunked event stream.
pub fn begin_stream(stream: &mut TcpStream) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    let _ = stream.write_all(head.as_bytes());
}

/// One chunk; an empty one ends the body.
pub fn send_chunk(stream: &mut TcpStream, data: &str) {
    let _ = stream.write_all(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes());
}

/// Ends the connection.
pub fn close(stream: &TcpStream) {
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

/// A door that a case opens: scripts wait before it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets everybody through, now and later.
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open.
    pub fn pass(&self) {
        let shut = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(shut, PATIENCE, |open| !*open).unwrap());
    }
}

fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Got> {
    let mut part = [0; 16 * 1024];
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            if let Some((body, used)) = body(&head, &bytes[end..]) {
                bytes.drain(..end + used);
                let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
                return Some(Got { line, head, body });
            }
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
        }
    }
}

/// The body once it is whole, and the bytes it took.
fn body(head: &str, bytes: &[u8]) -> Option<(String, usize)> {
    if header(head, "transfer-encoding").is_some() {
        let end = bytes.windows(5).position(|w| w == b"0\r\n\r\n")? + 5;
        return Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), end));
    }
    let length = header(head, "content-length").map_or(0, |v| v.parse().unwrap());
    (bytes.len() >= length).then(|| (String::from_utf8_lossy(&bytes[..length]).into_owned(), length))
}
