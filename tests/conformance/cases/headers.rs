//! Which headers pass, and what the router adds.

use crate::client::{Answer, get_with, send_with};
use crate::stage::{PROMPT, Stage};
use crate::table::{Group, Topic, differs, same};
use crate::worker::{begin_stream, reply_with, send_chunk};

const JOIN: &str = "the router's and the engine's records join";

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Headers",
    groups: &[
        Group {
            flags: "--policy round_robin --disable-retries --disable-circuit-breaker",
            workers: 1,
            cases: &[
                differs(
                    "client's headers that reach the worker",
                    allowlist,
                    "authorization, x-request-id, x-correlation-id, traceparent, tracestate, x-smg-routing-key, x-request-id-span",
                    "authorization, x-request-id, x-correlation-id, traceparent, tracestate, x-smg-routing-key, x-request-id-span, user-agent, x-data-parallel-rank, accept",
                    "SGLang reads x-data-parallel-rank; user-agent and accept say who asks for what",
                ),
                same(
                    "the request's id is looked for in",
                    id_names,
                    "x-request-id, x-correlation-id, x-trace-id, request-id",
                ),
                same("the first of several ids", first_id, "a"),
                same("the client's id at the worker", |s| id_at_worker(s, "x-request-id: mine\r\n"), "mine"),
                differs(
                    "an id in x-trace-id: at the worker, as x-request-id",
                    |s| id_at_worker(s, "x-trace-id: mine\r\n"),
                    "none",
                    "mine",
                    JOIN,
                ),
                same(
                    "no id: made for /generate",
                    |s| made(s, "/generate", PROMPT),
                    "gnt-, then 24 letters and digits",
                ),
                same(
                    "no id: made for /v1/chat/completions",
                    |s| {
                        made(
                            s,
                            "/v1/chat/completions",
                            r#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#,
                        )
                    },
                    "chatcmpl-, then 24 letters and digits",
                ),
                same(
                    "no id: made for /v1/completions",
                    |s| made(s, "/v1/completions", r#"{"model":"m","prompt":"a"}"#),
                    "cmpl-, then 24 letters and digits",
                ),
                same(
                    "no id: made for /v1/responses",
                    |s| made(s, "/v1/responses", r#"{"model":"m","input":"a"}"#),
                    "resp-, then 24 letters and digits",
                ),
                same(
                    "no id: made for /v1/embeddings",
                    |s| made(s, "/v1/embeddings", r#"{"model":"m","input":"a"}"#),
                    "req-, then 24 letters and digits",
                ),
                same("an id on the router's own answers", own_id, "req-, then 24 letters and digits"),
                differs(
                    "a made id at the worker",
                    made_at_worker,
                    "none",
                    "the same as the client gets: true",
                    JOIN,
                ),
                same("the worker's answer's headers", response_headers, "x-mine 1, server uvicorn"),
                differs("set-cookie twice", set_cookie, "b=2", "a=1 & b=2", "no header of an answer is lost"),
                same(
                    "the answer's hop-by-hop headers",
                    hop_by_hop,
                    "keep-alive none, proxy-authenticate none",
                ),
                differs(
                    "a JSON error to a request for a stream: content-type",
                    stream_error,
                    "400 text/event-stream",
                    "400 application/json",
                    "an error is no event stream",
                ),
                same("an event stream's content-type", stream_type, "text/event-stream"),
                differs(
                    "x-smg-routed-worker-id",
                    |s| s.plain(&show(&s.generate(), "x-smg-routed-worker-id")),
                    "none",
                    "W0",
                    "its successor smg tells it",
                ),
                same("a browser's origin is answered with", origin, "*"),
                same(
                    "a browser's preflight",
                    preflight,
                    "200 access-control-allow-origin, access-control-allow-methods, access-control-allow-headers; workers got 0",
                ),
            ],
        },
        Group {
            flags: "--request-id-headers x-mine x-other --cors-allowed-origins http://good.example",
            workers: 1,
            cases: &[
                same(
                    "--request-id-headers replaces the names",
                    custom_names,
                    "x-mine taken, x-other taken, x-request-id not taken",
                ),
                same(
                    "--cors-allowed-origins: an origin of the list",
                    |s| cors(s, "http://good.example"),
                    "http://good.example",
                ),
                same("--cors-allowed-origins: another origin", |s| cors(s, "http://bad.example"), "none"),
            ],
        },
    ],
};

fn with(s: &Stage, headers: &str) -> Answer {
    s.send(send_with("POST", "/generate", headers, PROMPT))
}

fn show(answer: &Answer, name: &str) -> String {
    answer.header(name).unwrap_or_else(|| "none".to_owned())
}

fn allowlist(s: &Stage) -> String {
    let names = [
        "authorization",
        "x-request-id",
        "x-correlation-id",
        "traceparent",
        "tracestate",
        "x-smg-routing-key",
        "x-request-id-span",
        "x-custom",
        "cookie",
        "user-agent",
        "x-data-parallel-rank",
        "accept",
    ];
    let headers = names.map(|n| format!("{n}: 00-1\r\n")).concat();
    with(s, &headers);
    let got = s.only();
    let passed = names.iter().filter(|n| got.header(n).as_deref() == Some("00-1"));
    passed.copied().collect::<Vec<_>>().join(", ")
}

fn id_names(s: &Stage) -> String {
    let names = ["x-request-id", "x-correlation-id", "x-trace-id", "request-id"];
    let taken = names.iter().filter(|n| {
        let answer = with(s, &format!("{n}: mine\r\n"));
        answer.header("x-request-id").as_deref() == Some("mine")
    });
    taken.copied().collect::<Vec<_>>().join(", ")
}

fn first_id(s: &Stage) -> String {
    show(
        &with(s, "request-id: d\r\nx-trace-id: c\r\nx-correlation-id: b\r\nx-request-id: a\r\n"),
        "x-request-id",
    )
}

fn id_at_worker(s: &Stage, headers: &str) -> String {
    with(s, headers);
    s.only().header("x-request-id").unwrap_or_else(|| "none".to_owned())
}

/// The form of an id, `gnt-` and 24 letters and digits.
fn form(id: &str) -> String {
    let (prefix, rest) = id.split_once('-').unwrap_or(("", id));
    let plain = rest.bytes().all(|b| b.is_ascii_alphanumeric());
    format!("{prefix}-, then {} {}", rest.len(), if plain { "letters and digits" } else { "characters" })
}

fn made(s: &Stage, path: &str, body: &str) -> String {
    form(&show(&s.post(path, body), "x-request-id"))
}

fn own_id(s: &Stage) -> String {
    form(&show(&s.get("/health"), "x-request-id"))
}

fn made_at_worker(s: &Stage) -> String {
    let answer = s.generate();
    match s.only().header("x-request-id") {
        None => "none".to_owned(),
        Some(id) => format!("the same as the client gets: {}", answer.header("x-request-id") == Some(id)),
    }
}

fn response_headers(s: &Stage) -> String {
    s.workers[0].answers(|_, stream| {
        reply_with(stream, 200, "content-type: application/json\r\nx-mine: 1\r\nserver: uvicorn\r\n", "{}");
        Some(())
    });
    let answer = s.generate();
    format!("x-mine {}, server {}", show(&answer, "x-mine"), show(&answer, "server"))
}

fn set_cookie(s: &Stage) -> String {
    s.workers[0].answers(|_, stream| {
        reply_with(
            stream,
            200,
            "content-type: application/json\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n",
            "{}",
        );
        Some(())
    });
    show(&s.generate(), "set-cookie")
}

fn hop_by_hop(s: &Stage) -> String {
    s.workers[0].answers(|_, stream| {
        reply_with(
            stream,
            200,
            "content-type: application/json\r\nkeep-alive: timeout=5\r\nproxy-authenticate: x\r\n",
            "{}",
        );
        Some(())
    });
    let answer = s.generate();
    format!(
        "keep-alive {}, proxy-authenticate {}",
        show(&answer, "keep-alive"),
        show(&answer, "proxy-authenticate")
    )
}

fn stream_error(s: &Stage) -> String {
    s.workers[0].says(400, r#"{"error":"bad"}"#);
    let answer = s.post("/generate", r#"{"text":"a","stream":true}"#);
    format!("{} {}", answer.status, answer.kind())
}

fn stream_type(s: &Stage) -> String {
    s.workers[0].answers(|_, stream| {
        begin_stream(stream);
        send_chunk(stream, "data: [DONE]\n\n");
        send_chunk(stream, "");
        Some(())
    });
    s.post("/generate", r#"{"text":"a","stream":true}"#).kind()
}

fn cors(s: &Stage, origin: &str) -> String {
    show(&with(s, &format!("origin: {origin}\r\n")), "access-control-allow-origin")
}

fn origin(s: &Stage) -> String {
    cors(s, "http://page.example")
}

fn preflight(s: &Stage) -> String {
    let asked = "origin: http://page.example\r\naccess-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n";
    let answer = s.send(get_with("/v1/chat/completions", asked).replacen("GET", "OPTIONS", 1));
    let names =
        ["access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers"];
    let told = names.map(|n| if answer.header(n).is_some() { n } else { "-" });
    format!("{} {}; workers got {}", answer.status, told.join(", "), s.counts())
}

fn custom_names(s: &Stage) -> String {
    let id = |headers: &str| {
        let id = show(&with(s, headers), "x-request-id");
        if id == "mine" { "taken" } else { "not taken" }
    };
    format!(
        "x-mine {}, x-other {}, x-request-id {}",
        id("x-mine: mine\r\n"),
        id("x-other: mine\r\n"),
        id("x-request-id: mine\r\n")
    )
}
