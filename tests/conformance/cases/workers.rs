//! `/workers`: the REST interface of the fleet.

use serde_json::Value;

use crate::client::{Answer, send_with};
use crate::process::{Port, until};
use crate::stage::Stage;
use crate::table::{Group, Topic, same};
use crate::worker::Worker;

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "/workers",
    groups: &[Group {
        flags: "--policy round_robin --worker-startup-check-interval 1",
        workers: 1,
        cases: &[
            same(
                "GET /workers",
                list,
                r#"200 application/json total 1 stats {"decode_count":0,"prefill_count":0,"regular_count":1}"#,
            ),
            same(
                "a worker in the list has",
                |s| fields(&listed(s)),
                "id, url, model_id, priority, cost, worker_type, is_healthy, load, connection_mode",
            ),
            same("GET /workers/{id}", one, r#"200 W0 healthy true priority 50 cost 1.0 "HTTP""#),
            same(
                "GET /workers/{id} nobody has",
                |s| error(&s.get(&format!("/workers/{NOBODY}"))),
                r#"404 "WORKER_NOT_FOUND""#,
            ),
            same(
                "GET /workers/{id} that is no UUID",
                |s| error(&s.get("/workers/7")),
                r#"400 "BAD_REQUEST""#,
            ),
            same(
                "DELETE /workers/{id} nobody has",
                |s| error(&method(s, "DELETE", NOBODY, "")),
                r#"404 "WORKER_NOT_FOUND""#,
            ),
            same("POST /workers without url", |s| s.post("/workers", "{}").status.to_string(), "422"),
            same("POST /workers, not JSON", |s| s.post("/workers", "{").status.to_string(), "400"),
            same(
                "POST /workers",
                add,
                "202 Location: /workers/ID; status, worker_id, url, location, message; requests 1+1",
            ),
            same("POST /workers of a worker that is there", again, "202 same id: true"),
            same(
                "POST /workers: pending until it answers",
                pending,
                r#"model_id "unknown" is_healthy false job_status "processing"; requests go to others: 200"#,
            ),
            same(
                "POST /workers with all the fields of the peer",
                all_fields,
                "202 priority 7 cost 2.5 api_key shown: false",
            ),
            same("PUT /workers/{id}", put, r#"202 "accepted""#),
            same("DELETE /workers/{id}", delete, "202; requests 2+0"),
            same("DELETE /workers/{id}, with a request on the way", delete_busy, "200 and 200"),
        ],
    }],
};

const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

fn listed(s: &Stage) -> Value {
    s.get("/workers").json()["workers"][0].clone()
}

fn list(s: &Stage) -> String {
    let answer = s.get("/workers");
    let v = answer.json();
    format!("{} {} total {} stats {}", answer.status, answer.kind(), v["total"], v["stats"])
}

fn fields(worker: &Value) -> String {
    let names =
        ["id", "url", "model_id", "priority", "cost", "worker_type", "is_healthy", "load", "connection_mode"];
    let told = names.iter().filter(|n| worker.get(**n).is_some());
    told.copied().collect::<Vec<_>>().join(", ")
}

fn one(s: &Stage) -> String {
    let id = listed(s)["id"].as_str().unwrap().to_owned();
    let answer = s.get(&format!("/workers/{id}"));
    let v = answer.json();
    let url = s.plain(v["url"].as_str().unwrap_or_default());
    format!(
        "{} {url} healthy {} priority {} cost {} {}",
        answer.status, v["is_healthy"], v["priority"], v["cost"], v["connection_mode"]
    )
}

fn error(answer: &Answer) -> String {
    format!("{} {}", answer.status, answer.json()["code"])
}

fn method(s: &Stage, method: &str, id: &str, body: &str) -> Answer {
    s.send(send_with(method, &format!("/workers/{id}"), "", body))
}

/// Adds a worker; its id.
fn post(s: &Stage, url: &str) -> (Answer, String) {
    let answer = s.post("/workers", &format!("{{\"url\":\"{url}\"}}"));
    let id = answer.json()["worker_id"].as_str().unwrap_or_default().to_owned();
    (answer, id)
}

fn healthy(s: &Stage, id: &str) -> Option<()> {
    (s.get(&format!("/workers/{id}")).json()["is_healthy"] == true).then_some(())
}

fn total(s: &Stage) -> u64 {
    s.get("/workers").json()["total"].as_u64().unwrap_or(0)
}

/// A case leaves the list as it found it.
fn remove(s: &Stage, id: &str) {
    method(s, "DELETE", id, "");
    until("the added worker is gone", || (total(s) == 1).then_some(()));
}

fn add(s: &Stage) -> String {
    let new = Worker::start();
    let (answer, id) = post(s, &new.url);
    let v = answer.json();
    let location = answer.header("location").unwrap_or_default().replace(&id, "ID");
    let names: Vec<&str> = ["status", "worker_id", "url", "location", "message"]
        .into_iter()
        .filter(|n| v[*n].is_string())
        .collect();
    until("the new worker is healthy", || healthy(s, &id));
    let (_, _) = (s.generate(), s.generate());
    let seen = format!(
        "{} Location: {location}; {}; requests {}+{}",
        answer.status,
        names.join(", "),
        s.counts(),
        new.got().len()
    );
    remove(s, &id);
    seen
}

fn again(s: &Stage) -> String {
    let (answer, id) = post(s, &s.workers[0].url.clone());
    let same = listed(s)["id"] == id.as_str();
    format!("{} same id: {same}", answer.status)
}

fn pending(s: &Stage) -> String {
    let port = Port::free();
    let (_, id) = post(s, &format!("http://{}", port.address()));
    let v = until("the job has begun", || {
        let v = s.get(&format!("/workers/{id}")).json();
        (v["job_status"]["status"] == "processing").then_some(v)
    });
    let seen = format!(
        "model_id {} is_healthy {} job_status {}; requests go to others: {}",
        v["model_id"],
        v["is_healthy"],
        v["job_status"]["status"],
        s.generate().status
    );
    let worker = Worker::start_at(port.address());
    until("it has answered", || healthy(s, &id));
    drop(worker);
    remove(s, &id);
    seen
}

fn all_fields(s: &Stage) -> String {
    let new = Worker::start();
    let body = serde_json::json!({"url": new.url, "model_id": "m", "priority": 7, "cost": 2.5, "worker_type": "regular",
        "labels": {"zone": "a"}, "api_key": "k", "health_check_timeout_secs": 3, "health_check_interval_secs": 9,
        "health_success_threshold": 1, "health_failure_threshold": 4, "max_connection_attempts": 3});
    let answer = s.post("/workers", &body.to_string());
    let id = answer.json()["worker_id"].as_str().unwrap_or_default().to_owned();
    until("the new worker is healthy", || healthy(s, &id));
    let v = s.get(&format!("/workers/{id}")).json();
    remove(s, &id);
    format!(
        "{} priority {} cost {} api_key shown: {}",
        answer.status,
        v["priority"],
        v["cost"],
        v.get("api_key").is_some()
    )
}

fn put(s: &Stage) -> String {
    let id = listed(s)["id"].as_str().unwrap().to_owned();
    let answer = method(s, "PUT", &id, r#"{"priority":9}"#);
    until("the priority has changed", || (listed(s)["priority"] == 9).then_some(()));
    method(s, "PUT", &id, r#"{"priority":50}"#);
    format!("{} {}", answer.status, answer.json()["status"])
}

fn delete(s: &Stage) -> String {
    let new = Worker::start();
    let (_, id) = post(s, &new.url);
    until("the new worker is healthy", || healthy(s, &id));
    let answer = method(s, "DELETE", &id, "");
    until("the list is short again", || (total(s) == 1).then_some(()));
    let (_, _) = (s.generate(), s.generate());
    format!("{}; requests {}+{}", answer.status, s.counts(), new.got().len())
}

fn delete_busy(s: &Stage) -> String {
    let new = Worker::start();
    let gate = crate::worker::Gate::default();
    let (_, id) = post(s, &new.url);
    until("the new worker is healthy", || healthy(s, &id));
    let door = gate.clone();
    new.answers(move |_, _| {
        door.pass();
        None
    });
    let door = gate.clone();
    s.workers[0].answers(move |_, _| {
        door.pass();
        None
    });
    let request = crate::client::post("/generate", crate::stage::PROMPT);
    let (a, b) = (s.begin(&request), s.begin(&request));
    until("both workers are busy", || (s.counts() == "1" && new.got().len() == 1).then_some(()));
    method(s, "DELETE", &id, "");
    until("the list is short again", || (total(s) == 1).then_some(()));
    gate.open();
    format!("{} and {}", a.finish().status, b.finish().status)
}
