//! Real answers of real SGLang servers, fed to the reader in many chunkings.
//!
//! What is expected is found in the same bytes by another way: plain text search, and exact values for one answer of each
//! generation. Deliberately not here: made-up answers, see `src/wire/answer_tests.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its data must fail")]

use std::path::{Path, PathBuf};

use milepost::wire::Endpoint;
use milepost::wire::answer::{Answer, AnswerReader, Tokens};
use milepost::wire::meta_info::ServerStamps;

const SERVERS: [&str; 4] =
    ["sglang-0.4.9.post6", "sglang-0.4.9.post6-patched", "sglang-0.5.23", "sglang-0.5.23-rust-server"];

struct Capture {
    name: String,
    endpoint: Endpoint,
    status: u16,
    event_stream: bool,
    body: Vec<u8>,
}

fn folder(server: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/captures").join(server)
}

fn load(server: &str, file: &str) -> Capture {
    let bytes = std::fs::read(folder(server).join(file)).expect(file);
    let comment = bytes.iter().position(|&b| b == b'\n').unwrap() + 1;
    let command = String::from_utf8_lossy(&bytes[..comment]).into_owned();
    let blank = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("head");
    let head = String::from_utf8_lossy(&bytes[comment..blank]).to_ascii_lowercase();
    let mut body = bytes[blank + 4..].to_vec();
    if file.ends_with("_raw.txt") {
        body = dechunk(&body);
    }
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
    if let Some(length) = length {
        body.truncate(length.trim().parse().unwrap());
    }
    let endpoint = ["/generate", "/v1/chat/completions", "/v1/completions"]
        .into_iter()
        .find(|path| command.contains(path))
        .map_or_else(|| of_name(file), Endpoint::of_path);
    Capture {
        name: format!("{server}/{file}"),
        endpoint,
        status: head.split_whitespace().nth(1).and_then(|s| s.parse().ok()).expect("status"),
        event_stream: head.contains("text/event-stream"),
        body,
    }
}

fn of_name(file: &str) -> Endpoint {
    if file.contains("chat") {
        Endpoint::Chat
    } else if file.contains("generate") || file.contains("duplicate_rid") {
        Endpoint::Generate
    } else {
        Endpoint::Other
    }
}

fn dechunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = raw.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap().trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&raw[end + 2..end + 2 + size]);
        raw = &raw[end + 4 + size..];
    }
    body
}

fn all() -> Vec<Capture> {
    let mut found = Vec::new();
    for server in SERVERS {
        let mut files: Vec<String> = std::fs::read_dir(folder(server))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        found.extend(files.iter().map(|file| load(server, file)));
    }
    found
}

/// Reads the body in chunks of these lengths (again and again); the time of a chunk is the offset of its end.
fn read(capture: &Capture, lengths: &[usize]) -> Answer {
    let mut reader =
        AnswerReader::new(capture.endpoint, capture.status, capture.event_stream, false).with_token_times();
    let mut at = 0;
    for length in lengths.iter().cycle() {
        if at == capture.body.len() {
            break;
        }
        let end = (at + length).min(capture.body.len());
        reader.push(&capture.body[at..end], u64::try_from(end).unwrap());
        at = end;
    }
    reader.finish(true)
}

/// The data of each event and the offset of its end, found by text search.
fn events(capture: &Capture) -> Vec<(String, u64)> {
    let text = String::from_utf8_lossy(&capture.body).into_owned();
    let mut end = 0;
    let mut found = Vec::new();
    for block in text.split_inclusive("\n\n") {
        end += block.len();
        if let Some(data) = block.trim().strip_prefix("data: ")
            && data != "[DONE]"
        {
            found.push((data.to_owned(), end as u64));
        }
    }
    found
}

fn number(text: &str, name: &str) -> Option<f64> {
    let from = text.rfind(&format!("\"{name}\":"))? + name.len() + 3;
    let rest = &text[from..];
    let end = rest.find([',', '}']).unwrap_or(rest.len());
    rest[..end].trim().parse().ok()
}

fn count(text: &str, name: &str) -> Option<u64> {
    number(text, name).map(|n| n as u64)
}

#[test]
fn every_capture_reads_the_same_however_it_is_cut() {
    let captures = all();
    assert!(captures.len() > 140, "{} captures", captures.len());
    for capture in &captures {
        let whole = read(capture, &[usize::MAX / 2]);
        let by_byte = read(capture, &[1]);
        for lengths in [&[7][..], &[1, 300, 2, 55], &[513, 3]] {
            let other = read(capture, lengths);
            assert_eq!(without_times(&other), without_times(&whole), "{}", capture.name);
        }
        assert_eq!(without_times(&by_byte), without_times(&whole), "{}", capture.name);
    }
}

