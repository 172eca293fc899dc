//! The router in process, over real sockets on free ports, before scripted workers; every test asserts the trace too.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here, with the place")]

mod admin_ask;
mod admin_control;
mod admin_workers;
mod auth;
mod breaker;
mod capture;
mod certificates;
mod correction;
mod cors;
mod decision_record;
mod doctor;
mod dp_aware;
mod drain;
mod endpoints;
mod faults;
mod framing;
mod harness;
mod health;
mod held;
mod http;
mod ids;
mod intake;
mod journal;
mod limits;
mod live;
mod loads;
mod metrics;
mod metrics_page;
mod paged;
mod passing;
mod piped;
mod policies;
mod pool;
mod retries;
mod script;
mod shadow;
mod simulated;
mod spans;
mod split;
mod tls;
