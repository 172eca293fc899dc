//! From what was found to what is missing, and what to do about it.
//!
//! Rule: pure, by what the answers held and not by the version, which only decides what is advised. Each finding says what a user
//! loses by it. Deliberately not here: how it was found.

use super::report::{Examined, Finding, Heard, Idle, Kind, Level, OtherClocks, Role, Stop, Verdict};
use crate::http1::IDLE_LIMIT;
use crate::proxy::headers;
use crate::trace::align::{NO_OFFSET, NOT_SENT, NOT_STREAMED, REMOTE_MONOTONIC, UNKNOWN_WORKER};

/// From this version on the queue's stamps are in stock answers.
const HAS_QUEUE_STAMPS: [u32; 3] = [0, 5, 10];
/// From this version on there is any stamp in stock answers.
const HAS_STAMPS: [u32; 3] = [0, 5, 5];
const PATCH: &str = "SGLang 0.5.10 or newer with --enable-metrics, or on 0.4.9 the patch that returns the four stamps, with --enable-metrics";

/// The worst of them decides.
pub(super) fn verdict(findings: &[Finding]) -> Verdict {
    match findings.iter().map(|finding| finding.level).min() {
        Some(Level::Fault) => Verdict::Unusable,
        Some(Level::Lack) => Verdict::Lacking,
        Some(Level::Note) | None => Verdict::Well,
    }
}

