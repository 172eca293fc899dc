//! A small engine over pipes, in virtual time: a token each 10 ms, and faults that no simulated worker has.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost::net::{Io, PipeNet};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::harness::read_message;
use crate::piped;

/// What it does wrong, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    Good,
    /// It goes on when its client leaves.
    RunsOn,
    /// So many of others' requests run all the time.
    IsBusy(u32),
    /// Another client's request comes when a long one does, and stays.
    IsJoined,
    /// It refuses to say what it is.
    HidesItself,
    /// It shows none of its own requests.
    Hides,
    /// It tells its load nowhere.
    IsSilent,
    /// It closes idle connections after this time, instead of 5 s.
    ClosesAfter(Duration),
    /// It takes connections and never answers.
    Hangs,
}

/// What is known of it.
#[derive(Debug, Default)]
pub struct Engine {
    pub running: u32,
    pub aborted: Vec<String>,
    pub long: Vec<String>,
}

/// Starts one on a port.
pub fn start(net: &PipeNet, port: u16, habit: Habit) -> (String, Arc<Mutex<Engine>>) {
    let mut listener = net.listen(port);
    let engine = Arc::new(Mutex::new(Engine::default()));
    let shared = Arc::clone(&engine);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((io, _)) = listener.accept().await {
            if habit == Habit::Hangs {
                held.push(io);
            } else {
                tokio::spawn(converse(io, Arc::clone(&shared), habit));
            }
        }
    });
    (piped::url(port), engine)
}

async fn converse(mut io: Io, engine: Arc<Mutex<Engine>>, habit: Habit) {
    let mut buffer = Vec::new();
    let idle = if let Habit::ClosesAfter(idle) = habit { idle } else { Duration::from_secs(5) };
    while let Ok(Some((head, body))) = tokio::time::timeout(idle, read_message(&mut io, &mut buffer)).await {
        let path = head.split(' ').nth(1).unwrap();
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        let others = match habit {
            Habit::IsBusy(others) => others,
            Habit::IsJoined => u32::from(!engine.lock().unwrap().long.is_empty()),
            _ => 0,
        };
        let loads = || {
            let own = if habit == Habit::Hides { 0 } else { engine.lock().unwrap().running };
            json!({"loads": [{"num_running_reqs": own + others, "num_waiting_reqs": 0}]})
        };
        let (status, answer) = match path {
            "/generate" if asked["stream"] == true => {
                if stream(&mut io, &engine, habit, &asked).await {
                    continue;
                }
                return;
            }
            "/generate" => {
                tokio::time::sleep(Duration::from_millis(80)).await;
                ("200 OK", json!({"text": "w", "meta_info": meta(8, true)}))
            }
            "/server_info" | "/get_server_info" if habit == Habit::HidesItself => {
                ("401 Unauthorized", json!({}))
            }
            "/server_info" => {
                ("200 OK", json!({"version": "0.5.23", "model_path": "m", "max_req_input_len": 9000}))
            }
            "/v1/loads?include=core" if habit != Habit::IsSilent => ("200 OK", loads()),
            "/abort_request" => {
                engine.lock().unwrap().aborted.push(asked["rid"].as_str().unwrap().to_owned());
                ("200 OK", json!({}))
            }
            _ => ("404 Not Found", json!({"detail": "Not Found"})),
        };
        let body = answer.to_string();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if io.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn meta(tokens: u64, last: bool) -> Value {
    let finish = if last { json!({"type": "length", "length": tokens}) } else { Value::Null };
    json!({"finish_reason": finish, "prompt_tokens": 90, "completion_tokens": tokens, "cached_tokens": 89})
}

/// False where the connection is of no more use.
async fn stream(io: &mut Io, engine: &Mutex<Engine>, habit: Habit, asked: &Value) -> bool {
    let tokens = asked["sampling_params"]["max_new_tokens"].as_u64().unwrap();
    let rid = asked["rid"].as_str().unwrap().to_owned();
    engine.lock().unwrap().running += 1;
    if tokens > 100 {
        engine.lock().unwrap().long.push(rid.clone());
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut there = io.write_all(head.as_bytes()).await.is_ok();
    for token in 1..=tokens {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let data = format!("data: {}\n\n", json!({"text": "w", "meta_info": meta(token, token == tokens)}));
        there = there && io.write_all(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes()).await.is_ok();
        if (!there && habit != Habit::RunsOn) || engine.lock().unwrap().aborted.contains(&rid) {
            there = false;
            break;
        }
    }
    engine.lock().unwrap().running -= 1;
    there && io.write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await.is_ok()
}
