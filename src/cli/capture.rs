//! `milepost trace start|stop|rotate|mark|status|tail`: the capture of a router that runs.
//!
//! Rule: each is one request to the router and prints what it says; `tail` alone asks again, from the cursor that it was given. The
//! router's key comes from the environment, as a command line is everybody's to read. Deliberately not here: what is done
//! (`trace::capture`).

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::{Failure, print, print_bytes};
use crate::admin::trace_tail::NEXT;
use crate::clock::Clock;
use crate::http1::{Outgoing, lines};
use crate::load::connections::{CONNECT_TIMEOUT, Connections};
use crate::load::target::Target;
use crate::net::Connector;
use crate::stdio;

/// Holds the key for the router's control endpoints.
const KEY_VARIABLE: &str = "MILEPOST_API_KEY";
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer: a page of the trace and some.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Pause between two looks at a trace that has nothing new.
const LOOK: Duration = Duration::from_millis(500);

/// Where the router is.
#[derive(Debug, Args)]
pub(super) struct RouterArgs {
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:30000",
        help = "The router; its key, if it wants one, is taken from MILEPOST_API_KEY"
    )]
    router: String,
}

/// What is asked of a router that runs.
#[derive(Debug, Subcommand)]
pub(super) enum CaptureCommand {
    /// Start the capture of a running router: where it was stopped, or in a new file of the router's --trace-dir
    Start {
        /// Letters, digits, - and _
        name: Option<String>,
        #[command(flatten)]
        router: RouterArgs,
    },
    /// Stop the capture: what there is gets written, and the file is let go
    Stop {
        #[command(flatten)]
        router: RouterArgs,
    },
    /// End the file that is written under its number and begin the next
    Rotate {
        #[command(flatten)]
        router: RouterArgs,
    },
    /// Put a label into the trace
    Mark {
        /// A line of at most 200 bytes
        label: String,
        #[command(flatten)]
        router: RouterArgs,
    },
    /// Print how the capture stands
    Status {
        #[command(flatten)]
        router: RouterArgs,
    },
    /// Print the trace of a running router, through all files of the capture
    Tail {
        /// Where to begin: oldest, newest, or a cursor as --cursors prints it
        #[arg(long, default_value = "oldest", value_name = "PLACE")]
        from: String,
        /// Go on as it is written, until Ctrl-C
        #[arg(long)]
        follow: bool,
        /// Print on standard error after each page the cursor that goes on behind it
        #[arg(long)]
        cursors: bool,
        #[command(flatten)]
        router: RouterArgs,
    },
}

/// Does it.
pub(super) fn run(command: CaptureCommand) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Run(format!("no runtime: {e}")))?;
    runtime.block_on(asked(command))
}

async fn asked(command: CaptureCommand) -> Result<(), Failure> {
    let text = |key: &str, value: &str| Bytes::from(serde_json::json!({ key: value }).to_string());
    let (verb, body, router) = match command {
        CaptureCommand::Start { name, router } => {
            ("start", name.map_or_else(Bytes::new, |name| text("name", &name)), router)
        }
        CaptureCommand::Stop { router } => ("stop", Bytes::new(), router),
        CaptureCommand::Rotate { router } => ("rotate", Bytes::new(), router),
        CaptureCommand::Mark { label, router } => ("mark", text("label", &label), router),
        CaptureCommand::Status { router } => ("status", Bytes::new(), router),
        CaptureCommand::Tail { from, follow, cursors, router } => {
            return tail(&Caller::to(&router).await?, from, follow, cursors).await;
        }
    };
    let caller = Caller::to(&router).await?;
    let method = if verb == "status" { Method::GET } else { Method::POST };
    let answer = caller.ask(method, &format!("/milepost/trace/{verb}"), &body).await?;
    let status: serde_json::Value = serde_json::from_slice(&answer.body).map_err(|_| {
        Failure::Run(format!("{}: its answer is no JSON; is it a milepost router?", caller.target))
    })?;
    print(&format!("{}\n", serde_json::to_string_pretty(&status).unwrap_or_default()))
}

async fn tail(caller: &Caller, mut from: String, follow: bool, cursors: bool) -> Result<(), Failure> {
    loop {
        let page = caller.ask(Method::GET, &format!("/milepost/trace?from={from}"), &[]).await?;
        let Some(next) = page.next else {
            let why = "its answer names no next place; is it a milepost router, and PLACE no number?";
            return Err(Failure::Run(format!("{}: {why}", caller.target)));
        };
        // A reader that went away wants no more.
        if !print_bytes(&page.body)? {
            return Ok(());
        }
        if cursors && next != from {
            stdio::tell_line(&next);
        }
        let has_more = next != from && from != "newest";
        from = next;
        if has_more {
            continue;
        }
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks one router.
struct Caller {
    target: Target,
    connections: Connections,
    headers: HeaderMap,
}

struct Told {
    body: Bytes,
    next: Option<String>,
}

impl Caller {
    async fn to(router: &RouterArgs) -> Result<Self, Failure> {
        let usage = |e: String| Failure::Usage(format!("--router: {e}"));
        let target = Target::parse(&router.router).map_err(usage)?;
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_str(&target.host_port());
        headers.insert(HOST, host.map_err(|_| usage(format!("{target} cannot be a Host header")))?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(key) = std::env::var(KEY_VARIABLE) {
            let bearer = HeaderValue::from_str(&format!("Bearer {key}"));
            let bearer =
                bearer.map_err(|_| Failure::Usage(format!("{KEY_VARIABLE}: not what a header can carry")))?;
            headers.insert(AUTHORIZATION, bearer);
        }
        let connector = Connector::Tcp { timeout: CONNECT_TIMEOUT };
        let connections = Connections::to(&target, connector, Clock::system()).await;
        let connections = connections.map_err(|e| Failure::Run(format!("{target}: {e}")))?;
        Ok(Self { target, connections, headers })
    }

    async fn ask(&self, method: Method, path: &str, body: &[u8]) -> Result<Told, Failure> {
        let told = tokio::time::timeout(PATIENCE, self.ask_now(method, path, body)).await;
        let late = || format!("no answer in {} s", PATIENCE.as_secs());
        told.map_err(|_| late())
            .and_then(std::convert::identity)
            .map_err(|e| Failure::Run(format!("{}: {e}", self.target)))
    }

    async fn ask_now(&self, method: Method, path: &str, body: &[u8]) -> Result<Told, String> {
        let mut connection = self.connections.open().await.map_err(|e| e.to_string())?;
        let path: Uri = self.target.path(path).parse().map_err(|_| format!("{path} is no path"))?;
        let length = (method == Method::POST).then_some(body.len() as u64);
        let head = lines::request_head(&method, &path, self.headers.iter(), length);
        let request = Outgoing::new([head.as_bytes(), body]);
        let answer = connection.send(request, false).await.map_err(|e| e.error.to_string())?;
        let next = connection.field(NEXT).map(|next| String::from_utf8_lossy(next).into_owned());
        let body = connection.collect(MAX_ANSWER_BYTES).await?;
        if answer.status == 200 {
            return Ok(Told { body, next });
        }
        let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let said = said["error"]["message"].as_str().unwrap_or("it gives no reason");
        let hint = match answer.status {
            401 | 403 => format!(" (its key is read from {KEY_VARIABLE})"),
            404 => " (is it a milepost router with --trace-log or --trace-dir?)".to_owned(),
            _ => String::new(),
        };
        Err(format!("{}: {said}{hint}", answer.status))
    }
}