/// What is wrong or missing with a server, and what to know of it; the worst first.
pub(super) fn findings(found: &Examined) -> Vec<Finding> {
    let mut all = Findings(Vec::new());
    if all.faults(found) {
        return all.0;
    }
    match found.what {
        Kind::Router => all.router(found),
        _ => {
            if found.role == Role::Router {
                all.add(
                    Level::Note,
                    "it was named as a router, and an engine answers",
                    "--worker-urls is where engines are named",
                );
            }
            all.engine(found);
        }
    }
    all.description(found);
    all.connection(found);
    all.stop(found);
    // A stable sort: those of one level stay in the order of the questions.
    all.0.sort_by_key(|finding| finding.level);
    all.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, what: impl Into<String>, remedy: &str) {
        let remedy = Some(remedy.to_owned()).filter(|remedy| !remedy.is_empty());
        self.0.push(Finding { level, what: what.into(), remedy });
    }

    /// True where nothing else can be said.
    fn faults(&mut self, found: &Examined) -> bool {
        let why = found.trouble.as_deref().unwrap_or_default();
        match (found.what, found.identity.wants_key) {
            (Kind::Nobody, _) => self.add(
                Level::Fault,
                format!("it cannot be reached: {why}"),
                "is the server up, does it listen on this address (--host 0.0.0.0 for other hosts), and is the port right?",
            ),
            (Kind::NoHttp, _) => self.add(
                Level::Fault,
                format!("it answers a connection, and not by HTTP/1.1: {why}"),
                "is it another service's port? A server with TLS needs https:// in its URL; one that is still loading its model \
                 answers later",
            ),
            (_, Some(status)) => self.add(
                Level::Fault,
                format!("it wants a key (status {status}), and not the one that was sent, if any"),
                "--api-key KEY, as for milepost route",
            ),
            (Kind::Http, None) => self.add(
                Level::Fault,
                format!("it answers HTTP ({}), and is not an SGLang server", not_sglang(found)),
                "name the host and port that sglang.launch_server was started with",
            ),
            _ => {}
        }
        if self.0.is_empty() {
            self.failed(found.streamed.as_ref(), "a streamed");
        }
        if self.0.is_empty() {
            self.failed(found.plain.as_ref(), "a plain");
        }
        !self.0.is_empty()
    }

    fn failed(&mut self, heard: Option<&Heard>, which: &str) {
        if let Some(error) = heard.and_then(|heard| heard.error.as_ref()) {
            let what = format!("{which} request of a few tokens fails: {error}");
            self.add(Level::Fault, what, "the server's own log says more; ask it again when it is ready");
        }
    }

    fn engine(&mut self, found: &Examined) {
        self.clocks(found);
        let missing = |column: &str| {
            let columns = found.streamed.iter().flat_map(|heard| &heard.columns);
            columns.clone().find(|c| c.name == column).and_then(|c| c.missing)
        };
        let not_sent: Vec<&str> =
            ["server_created_time", "queue_time_start", "queue_time_end", "server_first_token_time"]
                .into_iter()
                .filter(|column| missing(column) == Some(NOT_SENT))
                .collect();
        if !not_sent.is_empty() {
            let what = if not_sent.len() == 4 {
                "its answers tell no stage: time in its queue and in prefill stay empty, and TTFT is the router's".to_owned()
            } else {
                format!("it does not tell what these columns are made of: {}", not_sent.join(", "))
            };
            self.add(Level::Lack, what, &stamp_remedy(found));
        }
        if missing("queue_time_start") == Some(REMOTE_MONOTONIC) {
            self.add(
                Level::Note,
                "its queue stamps are in the monotonic clock of another host: queue_time_start, queue_time_end and tokenize_time stay empty, pure_queue_time is right",
                "a router on the server's own host, or SGLang 0.5.10 or newer, which tells them in wall time",
            );
        }
        let plain = found.plain.iter().flat_map(|heard| &heard.columns);
        let unstreamed = plain.clone().find(|column| column.name == "server_first_token_time");
        if unstreamed.is_some_and(|column| column.missing == Some(NOT_STREAMED)) {
            // 0.5.23 does tell it, in a stamp that needs the flag.
            let remedy =
                if is_off(found, "enable_metrics") && found.identity.version.as_deref() == Some("0.5.23") {
                    "\"stream\": true in the request, or --enable-metrics"
                } else {
                    "\"stream\": true in the request, or SGLang 0.5.23"
                };
            let what =
                "it does not tell the first token of plain requests in time, so their TTFT stays empty";
            self.add(Level::Note, what, remedy);
        }
        self.load(found);
        self.cache(found);
    }

    fn clocks(&mut self, found: &Examined) {
        let what = match found.other_clocks {
            Some(OtherClocks::Monotonic) => "its monotonic clock is not this host's, though its address is: queue_time_start and queue_time_end would be wrong".to_owned(),
            Some(OtherClocks::Wall) => {
                let ahead_ms = found.wall_clock.map_or(0.0, |wall| wall.ahead_ns as f64 / 1e6);
                format!("its wall clock is {ahead_ms:+.1} ms from this host's, though its address is this host's: its stamps would be wrong by that")
            }
            None => {
                if [&found.streamed, &found.plain].into_iter().flatten().any(|heard| heard.order_broken) {
                    self.add(
                        Level::Lack,
                        "its stamps are out of order by more than the clocks allow",
                        "are its clocks set by NTP? A server that started before a step of its clock tells old time (0.5.10 and newer): restart it",
                    );
                }
                return;
            }
        };
        self.add(
            Level::Lack,
            what,
            "a forwarded port, or a container or sandbox with clocks of its own, stands between: name the server by its real address; \
             or this host's clock was stepped after the server had started (0.5.10 and newer go on with the old time): restart it",
        );
    }

    fn load(&mut self, found: &Examined) {
        let Some(load) = found.load.as_ref().filter(|load| load.endpoint.is_none()) else { return };
        self.add(
            Level::Lack,
            format!(
                "it tells its load nowhere ({}): policies that read loads do without it",
                load.in_vain.join(", ")
            ),
            "--enable-metrics, or SGLang 0.5.8 or newer",
        );
    }

    fn cache(&mut self, found: &Examined) {
        let flag = |name: &str| found.identity.engine.get(name).and_then(serde_json::Value::as_bool);
        if flag("disable_radix_cache") == Some(true) {
            self.add(
                Level::Note,
                "it keeps no prefix cache (--disable-radix-cache): no policy can gain anything by where a prompt goes",
                "leave that flag out, unless it is meant",
            );
        } else if !has_ranks(found) && found.plain.as_ref().and_then(|heard| heard.cached_tokens) == Some(0) {
            self.add(
                Level::Note,
                "the same prompt asked twice found nothing in its prefix cache",
                "is the cache too small or just flushed? Ask again when it is idle",
            );
        }
        if is_off(found, "enable_cache_report") {
            self.add(
                Level::Note,
                "OpenAI endpoints do not tell cached tokens, so beliefs about its cache are not corrected there",
                "--enable-cache-report",
            );
        }
        let interval = found.identity.engine.get("stream_interval").and_then(serde_json::Value::as_u64);
        if let Some(interval @ 2..) = interval {
            self.add(
                Level::Note,
                format!(
                    "it sends an event for every {interval} tokens: times between tokens are those of groups"
                ),
                "--stream-interval 1 where they matter",
            );
        }
    }

    fn router(&mut self, found: &Examined) {
        if found.role == Role::Worker {
            self.add(
                Level::Note,
                "it is a router: its address is no engine's, and policies see all that is behind it as one worker",
                "name its workers instead, and the router by --router",
            );
        }
        let Some(heard) = &found.streamed else { return };
        if !heard.router_headers.contains(&headers::ARRIVAL_TIME) {
            self.add(
                Level::Lack,
                "this router says neither when a request came nor when it sent it on: arrival_time and router_send_time stay empty",
                "milepost route in its place, with the same flags",
            );
        }
        if heard.worker_url.is_none() {
            self.add(
                Level::Lack,
                "this router does not say which worker answered, so no stamp that comes through it can be placed",
                "milepost route in its place, with the same flags",
            );
        } else if unplaced(heard, UNKNOWN_WORKER) || unplaced(heard, NO_OFFSET) {
            self.add(Level::Note, "stamps that come through it could not be placed", "");
        }
    }

    fn description(&mut self, found: &Examined) {
        if let Some(status) = found.identity.hides_description {
            self.add(
                Level::Note,
                format!("it generates, and refuses what would describe it (status {status}): less of it is known here"),
                "--api-key KEY, if it has one",
            );
        }
    }

    fn connection(&mut self, found: &Examined) {
        let limit_ns = u64::try_from(IDLE_LIMIT.as_nanos()).unwrap_or(u64::MAX);
        if !found.idle.is_some_and(|idle| idle.ends_before(limit_ns)) {
            return;
        }
        let what = match found.idle {
            Some(Idle::ClosedAfterNs(ns)) => {
                format!("it closes idle connections after {:.1} s", ns as f64 / 1e9)
            }
            _ => "it closes its connections after each answer".to_owned(),
        };
        let kept_s = IDLE_LIMIT.as_secs();
        self.add(
            Level::Lack,
            format!("{what}, and a router keeps them for {kept_s} s: some requests find theirs dead and go once more"),
            "SGLANG_TIMEOUT_KEEP_ALIVE=5 or more (0.5.10 and newer); a proxy between must keep them as long",
        );
    }

    fn stop(&mut self, found: &Examined) {
        match &found.stop {
            Some(Stop::RunsOn { for_ns, .. }) => self.add(
                Level::Lack,
                format!(
                    "a client that leaves does not end its request: it still ran {:.1} s later, and was aborted by name",
                    *for_ns as f64 / 1e9
                ),
                "a proxy between that reads answers ahead of its client? Place goes to answers that nobody reads",
            ),
            Some(Stop::Untold { why }) => {
                self.add(Level::Note, format!("whether a client that leaves ends its request cannot be told: {why}"), "");
            }
            Some(Stop::Ends { .. }) | None => {}
        }
    }
}