fn without_times(answer: &Answer) -> Answer {
    Answer {
        first_event_ns: answer.first_event_ns.map(|_| 0),
        first_token_ns: answer.first_token_ns.map(|_| 0),
        token_times: Vec::new(),
        ..answer.clone()
    }
}

#[test]
fn good_streams_have_their_first_token_counts_and_stamps() {
    let mut seen = 0;
    for capture in all().iter().filter(|c| c.event_stream && !c.name.contains("/err_")) {
        let answer = read(capture, &[1]);
        let events = events(capture);
        let generate = capture.endpoint == Endpoint::Generate;
        let first = events
            .iter()
            .find(|(data, _)| {
                if generate {
                    count(data, "completion_tokens") >= Some(1)
                } else {
                    !data.contains("\"choices\":[]")
                }
            })
            .expect("an event with tokens");
        let last = &events.last().unwrap().0;
        assert_eq!(answer.error, None, "{}", capture.name);
        assert_eq!(answer.events, events.len() as u64, "{}", capture.name);
        assert_eq!(answer.first_event_ns, Some(events[0].1), "{}", capture.name);
        assert_eq!(answer.first_token_ns, Some(first.1), "{}", capture.name);
        assert_eq!((answer.done, answer.partial_event), (Some(true), false));
        assert_eq!(answer.has_text, Some(true), "{}", capture.name);
        assert_eq!(answer.finish_reason.as_deref(), Some("length"), "{}", capture.name);
        let tokens = Tokens {
            prompt_tokens: count(last, "prompt_tokens"),
            completion_tokens: count(last, "completion_tokens"),
            cached_tokens: count(last, "cached_tokens"),
        };
        assert_eq!(answer.tokens, tokens, "{}", capture.name);
        assert_eq!(answer.stamps, stamps(last, &first.0), "{}", capture.name);
        if generate {
            assert!(!answer.token_times.is_empty());
            for time in &answer.token_times {
                let event = events.iter().find(|e| e.1 == time.at_ns).expect("an event ends here");
                assert_eq!(count(&event.0, "completion_tokens"), Some(time.tokens.into()));
            }
        }
        seen += 1;
    }
    assert!(seen >= 28, "{seen} streams");
}

/// Stamps by text search: of the last event, and of the first what the last does not have.
fn stamps(last: &str, first: &str) -> ServerStamps {
    let get = |name| number(last, name).or_else(|| number(first, name));
    ServerStamps {
        e2e_latency: get("e2e_latency"),
        server_created_time: get("server_created_time"),
        server_first_token_time: get("server_first_token_time"),
        queue_time_start: get("queue_time_start"),
        queue_time_end: get("queue_time_end"),
        queue_time: get("queue_time"),
        request_received_ts: get("request_received_ts"),
        request_sent_to_scheduler_ts: get("request_sent_to_scheduler_ts"),
        api_server_dispatch_finish_ts: get("api_server_dispatch_finish_ts"),
        forward_entry_time: get("forward_entry_time"),
        prefill_finished_ts: get("prefill_finished_ts"),
        prefill_finished_time: get("prefill_finished_time"),
        first_token_latency: get("first_token_latency"),
        response_sent_to_client_ts: get("response_sent_to_client_ts"),
        decode_finished_ts: get("decode_finished_ts"),
        request_finished_ts: get("request_finished_ts"),
        num_retractions: get("num_retractions").map(|n| n as u64),
    }
}

#[test]
fn good_plain_answers_have_counts_and_stamps() {
    let mut seen = 0;
    let good = |c: &&Capture| c.status == 200 && !c.event_stream && c.endpoint != Endpoint::Other;
    for capture in all().iter().filter(good) {
        let answer = read(capture, &[64]);
        let text = String::from_utf8_lossy(&capture.body).into_owned();
        assert_eq!(answer.error, None, "{}", capture.name);
        assert_eq!((answer.done, answer.first_token_ns, answer.events), (None, None, 0));
        assert_eq!(answer.has_text, Some(true), "{}", capture.name);
        assert_eq!(answer.tokens.prompt_tokens, count(&text, "prompt_tokens"));
        assert_eq!(answer.tokens.completion_tokens, count(&text, "completion_tokens"));
        assert_eq!(answer.stamps, stamps(&text, ""), "{}", capture.name);
        seen += 1;
    }
    assert!(seen >= 30, "{seen} plain answers");
}

