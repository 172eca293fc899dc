//! `--dp-aware`: a server's data-parallel ranks as workers, and the rank as the server is told it, byte for byte.

use std::sync::{Arc, Mutex};

use milepost::config::RouteConfig;
use milepost::net::PipeNet;
use milepost::trace::record::{Outcome, RequestRecord};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Got, PATIENCE, Response, Step, TestRouter, ask, ok, post, post_with, read_message};
use crate::piped::{self, PipedRouter};

/// A server that says how many ranks it has.
struct Server {
    url: String,
    got: Arc<Mutex<Vec<Got>>>,
}

/// What it does with a client's request: an answer, or it hangs up.
type Script = fn(&Got) -> Option<&'static str>;

impl Server {
    /// `info` is its answer to `/server_info`, where it has one.
    async fn start(info: Option<&'static str>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&got);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(converse(stream, info, script, Arc::clone(&log)));
            }
        });
        Self { url, got }
    }

    /// Clients' requests, and `/flush_cache`.
    fn requests(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

async fn converse(
    mut stream: TcpStream,
    info: Option<&'static str>,
    script: Script,
    log: Arc<Mutex<Vec<Got>>>,
) {
    let mut buffer = Vec::new();
    while let Some((head, body)) = read_message(&mut stream, &mut buffer).await {
        let got = Got { head, body, connection: 0 };
        let answer = match info {
            Some(info) if got.head.starts_with("GET /server_info ") => Some(info),
            _ if got.header("x-request-id").is_none() && got.head.starts_with("GET ") => None,
            _ => {
                log.lock().unwrap().push(got.clone());
                let Some(answer) = script(&got) else {
                    return;
                };
                Some(answer)
            }
        };
        let status = if answer.is_some() { "200 OK" } else { "404 Not Found" };
        let body = answer.unwrap_or("");
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

const TWO_RANKS: Option<&str> = Some(r#"{"version":"0.5.10","model_path":"m","dp_size":2}"#);
const TOKEN: &str = r#"{"text":"w","meta_info":{"id":"x","finish_reason":{"type":"length","length":1},"prompt_tokens":3,"completion_tokens":1}}"#;

fn dp_aware(config: &mut RouteConfig) {
    config.dp_aware = true;
}

fn urls(router: &TestRouter) -> Vec<String> {
    router.shared.fleet.workers().iter().map(|w| w.url.to_string()).collect()
}

/// Waits until the router knows what each of its workers is.
async fn described(router: &TestRouter) -> Vec<String> {
    let wait = async {
        while router.shared.fleet.workers().iter().any(|w| w.described().version.is_none()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the workers say what they are");
    urls(router)
}

async fn expanded(server: &Server) -> TestRouter {
    let router = TestRouter::with_urls(std::slice::from_ref(&server.url), dp_aware).await;
    let ranks = [format!("{}@0", server.url), format!("{}@1", server.url)];
    assert_eq!(described(&router).await, ranks);
    router
}

#[tokio::test]
async fn each_rank_is_a_worker_and_is_named_first_in_the_body() {
    let server = Server::start(TWO_RANKS, |_| Some(TOKEN)).await;
    let router = expanded(&server).await;
    let bodies = [
        (
            r#"{"text":"a", "sampling_params":{"max_new_tokens":8}}"#,
            r#""text":"a", "sampling_params":{"max_new_tokens":8}}"#,
        ),
        (
            "\n { \"text\" : [\"a\",\"b\"],\"rid\":[\"1\",\"2\"]} ",
            " \"text\" : [\"a\",\"b\"],\"rid\":[\"1\",\"2\"]} ",
        ),
    ];
    let mut answers: Vec<Response> = Vec::new();
    for (body, _) in bodies {
        answers.push(ask(router.addr, post("/generate", body)).await);
    }
    let got = server.requests();
    assert_eq!(got[0].body, format!(r#"{{"data_parallel_rank":0,{}"#, bodies[0].1).as_bytes());
    assert_eq!(got[1].body, format!("\n {{\"data_parallel_rank\":1,{}", bodies[1].1).as_bytes());
    let records = router.finish_requests().await;
    for (rank, r) in records.iter().enumerate() {
        let (rank_text, url) = (rank.to_string(), format!("{}@{rank}", server.url));
        assert_eq!(got[rank].header("x-data-parallel-rank"), Some(rank_text.as_str()));
        assert_eq!(got[rank].header("host"), Some(&server.url["http://".len()..]), "no rank in the Host");
        assert_eq!(got[rank].header("content-length"), Some(got[rank].body.len().to_string().as_str()));
        assert_eq!(got[rank].header("transfer-encoding"), None);
        assert_eq!(answers[rank].header("x-worker-url"), Some(url.as_str()));
        assert_eq!((r.dp_rank, r.dp_rank_by.as_deref()), (Some(rank as u32), Some("body")));
        assert_eq!((r.worker.as_deref(), r.outcome), (Some(url.as_str()), Outcome::Done));
        assert_eq!(r.request_body_bytes, bodies[rank].0.len() as u64, "of what the client sent");
    }
    assert!(records[1].reused_connection, "the ranks are behind one port");
}

#[tokio::test]
async fn what_takes_no_member_is_sent_as_it_came_and_the_record_says_so() {
    let server = Server::start(TWO_RANKS, |_| Some(TOKEN)).await;
    let router = expanded(&server).await;
    let empty = "GET /other HTTP/1.1\r\nhost: r\r\n\r\n".to_owned();
    let cases = [
        (post("/generate", r#"{"text":"a","data_parallel_rank":7}"#), "client", Some(7)),
        (post("/generate", r#"{"routed_dp_rank":1}"#), "client", Some(1)),
        (post_with("/v1/completions", "x-data-parallel-rank: 9\r\n", r#"{"prompt":"a"}"#), "client", Some(9)),
        (post("/generate", r#"[{"text":"a"}]"#), "header", None),
        (post("/generate", r#"{"text":"#), "header", None),
        (post("/generate", r#"{"data_parallel_rank":null}"#), "header", None),
        (post_with("/generate", "content-encoding: zstd\r\n", "{}"), "header", None),
        (post("/other", "{}"), "header", None),
        (post("/generate", ""), "header", None),
        (empty, "header", None),
    ];
    for (request, _, _) in &cases {
        assert_eq!(ask(router.addr, request).await.status, 200, "{request}");
    }
    let got = server.requests();
    let records = router.finish_requests().await;
    for (((request, by, own), got), r) in cases.iter().zip(&got).zip(&records) {
        let body = request.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(got.body, body.as_bytes(), "{request}");
        let chosen = r.worker.as_ref().unwrap().rsplit_once('@').unwrap().1.parse::<u32>().unwrap();
        assert_eq!((r.dp_rank_by.as_deref(), r.dp_rank), (Some(*by), own.or(Some(chosen))), "{request}");
        let told = match (*by, request.contains("x-data-parallel-rank: 9")) {
            ("header", _) => Some(chosen.to_string()),
            (_, true) => Some("9".to_owned()),
            (_, false) => None,
        };
        assert_eq!(got.header("x-data-parallel-rank"), told.as_deref(), "{request}");
    }
}

#[tokio::test]
async fn an_empty_object_gets_no_comma() {
    let server = Server::start(TWO_RANKS, |_| Some(TOKEN)).await;
    let router = expanded(&server).await;
    ask(router.addr, post("/v1/chat/completions", "{ }")).await;
    assert_eq!(server.requests()[0].body, br#"{"data_parallel_rank":0 }"#);
    assert_eq!(router.finish_requests().await[0].dp_rank, Some(0));
}

#[tokio::test]
async fn a_retry_at_another_rank_starts_from_the_clients_bytes() {
    let hangs_up_on_rank_0: Script =
        |got| (!got.body.starts_with(br#"{"data_parallel_rank":0,"#)).then_some(TOKEN);
    let server = Server::start(TWO_RANKS, hangs_up_on_rank_0).await;
    let router = expanded(&server).await;
    assert_eq!(ask(router.addr, post("/generate", r#"{"text":"a"}"#)).await.status, 200);
    let bodies: Vec<Vec<u8>> = server.requests().into_iter().map(|g| g.body).collect();
    assert_eq!(
        bodies,
        [
            br#"{"data_parallel_rank":0,"text":"a"}"#.to_vec(),
            br#"{"data_parallel_rank":1,"text":"a"}"#.to_vec()
        ]
    );
    let r: RequestRecord = router.finish_requests().await.remove(0);
    assert_eq!((r.attempts, r.dp_rank), (2, Some(1)));
    assert_eq!(*r.failed_attempts[0].worker, format!("{}@0", server.url));
}

#[tokio::test]
async fn a_rank_can_be_named_alone_and_a_server_without_ranks_is_one_worker() {
    let server = Server::start(TWO_RANKS, |_| Some(TOKEN)).await;
    let one = format!("{}@3", server.url);
    let router = TestRouter::with_urls(std::slice::from_ref(&one), |_| {}).await;
    assert_eq!(described(&router).await, [one]);
    ask(router.addr, post("/generate", r#"{"text":"a"}"#)).await;
    assert_eq!(server.requests()[0].body, br#"{"data_parallel_rank":3,"text":"a"}"#);
    assert_eq!(router.finish_requests().await[0].dp_rank, Some(3));

    let single = Server::start(Some(r#"{"version":"0.5.10","dp_size":1}"#), |_| Some(TOKEN)).await;
    let router = TestRouter::with_urls(std::slice::from_ref(&single.url), dp_aware).await;
    assert_eq!(described(&router).await, std::slice::from_ref(&single.url));
    let silent = Server::start(None, |_| Some(TOKEN)).await;
    ask(router.addr, post("/workers", &format!("{{\"url\":\"{}\"}}", silent.url))).await;
    for server in [&single, &silent] {
        ask(router.addr, post("/generate", r#"{"text":"a"}"#)).await;
        assert_eq!(server.requests()[0].body, br#"{"text":"a"}"#);
        assert_eq!(server.requests()[0].header("x-data-parallel-rank"), None);
    }
    let records = router.finish_requests().await;
    assert!(records.iter().all(|r| r.dp_rank.is_none() && r.dp_rank_by.is_none()));
}

#[tokio::test]
async fn what_concerns_the_process_is_asked_once_and_a_server_is_added_once() {
    let server = Server::start(TWO_RANKS, |_| Some("{}")).await;
    let router = expanded(&server).await;
    let flushed = ask(router.addr, post("/flush_cache", "")).await;
    assert!(flushed.text().contains("\"workers_flushed\":1"), "{}", flushed.text());
    assert_eq!(server.requests().len(), 1);
    let again = ask(router.addr, post("/workers", &format!("{{\"url\":\"{}\"}}", server.url))).await;
    assert_eq!(again.status, 202);
    assert_eq!(urls(&router).len(), 2, "it has become its ranks");
    let location = again.header("location").unwrap().to_owned();
    let one = ask(router.addr, format!("GET {location} HTTP/1.1\r\nhost: r\r\n\r\n")).await;
    assert!(one.text().contains(&format!("{}@0", server.url)), "{}", one.text());
    let gone = ask(router.addr, format!("DELETE {location} HTTP/1.1\r\nhost: r\r\n\r\n")).await;
    assert_eq!((gone.status, urls(&router).len()), (202, 0), "the ranks go as they came");
    router.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_costs_one_attempt_however_many_ranks_it_has() {
    let net = PipeNet::default();
    let ranks_at = |port: u16| (0..8).map(move |rank| format!("{}@{rank}", piped::url(port)));
    let live = piped::worker(&net, 2, |_| ok());
    let urls: Vec<String> = ranks_at(1).chain(ranks_at(2)).collect();
    let router = PipedRouter::start(&net, &urls, |_| {});
    assert_eq!(router.ask(post("/generate", "{}")).await.status, 200);
    assert_eq!((router.elapsed().as_nanos(), live.requests().len()), (0, 1));
    let (records, _) = router.finish().await;
    assert_eq!((records[0].attempts, records[0].outcome), (2, Outcome::Done));
}

#[tokio::test(start_paused = true)]
async fn the_record_names_no_rank_where_the_answer_came_from_none() {
    let net = PipeNet::default();
    let dying = piped::worker(&net, 1, |_| vec![Step::Close]);
    let whole = piped::worker(&net, 2, |_| ok());
    let router = PipedRouter::start(&net, &[format!("{}@3", dying.url), whole.url.clone()], |_| {});
    assert_eq!(router.ask(post("/generate", "{}")).await.status, 200);
    let (records, _) = router.finish().await;
    assert_eq!((records[0].attempts, records[0].worker.as_deref()), (2, Some(&*whole.url)));
    assert_eq!((records[0].dp_rank, records[0].dp_rank_by.as_deref()), (None, None));
}
