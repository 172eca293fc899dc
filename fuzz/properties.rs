//! What must hold for any bytes, one function a fuzz target: it panics where it does not.
//!
//! Rule: the first bytes choose settings, the rest is the input, so that a corpus file is a whole case. Shared by the fuzz
//! targets and by `tests/fuzz_corpus.rs`. Deliberately not here: inputs.

#[path = "http1_properties.rs"]
mod http1_properties;
#[path = "policy_properties.rs"]
mod policy_properties;
#[path = "prefix_properties.rs"]
mod prefix_properties;

use milepost::config::flags::{self, Given, Settings, Takes, Value as FlagValue};
use milepost::config::worker_url::WorkerUrl;
use milepost::replay::reading::{Limits, Reading};
use milepost::trace::align::align;
use milepost::trace::axis::Offsets;
use milepost::trace::reader::{TraceFile, TraceReader};
use milepost::trace::record::{Record, RequestRecord};
use milepost::wire::Endpoint;
use milepost::wire::answer::{Answer, AnswerReader};
use milepost::wire::call::{Parsed, look};
use milepost::wire::sse::{Event, Scanner};
use serde_json::Value;

#[allow(unused_imports, reason = "one property a target")]
pub use {
    http1_properties::{http1_answer, http1_request},
    policy_properties::{policy_script, policy_weights},
    prefix_properties::prefix_index,
};

/// A byte chooses an endpoint; `a` to `h` in a corpus file.
fn endpoint(choice: u8) -> Endpoint {
    match choice % 8 {
        1 => Endpoint::Generate,
        2 => Endpoint::Chat,
        3 => Endpoint::Completions,
        4 => Endpoint::Other,
        5 => Endpoint::Responses,
        6 => Endpoint::Embeddings,
        7 => Endpoint::Rerank,
        _ => Endpoint::Classify,
    }
}

/// Endpoint, body. What `serde_json` reads is read, with the same values.
pub fn request_look(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let endpoint = endpoint(*choice);
    let found = look(endpoint, body);
    if endpoint == Endpoint::Other {
        assert_eq!(found.parsed, Parsed::NotLooked);
        return;
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    assert_eq!(found.parsed, Parsed::Json);
    let Value::Object(members) = value else {
        assert_eq!((found.prompts, found.text), (0, None));
        return;
    };
    let text = |key: &str| members.get(key).and_then(Value::as_str);
    assert_eq!(found.model.as_deref(), text("model"));
    assert_eq!(found.stream, members.get("stream") == Some(&Value::Bool(true)));
    if let Some(rid) = text("rid") {
        assert_eq!(found.rid.as_deref(), Some(rid));
    }
    let prompt = match endpoint {
        Endpoint::Generate => text("text"),
        Endpoint::Completions => text("prompt"),
        Endpoint::Responses if !members.contains_key("instructions") => text("input"),
        Endpoint::Embeddings | Endpoint::Classify => text("input"),
        Endpoint::Rerank if !members.contains_key("documents") => text("query"),
        _ => None,
    };
    if let Some(prompt) = prompt.filter(|p| !p.is_empty()) {
        assert_eq!(found.text.as_deref(), Some(prompt.as_bytes()));
        assert_eq!(found.prompts, 1);
    }
}

fn scan<'a>(chunks: impl Iterator<Item = &'a [u8]>, cap_bytes: usize) -> (Vec<(Vec<u8>, bool)>, bool) {
    let mut events = Vec::new();
    let mut scanner = Scanner::new(cap_bytes);
    for chunk in chunks {
        scanner.push(chunk, &mut |event: Event<'_>| events.push((event.data.to_vec(), event.overlong)));
    }
    (events, scanner.finish())
}

/// Cap, length of a chunk, stream. Any chunking gives the same events, none longer than the cap.
pub fn sse_scanner(data: &[u8]) {
    let [cap, length, stream @ ..] = data else { return };
    let (cap_bytes, length) = (usize::from(*cap), usize::from(*length).max(1));
    let whole = scan(std::iter::once(stream), cap_bytes);
    assert_eq!(scan(stream.chunks(length), cap_bytes), whole);
    assert_eq!(scan(stream.chunks(1), cap_bytes), whole);
    for (data, overlong) in &whole.0 {
        assert!(data.len() <= cap_bytes && (!overlong || data.is_empty()));
    }
}

fn read(settings: (u8, u8), chunks: &[&[u8]]) -> Answer {
    let (choice, flags) = settings;
    let status = [200, 400, 200, 503][usize::from(flags >> 4 & 3)];
    let mut reader = AnswerReader::new(endpoint(choice), status, flags & 1 != 0, flags & 2 != 0);
    if flags & 4 != 0 {
        reader = reader.with_token_times();
    }
    for chunk in chunks {
        reader.push(chunk, 1);
    }
    reader.finish(flags & 8 == 0)
}

/// Endpoint, flags (stream, several, token times, incomplete, status), length of a chunk, body. Any chunking tells the same,
/// nothing made up.
pub fn answer_reader(data: &[u8]) {
    let [choice, flags, length, body @ ..] = data else { return };
    let settings = (*choice, *flags);
    let answer = read(settings, &[body]);
    let chunks: Vec<&[u8]> = body.chunks(usize::from(*length).max(1)).collect();
    assert_eq!(without_nan(read(settings, &chunks)), without_nan(answer.clone()));
    if let Some(error) = &answer.error {
        assert!(error.message.chars().count() <= 200);
    }
    assert!(answer.first_token_ns.is_none() || answer.first_event_ns.is_some());
    assert!(answer.token_times.windows(2).all(|pair| pair[0].tokens <= pair[1].tokens));
    // A good answer that was read has tokens, if it is generated and has begun.
    let begun = !matches!(answer.finish_reason.as_deref(), Some("queued" | "in_progress"));
    let due = endpoint(*choice).generates() && begun && answer.looked && answer.error.is_none();
    assert!(!due || answer.tokens.completion_tokens != Some(0));
}

/// A stamp that is no number would be unequal to itself; there must be none.
fn without_nan(answer: Answer) -> Answer {
    let stamps = serde_json::to_value(answer.stamps).expect("stamps are numbers");
    assert!(!stamps.as_object().expect("an object").values().any(Value::is_null), "{stamps}");
    answer
}

/// One flag a line with its values behind it, separated by tabs. Whatever is typed is settings or an error of a readable
/// length; no secret is in it, and what is said about flags without effect is one line.
pub fn command_line(data: &[u8]) {
    const SECRET: &str = "canary";
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut given = Given::default();
    let mut secret_elsewhere = false;
    for line in text.lines() {
        let mut words = line.split('\t');
        let name = words.next().unwrap_or_default();
        let Some(flag) = flags::all().find(|flag| flag.name == name) else { continue };
        let words: Vec<&str> = if flag.takes == Takes::Switch { Vec::new() } else { words.collect() };
        secret_elsewhere |= flag.value != FlagValue::Secret && words.iter().any(|w| w.contains(SECRET));
        given.set(flag, words.into_iter().map(Into::into).collect());
    }
    let told = flags::without_effect(&given).unwrap_or_default();
    assert!(!told.contains('\n') && !told.contains(SECRET));
    match Settings::read(&given) {
        Ok(settings) => {
            for worker in &settings.config.workers {
                assert_eq!(WorkerUrl::parse(worker.as_str()).as_ref(), Ok(worker));
            }
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.len() < 5_000, "{} bytes", error.len());
            assert!(secret_elsewhere || !error.contains(SECRET), "{error}");
        }
    }
}