/// Several caches: the second prompt may have come to another than the first.
fn has_ranks(found: &Examined) -> bool {
    found.identity.engine.get("dp_size").and_then(serde_json::Value::as_u64).is_some_and(|ranks| ranks > 1)
}

/// The server told that a switch is off.
fn is_off(found: &Examined, flag: &str) -> bool {
    found.identity.engine.get(flag).and_then(serde_json::Value::as_bool) == Some(false)
}

fn unplaced(heard: &Heard, why: &str) -> bool {
    heard.columns.iter().any(|column| column.missing == Some(why))
}

fn not_sglang(found: &Examined) -> String {
    match found.streamed.as_ref().and_then(|heard| heard.status) {
        Some(status) => format!("status {status} to POST /generate"),
        None => "no answer to POST /generate".to_owned(),
    }
}

fn stamp_remedy(found: &Examined) -> String {
    let version = found.identity.version.as_deref().and_then(numbers);
    let is_patched =
        found.streamed.iter().flat_map(|heard| &heard.stamps).any(|s| s.name == "queue_time_start");
    match version {
        _ if found.identity.front_end.as_deref() == Some("rust") => {
            "the Rust front end leaves all stamps out: start the server without SGLANG_RUST_SERVER".to_owned()
        }
        _ if is_patched => "--enable-metrics".to_owned(),
        Some(version) if version >= HAS_QUEUE_STAMPS => "--enable-metrics".to_owned(),
        Some(version) if version >= HAS_STAMPS && is_off(found, "enable_metrics") => {
            "--enable-metrics; SGLang 0.5.10 or newer tells more".to_owned()
        }
        _ => PATCH.to_owned(),
    }
}

/// The first three numbers of a version such as `0.4.9.post6`.
fn numbers(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse().ok()
    });
    Some([parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(numbers("0.4.9.post6"), Some([0, 4, 9]));
        assert_eq!(numbers("0.5.10rc1"), Some([0, 5, 10]));
        assert!(numbers("0.5.9") < Some(HAS_QUEUE_STAMPS));
        assert_eq!((numbers("main"), numbers("")), (None, None));
    }
}
