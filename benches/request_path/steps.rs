//! Each step, called often enough to have a time.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;

use milepost::buffer::Buffer;
use milepost::http1::head::{self, Fields};
use milepost::http1::lines;
use milepost::proxy::asked::Asked;
use milepost::proxy::headers::{self, ClientHeaders};
use milepost::proxy::journey::Journey;
use milepost::trace::json::push_json;
use milepost::wire::Endpoint;
use milepost::wire::answer::{Answer, AnswerReader};
use milepost::wire::call;
use milepost_policies::{POLICIES, PromptHashes};

use super::stage::{Stage, prompt};
use super::{FLEETS, FleetStep, PROMPTS, Steps, TRACED_FLEET, Timer};

const REQUEST_HEAD: &[u8] =
    b"POST /generate HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: 200\r\n\r\n";
const RESPONSE_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: 170\r\n\r\n";
const ANSWER: &[u8] = br#"{"text":" a b c","meta_info":{"id":"0123456789abcdef","finish_reason":{"type":"length","length":16},"prompt_tokens":30,"completion_tokens":16,"cached_tokens":5,"e2e_latency":0.02}}"#;
/// Room that the router makes for a worker's head and for a client's.
const HEAD_ROOM_BYTES: [usize; 2] = [512, 1024];
/// The writer writes as much at once.
const WRITE_AT_BYTES: usize = 256 * 1024;

/// All but the lock.
pub(super) fn all(timer: &Timer) -> Result<Steps, String> {
    let bodies = PROMPTS.map(|bytes| body(&prompt(7, bytes)));
    let looked = bodies.each_ref().map(|body| {
        timer.each_ns(
            2_000_000 / body.len().max(500),
            |_| drop(black_box(call::look(Endpoint::Generate, black_box(body)))),
            || {},
        )
    });
    let hashed = PROMPTS.map(|bytes| {
        let text = prompt(7, bytes);
        timer.each_ns(
            2_000_000 / bytes.max(500),
            |_| drop(black_box(PromptHashes::of(black_box(text.as_bytes())))),
            || {},
        )
    });
    let mut steps = Steps {
        request_head_ns: timer.each_ns(4_000, |_| request_head(), || {}),
        response_head_ns: timer.each_ns(4_000, |_| response_head(), || {}),
        look_ns: looked.to_vec(),
        hash_ns: hashed.to_vec(),
        answer_ns: timer.each_ns(4_000, |_| drop(black_box(answer())), || {}),
        ..Steps::default()
    };
    written(timer, &mut steps)?;
    for workers in FLEETS {
        steps.fleets.push(fleet(timer, workers)?);
    }
    traced(timer, &mut steps)?;
    for spec in POLICIES {
        let mut by_fleet = Vec::new();
        for workers in FLEETS {
            let stage = Stage::new(spec.name, workers, false)?;
            by_fleet.push(timer.each_ns(1_000, |n| stage.decide(n), || {}));
        }
        steps.policies.push((spec.name, by_fleet));
    }
    Ok(steps)
}

/// The worker's answer, looked at as it passes.
pub(super) fn answer() -> Answer {
    let json = Some(&b"application/json"[..]);
    let mut reader = AnswerReader::by_head(Endpoint::Generate, 200, None, json, false);
    reader.push(black_box(ANSWER), 1);
    reader.finish(true)
}