/// A trace. Every record that is read can be written and read again, and aligned.
pub fn trace_reader(data: &[u8]) {
    let mut lines = 0;
    for record in TraceReader::new(data) {
        let Ok((line, record)) = record else { break };
        assert!(line >= lines);
        lines = line;
        let text = serde_json::to_string(&record).expect("a record is JSON");
        let again: Record = serde_json::from_str(&text).expect("what was written is read");
        assert_eq!(again, record);
    }
    let limits = Limits { requests: 100, hash_bytes: 1 << 20, ..Limits::default() };
    if let Ok(reading) = Reading::of(TraceReader::new(data), limits, &mut |_| {}) {
        assert!(reading.rows.len() as u64 + reading.beyond_limits <= reading.requests);
        let verdict = reading.exact.unwrap_or_default();
        assert!(verdict.reproduced <= verdict.decisions && verdict.later_agreeing <= verdict.later);
    }
    let Ok(trace) = TraceFile::collect(TraceReader::new(data)) else { return };
    assert!(trace.bad_lines.len() as u64 <= trace.torn_lines);
    for run in &trace.runs {
        let mut offsets = Offsets::default();
        run.requests.iter().for_each(|request| offsets.learn(request));
        for request in &run.requests {
            aligned(request, &align(request, &run.clocks, &offsets));
        }
    }
}

fn aligned(request: &RequestRecord, found: &milepost::trace::align::Aligned) {
    // Without a stamp of the server nothing about the server is known.
    if request.server.is_empty() {
        let server = [found.created_ns, found.queue_start_ns, found.queue_end_ns, found.first_token_ns];
        assert_eq!(server, [None; 4]);
        assert_eq!((found.tokenize_ns, found.pure_queue_ns), (None, None));
    }
}

/// A worker's URL as somebody types it. What is taken is one plain host and port, which can stand in a head as they are, and
/// means the same when read again; what is not is told shortly, and what may be a password not at all.
pub fn worker_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match WorkerUrl::parse(text) {
        Ok(url) => {
            assert_eq!(WorkerUrl::parse(url.as_str()).as_ref(), Ok(&url));
            assert_eq!(url.with_rank(None).with_rank(url.rank()), url);
            let authority = url.authority();
            assert!(authority.bytes().all(|b| b.is_ascii_graphic()) && !authority.contains(['@', '/', ',']));
            assert!(authority.ends_with(&format!(":{}", url.port())) && !url.host().is_empty());
            assert!(url.literal_addr().is_none_or(|addr| addr.port() == url.port()));
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.len() < 1_200, "{} bytes", error.len());
            assert!(!error.contains(char::is_control), "{error:?}");
            // Before an `@` that no rank follows stands a user, perhaps with a password: nothing of it is quoted.
            let is_user =
                text.split_once('@').is_some_and(|(_, rank)| !rank.starts_with(|c: char| c.is_ascii_digit()));
            assert!(!is_user || error.starts_with("a worker URL must not carry a user"), "{error}");
        }
    }
}
