//! A server that answers as told, over TCP or an in-memory pipe. Raw bytes, so that it can break an answer anywhere.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::RunContext;
use milepost::load::progress::Silent;
use milepost::net::{Connector, PipeNet};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// What it got.
#[derive(Clone, Debug)]
pub struct Got {
    pub path: String,
    pub head: String,
    pub body: serde_json::Value,
    pub at_ns: u64,
    /// Which request of its connection, from 0.
    pub nth: usize,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|l| l.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }
}

/// What it does, one after the other.
#[derive(Clone, Debug)]
pub enum Step {
    Write(Vec<u8>),
    Sleep(Duration),
    /// Ends the connection in order.
    Close,
    /// Ends it with a reset.
    Reset,
    /// Never goes on.
    Hang,
}

pub type Script = Arc<dyn Fn(&Got) -> Vec<Step> + Send + Sync>;

#[derive(Clone)]
pub struct Server {
    pub got: Arc<Mutex<Vec<Got>>>,
    script: Script,
    clock: Clock,
}

impl Server {
    pub fn new(clock: &Clock, script: impl Fn(&Got) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self { got: Arc::default(), script: Arc::new(script), clock: clock.clone() }
    }

    /// Listens on a free port; the base URL.
    pub async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let server = server.clone();
                tokio::spawn(async move {
                    if server.serve(&mut stream).await == Some(true) {
                        stream.set_zero_linger().unwrap();
                    }
                });
            }
        });
        url
    }

    /// A run in this server's time, over pipes to its port 1.
    pub fn context(&self) -> RunContext {
        RunContext { connector: self.pipes(), ..RunContext::new(self.clock.clone(), Arc::new(Silent)) }
    }

    fn pipes(&self) -> Connector {
        let net = PipeNet::default();
        let mut listener = net.listen(1);
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((mut pipe, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(&mut pipe).await });
            }
        });
        Connector::Pipes(net)
    }

    /// The requests of the load itself.
    pub fn load(&self) -> Vec<Got> {
        let got = self.got.lock().unwrap();
        got.iter()
            .filter(|g| g.head.starts_with("POST") && g.header("x-milepost-phase").is_none())
            .cloned()
            .collect()
    }

    /// `Some(true)`: end with a reset.
    async fn serve(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<bool> {
        let mut buffer = Vec::new();
        for nth in 0.. {
            let got = self.read(stream, &mut buffer, nth).await?;
            self.got.lock().unwrap().push(got.clone());
            for step in (self.script)(&got) {
                match step {
                    Step::Write(bytes) => stream.write_all(&bytes).await.ok()?,
                    Step::Sleep(time) => tokio::time::sleep(time).await,
                    Step::Close => return Some(false),
                    Step::Reset => return Some(true),
                    Step::Hang => std::future::pending().await,
                }
            }
        }
        None
    }

    async fn read(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        buffer: &mut Vec<u8>,
        nth: usize,
    ) -> Option<Got> {
        loop {
            if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
                let length = head
                    .lines()
                    .filter_map(|l| l.split_once(": "))
                    .find(|(n, _)| n.eq_ignore_ascii_case("content-length"));
                let length: usize = length.map_or(0, |(_, v)| v.parse().unwrap());
                if buffer.len() >= end + 4 + length {
                    let body = serde_json::from_slice(&buffer[end + 4..end + 4 + length]).unwrap_or_default();
                    buffer.drain(..end + 4 + length);
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    return Some(Got { path, head, body, at_ns: self.clock.mono_ns(), nth });
                }
            }
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
    }
}

pub fn head(status: &str, content_type: &str, more: &str) -> Step {
    Step::Write(
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n{more}\r\n"
        )
        .into_bytes(),
    )
}

pub fn chunk(data: &str) -> Step {
    Step::Write(format!("{:x}\r\n{data}\r\n", data.len()).into_bytes())
}

pub fn end() -> Step {
    Step::Write(b"0\r\n\r\n".to_vec())
}

/// A stream whose events come with a pause between them.
pub fn stream(events: &str, pause: Duration) -> Vec<Step> {
    let mut steps = vec![head("200 OK", "text/event-stream; charset=utf-8", "")];
    for event in events.split_inclusive("\n\n") {
        steps.extend([chunk(event), Step::Sleep(pause)]);
    }
    steps.push(end());
    steps
}

/// A plain JSON answer.
pub fn json(status: &str, body: &str) -> Vec<Step> {
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    vec![Step::Write(text.into_bytes())]
}

/// Answers to everything that is not the load: what server and model this is.
pub fn about(got: &Got) -> Option<Vec<Step>> {
    let body = match got.path.as_str() {
        "/get_server_info" => {
            r#"{"model_path":"tiny","version":"0.4.9.post6","max_running_requests":16,"internal_states":[{}]}"#
        }
        "/v1/models" => r#"{"object":"list","data":[{"id":"tiny"}]}"#,
        "/flush_cache" => "{}",
        _ => return None,
    };
    Some(json("200 OK", body))
}