fn body(prompt: &str) -> Vec<u8> {
    format!(r#"{{"text":"{prompt}","sampling_params":{{"max_new_tokens":16}},"stream":false}}"#).into_bytes()
}

fn request_head() {
    let mut bytes = black_box(REQUEST_HEAD).to_vec();
    let mut fields = Fields::default();
    if let Ok(Some(found)) = head::request(&mut bytes, &mut fields) {
        let known = ClientHeaders::scan(fields.iter(&bytes), "0123456789abcd");
        let method = http::Method::from_bytes(found.method(&bytes)).unwrap_or_default();
        let target = std::str::from_utf8(found.target(&bytes)).unwrap_or_default();
        black_box((known.hosts, Asked::new(method, target)));
    }
}

fn response_head() {
    let mut bytes = black_box(RESPONSE_HEAD).to_vec();
    let mut fields = Fields::default();
    let _ = black_box(head::response(&mut bytes, &mut fields, false));
}

fn written(timer: &Timer, steps: &mut Steps) -> Result<(), String> {
    let stage = Stage::new("cache_aware", 1, false)?;
    let journey = stage.begin(1);
    let mut bytes = REQUEST_HEAD.to_vec();
    let mut fields = Fields::default();
    head::request(&mut bytes, &mut fields).map_err(|e| e.to_string())?;
    steps.heads_written_ns = timer.each_ns(4_000, |_| write_heads(&journey, &fields, &bytes), || {});
    steps.stamps_ns = timer.each_ns(
        4_000,
        |_| {
            let mut out = Buffer::with_room(HEAD_ROOM_BYTES[1]);
            headers::request_stamps(&mut out, &journey);
            headers::response_stamps(&mut out, &journey);
            black_box(&out);
        },
        || {},
    );
    Ok(())
}

/// The worker's head and the client's, as `proxy::forward` and `proxy::relay` write them.
fn write_heads(journey: &Journey, fields: &Fields, bytes: &[u8]) {
    let mut out = Buffer::with_room(HEAD_ROOM_BYTES[0]);
    lines::request_line(&mut out, b"POST", b"/generate");
    lines::field(&mut out, b"host", b"10.0.0.1:30000");
    for (name, value) in headers::to_worker(fields.iter(bytes), &[]) {
        lines::field(&mut out, name, value);
    }
    lines::field(&mut out, headers::HOP.as_bytes(), b"0123456789abcd");
    headers::request_stamps(&mut out, journey);
    lines::content_length(&mut out, 200);
    lines::end(&mut out);
    black_box(&out);
    let mut out = Buffer::with_room(HEAD_ROOM_BYTES[1]);
    lines::status_line(&mut out, true, 200, b"OK");
    lines::field(&mut out, b"server", b"uvicorn");
    lines::field(&mut out, b"content-type", b"application/json");
    headers::response_stamps(&mut out, journey);
    lines::content_length(&mut out, 170);
    lines::end(&mut out);
    black_box(&out);
}

fn fleet(timer: &Timer, workers: usize) -> Result<FleetStep, String> {
    let stage = Stage::new("cache_aware", workers, true)?;
    let choose_ns = timer.each_ns(2_000, |n| stage.decide(n), || {});
    let whole_ns = timer.each_ns(2_000, |n| stage.request(n), || drop(stage.drain()));
    (0..1_000).for_each(|n| stage.request(n));
    let records = stage.drain();
    let mut out = Buffer::default();
    let serialise = |n: usize, out: &mut Buffer| {
        if out.len() > WRITE_AT_BYTES {
            out.clear();
        }
        // What a record cannot hold is no record of the router's.
        let _ = push_json(out, black_box(&records[n % records.len()]));
    };
    let serialise_ns = timer.each_ns(1_000, |n| serialise(n, &mut out), || {});
    let mut all = Buffer::default();
    for record in &records {
        push_json(&mut all, record).map_err(|e| e.to_string())?;
    }
    let record_bytes = all.len() as f64 / records.len() as f64;
    Ok(FleetStep {
        workers,
        choose_ns,
        record_ns: (whole_ns - choose_ns).max(0.0),
        serialise_ns,
        record_bytes,
    })
}

/// Trace on against off, and the writer's part.
fn traced(timer: &Timer, steps: &mut Steps) -> Result<(), String> {
    let [on, off] =
        [Stage::new("cache_aware", TRACED_FLEET, true)?, Stage::new("cache_aware", TRACED_FLEET, false)?];
    let choose_ns = timer.each_ns(2_000, |n| off.decide(n), || {});
    steps.observe_ns = timer.each_ns(2_000, |n| off.observe(n), || off.decide(0));
    steps.record_traced_ns = timer.each_ns(2_000, |n| on.request(n), || drop(on.drain())) - choose_ns;
    steps.record_untraced_ns = timer.each_ns(2_000, |n| off.request(n), || {}) - choose_ns;
    let path = std::env::temp_dir().join(format!("milepost-bench-writer-{}", std::process::id()));
    let mut file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut failed = None;
    let mut out = Buffer::default();
    let mut writer = || {
        for record in on.drain() {
            let put = push_json(&mut out, &record).map_err(|e| e.to_string());
            let put = put.and_then(|()| {
                if out.len() < WRITE_AT_BYTES {
                    Ok(())
                } else {
                    let written = file.write_all(out.as_bytes()).map_err(|e| e.to_string());
                    out.clear();
                    written
                }
            });
            failed = put.err().or(failed.take());
        }
    };
    let batch = 2_000;
    (0..batch).for_each(|n| on.request(n));
    // One call takes all records of a batch.
    let all_ns = timer.each_ns(1, |_| writer(), || (0..batch).for_each(|n| on.request(n)));
    steps.writer_ns = all_ns / batch as f64;
    drop(file);
    // A file in the folder for temporary files; what is left of it is no harm.
    let _ = std::fs::remove_file(path);
    failed.map_or(Ok(()), Err)
}
