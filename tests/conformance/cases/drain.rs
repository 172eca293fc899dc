//! The end of the router: signals, requests on the way, the port.

use std::net::TcpStream;

use rustix::process::Signal;

use crate::client::{Exchange, post};
use crate::process::until;
use crate::stage::{PROMPT, Stage};
use crate::table::{Group, Topic, differs, same};
use crate::worker::{Gate, Worker};

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Drain",
    groups: &[Group {
        flags: "",
        workers: 0,
        cases: &[
            same("SIGTERM with nothing on the way: exit code", |s| idle(s, Signal::TERM), "0"),
            differs(
                "SIGINT with nothing on the way: exit code",
                |s| idle(s, Signal::INT),
                "-2",
                "0",
                "SIGINT ends it as SIGTERM does",
            ),
            same("SIGTERM with a request on the way", busy, "it is answered with 200, then exit code 0"),
            same(
                "SIGTERM with a request on the way: new connections",
                refused,
                "refused while it is answered",
            ),
            same(
                "SIGTERM, a request that does not end, --shutdown-grace-period-secs 1",
                grace,
                "exit code 0, the client got nothing",
            ),
            differs(
                "a second SIGTERM with a request on the way",
                second,
                "ends with the grace period",
                "ends at once",
                "somebody who asks twice means it",
            ),
        ],
    }],
};

fn idle(s: &Stage, signal: Signal) -> String {
    let own = Stage::with(s.subject, "--policy round_robin", vec![Worker::start()]);
    own.generate();
    own.router().signal(signal);
    own.router().end().to_string()
}

/// A router with one request that waits at the worker.
fn with_request(s: &Stage, flags: &str) -> (Stage, Gate, Exchange) {
    let own = Stage::with(s.subject, &format!("--policy round_robin {flags}"), vec![Worker::start()]);
    let gate = Gate::default();
    let door = gate.clone();
    own.workers[0].answers(move |_, _| {
        door.pass();
        None
    });
    let exchange = own.begin(post("/generate", PROMPT));
    until("the worker has it", || (own.counts() == "1").then_some(()));
    (own, gate, exchange)
}

/// Waits until the router takes no more connections.
fn until_refused(own: &Stage) {
    let address = own.router().port.address();
    until("connections are refused", || TcpStream::connect(address).is_err().then_some(()));
}

fn busy(s: &Stage) -> String {
    let (own, gate, exchange) = with_request(s, "");
    own.router().signal(Signal::TERM);
    until_refused(&own);
    gate.open();
    let status = exchange.finish().status;
    format!("it is answered with {status}, then exit code {}", own.router().end())
}

fn refused(s: &Stage) -> String {
    let (own, gate, exchange) = with_request(s, "");
    own.router().signal(Signal::TERM);
    until_refused(&own);
    let seen = if own.router().ended().is_none() { "refused while it is answered" } else { "ended" };
    gate.open();
    exchange.finish();
    own.router().end();
    seen.to_owned()
}

fn grace(s: &Stage) -> String {
    let (own, gate, exchange) = with_request(s, "--shutdown-grace-period-secs 1");
    own.router().signal(Signal::TERM);
    let code = own.router().end();
    let status = exchange.finish().status;
    gate.open();
    format!(
        "exit code {code}, the client got {}",
        if status == 0 { "nothing".to_owned() } else { status.to_string() }
    )
}

fn second(s: &Stage) -> String {
    let (own, gate, exchange) = with_request(s, "--shutdown-grace-period-secs 3");
    own.router().signal(Signal::TERM);
    until_refused(&own);
    own.router().signal(Signal::TERM);
    // Either it ends now, or with the grace period.
    let mut looks = 0;
    let soon = until("it ends", || {
        looks += 1;
        own.router().ended().map(|_| looks < 150)
    });
    gate.open();
    drop(exchange);
    if soon { "ends at once" } else { "ends with the grace period" }.to_owned()
}
