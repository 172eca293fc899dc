//! The three shapes of launch script, and a start without workers.

use crate::process::{Port, look_for, until};
use crate::stage::{PROMPT, Stage};
use crate::table::{Group, Topic, differs, same};
use crate::worker::Worker;

const OLD: &str = "launch scripts of that time go on";

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Launch scripts",
    groups: &[Group {
        flags: "",
        workers: 0,
        cases: &[
            same("--worker-urls A B", plain, "POST /generate 200, workers got 1+1"),
            same(
                "no workers, then POST /workers (0.2.2 to 0.3.2)",
                rest,
                "202; POST /generate 200, workers got 1",
            ),
            differs(
                "no workers, then POST /add_worker?url= (0.1.x to 0.2.1)",
                legacy,
                "404",
                "200; POST /generate 200, workers got 1",
                OLD,
            ),
            differs(
                "/list_workers and /remove_worker?url= (0.1.x to 0.2.1)",
                legacy_list,
                "404, 404",
                r#"200 {"urls":["W0"]}, 200, then {"urls":[]}"#,
                OLD,
            ),
            same(
                "a worker that comes up later",
                late,
                "/health and /generate 200, 503 no_available_workers; then POST /generate 200, workers got 1",
            ),
            differs(
                "11 workers that are not there and one that is",
                many_dead,
                "not ready after 1.5 s",
                "the one is used at once",
                "no registration waits for another",
            ),
        ],
    }],
};

const FLAGS: &str = "--policy round_robin --worker-startup-check-interval 1";

fn served(own: &Stage, url: Option<&Worker>) -> String {
    until("a worker is ready", || (own.get("/readiness").status == 200).then_some(()));
    let status = own.post("/generate", PROMPT).status;
    let got = url.map_or_else(|| own.counts(), |w| w.got().len().to_string());
    format!("POST /generate {status}, workers got {got}")
}

fn plain(s: &Stage) -> String {
    let own = Stage::with(s.subject, FLAGS, vec![Worker::start(), Worker::start()]);
    own.generate();
    served(&own, None)
}

fn rest(s: &Stage) -> String {
    let (own, worker) = (Stage::with(s.subject, FLAGS, Vec::new()), Worker::start());
    let body = format!("{{\"url\":\"{}\",\"worker_type\":\"regular\",\"bootstrap_port\":null}}", worker.url);
    let added = own.post("/workers", &body).status;
    format!("{added}; {}", served(&own, Some(&worker)))
}

fn legacy(s: &Stage) -> String {
    let (own, worker) = (Stage::with(s.subject, FLAGS, Vec::new()), Worker::start());
    let added = own.post(&format!("/add_worker?url={}", worker.url), "").status;
    if added == 404 {
        return "404".to_owned();
    }
    format!("{added}; {}", served(&own, Some(&worker)))
}

fn legacy_list(s: &Stage) -> String {
    let own = Stage::with(s.subject, FLAGS, vec![Worker::start()]);
    let listed = own.get("/list_workers");
    let removed = own.post(&format!("/remove_worker?url={}", own.workers[0].url), "");
    if listed.status == 404 {
        return format!("404, {}", removed.status);
    }
    let after = own.get("/list_workers").json();
    format!("{} {}, {}, then {after}", listed.status, own.plain(&listed.text()), removed.status)
}

fn late(s: &Stage) -> String {
    let port = Port::free();
    let own = Stage::with(
        s.subject,
        &format!("{FLAGS} --disable-retries --worker-urls http://{}", port.address()),
        Vec::new(),
    );
    let before = format!("{}, {}", own.get("/health").status, own.generate().problem());
    let worker = Worker::start_at(port.address());
    format!("/health and /generate {before}; then {}", served(&own, Some(&worker)))
}

fn many_dead(s: &Stage) -> String {
    let ports: Vec<Port> = (0..11).map(|_| Port::free()).collect();
    let live = Worker::start();
    let urls: Vec<String> = ports.iter().map(|p| format!("http://{}", p.address())).collect();
    let flags = format!("--policy round_robin --worker-urls {}", urls.join(" "));
    let own = Stage::with(s.subject, &format!("{flags} {}", live.url), Vec::new());
    let ready = look_for(|| (own.get("/readiness").status == 200).then_some(()));
    if ready.is_some() { "the one is used at once" } else { "not ready after 1.5 s" }.to_owned()
}