#[test]
fn exact_values_of_each_generation() {
    let patched = read(&load(SERVERS[1], "generate_stream.txt"), &[100]);
    let expected = ServerStamps {
        e2e_latency: Some(0.051_646_232_604_980_47),
        server_created_time: Some(1_795_302_685.474_251_7),
        server_first_token_time: Some(1_795_302_685.490_006),
        queue_time_start: Some(4_111.736_765_916),
        queue_time_end: Some(4_111.736_992_834),
        ..ServerStamps::default()
    };
    assert_eq!(patched.stamps, expected);
    assert_eq!(patched.tokens, tokens(6, 8, 5));

    let newest = read(&load(SERVERS[2], "generate_stream.txt"), &[100]);
    let expected = ServerStamps {
        e2e_latency: Some(0.071_115_252_000_026_89),
        queue_time: Some(0.000_401_549_999_878_625_4),
        request_received_ts: Some(1_795_299_931.345_447_8),
        api_server_dispatch_finish_ts: Some(1_795_299_931.346_089),
        forward_entry_time: Some(1_795_299_931.346_962_7),
        prefill_finished_time: Some(1_795_299_931.367_329_6),
        first_token_latency: Some(0.029_940_609_000_050_245),
        response_sent_to_client_ts: Some(1_795_299_931.375_601_3),
        request_finished_ts: Some(1_795_299_931.416_563),
        num_retractions: Some(0),
        ..ServerStamps::default()
    };
    assert_eq!(newest.stamps, expected);
    assert_eq!(newest.tokens, tokens(6, 8, 5));

    let rust = read(&load(SERVERS[3], "generate_nonstream.txt"), &[100]);
    let expected = ServerStamps { e2e_latency: Some(0.019_471_246), ..ServerStamps::default() };
    assert_eq!(rust.stamps, expected);
    let cache_report = read(&load(SERVERS[2], "chat_stream_cache_report.txt"), &[100]);
    assert_eq!(cache_report.tokens, tokens(18, 2, 17));
    let with_meta = read(&load(SERVERS[2], "chat_nonstream_return_meta_info.txt"), &[100]);
    assert_eq!(with_meta.stamps.forward_entry_time, Some(1_795_299_932.017_063));
    assert_eq!(with_meta.tokens, tokens(18, 6, 17));
}

fn tokens(prompt: u64, completion: u64, cached: u64) -> Tokens {
    Tokens { prompt_tokens: Some(prompt), completion_tokens: Some(completion), cached_tokens: Some(cached) }
}

#[test]
fn every_error_is_an_error_with_the_servers_words() {
    let mut inside_200 = Vec::new();
    for capture in all().iter().filter(|c| c.endpoint != Endpoint::Other) {
        let answer = read(capture, &[33]);
        let text = String::from_utf8_lossy(&capture.body).into_owned();
        if capture.status >= 400 {
            let error = answer.error.expect(&capture.name);
            assert_eq!((error.class, error.code), ("http_status", Some(capture.status)));
            let words = ["\"message\"", "\"detail\"", "\"error\":\""].iter().any(|name| text.contains(name));
            assert_eq!(!error.message.is_empty(), words, "{}: {text}", capture.name);
            assert!(error.message.chars().count() <= 200);
        } else if text.contains("\"error\"") {
            let error = answer.error.expect(&capture.name);
            assert_eq!(error.class, "error_event", "{}", capture.name);
            assert_eq!(error.code, count(&text, "code").map(|n| n as u16), "{}", capture.name);
            assert!(text.contains(&error.message) && !error.message.is_empty());
            assert_eq!((answer.done, answer.first_token_ns), (Some(true), None));
            inside_200.push(capture.name.clone());
        } else {
            assert_eq!(answer.error, None, "{}", capture.name);
        }
    }
    assert_eq!(inside_200.len(), 10, "{inside_200:?}");
}

#[test]
fn a_stream_cut_anywhere_is_truncated() {
    for server in SERVERS {
        let capture = load(server, "generate_stream.txt");
        let text = String::from_utf8_lossy(&capture.body).into_owned();
        let done = text.find("data: [DONE]").unwrap() + "data: [DONE]\n".len();
        for cut in (0..=done).step_by(37).chain([done]) {
            let mut reader = AnswerReader::new(Endpoint::Generate, 200, true, false);
            reader.push(&capture.body[..cut], 1);
            let error = reader.finish(true).error.expect("cut");
            assert_eq!(error.class, "truncated", "{server} cut at {cut}");
        }
    }
}
