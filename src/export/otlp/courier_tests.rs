//! The courier in virtual time, before collectors that are away, busy, silent or of another mind.

use std::sync::Mutex;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::net::{Connector, Io, Listener, PipeNet};
use crate::trace::record::{DecisionRecord, Record};
use crate::trace::schema::filled_records;
use crate::wire::Endpoint;
use crate::wire::meta_info::ServerStamps;

const PORT: u16 = 4318;

/// A courier on its way, and the network in which its collector may be.
struct Stage {
    net: PipeNet,
    outbox: Arc<Outbox>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What a collector was sent: when, and what.
type Got = Arc<Mutex<Vec<(Instant, Value)>>>;

fn run() -> RunRecord {
    let run = filled_records()
        .into_iter()
        .find_map(|record| if let Record::Run(run) = record { Some(run) } else { None });
    run.expect("there is one of each kind")
}

impl Stage {
    fn start() -> Self {
        Self::at(Clock::system(), &run())
    }

    /// One by this clock.
    fn at(clock: Clock, run: &RunRecord) -> Self {
        let net = PipeNet::default();
        net.name("collector", PORT);
        let collector = Collector::of_endpoint("collector").unwrap();
        let outbox = Arc::new(Outbox::new(collector.to_string()));
        let sender = Sender::over(Connector::Pipes(net.clone()), collector, clock.clone());
        let round = Round::of(Arc::clone(&outbox), sender, run, clock);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(round.go(stopped));
        Self { net, outbox, stop, task }
    }

    /// A collector that answers its requests in turn with these status lines and headers, and the last one again.
    fn collector(&self, answers: &'static [&'static str]) -> Got {
        let (mut listener, got) = (self.net.listen(PORT), Got::default());
        let kept = Arc::clone(&got);
        tokio::spawn(async move {
            let mut next = answers.iter();
            let mut answer = answers[0];
            while let Ok((mut io, _)) = listener.accept().await {
                while let Some(body) = request(&mut io).await {
                    kept.lock().unwrap().push((Instant::now(), serde_json::from_slice(&body).unwrap()));
                    answer = next.next().unwrap_or(&answer);
                    let text = format!("HTTP/1.1 {answer}\r\n\r\n");
                    if io.write_all(text.as_bytes()).await.is_err() || answer.contains("connection: close") {
                        break;
                    }
                }
            }
        });
        got
    }

    fn post(&self, seqs: std::ops::RangeInclusive<u64>) {
        let records: Vec<Record> = seqs
            .map(|seq| {
                Record::Request(Box::new(RequestRecord { seq, end_ns: 5, ..RequestRecord::default() }))
            })
            .collect();
        Posting(Arc::clone(&self.outbox)).offer(&records);
    }

    async fn end(self) -> Duration {
        let from = Instant::now();
        self.stop.send_replace(true);
        self.task.await.unwrap();
        from.elapsed()
    }
}

/// The body of the next request; none if there is no other.
async fn request(io: &mut Io) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1)?.lines().next()?.parse::<usize>().ok()?;
            while read.len() < end + 4 + length {
                io.read_buf(&mut read).await.ok().filter(|n| *n > 0)?;
            }
            return Some(read.split_off(end + 4));
        }
        io.read_buf(&mut read).await.ok().filter(|n| *n > 0)?;
    }
}

/// Numbers of the requests whose spans are in these bodies.
fn seqs(got: &Got) -> Vec<u64> {
    let got = got.lock().unwrap();
    let spans = got
        .iter()
        .flat_map(|(_, body)| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap());
    let attributes = spans.flat_map(|span| span["attributes"].as_array().unwrap());
    let seq = attributes.filter(|attribute| attribute["key"] == "milepost.seq");
    seq.map(|seq| seq["value"]["intValue"].as_str().unwrap().parse().unwrap()).collect()
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

const OK: &str = "200 OK\r\ncontent-length: 0";

#[tokio::test(start_paused = true)]
async fn what_ends_is_at_the_collector_within_a_second_over_one_connection_or_many() {
    for answers in [&[OK][..], &["200 OK\r\nconnection: close\r\ncontent-length: 0"]] {
        let stage = Stage::start();
        let got = stage.collector(answers);
        for seq in 1..=3 {
            stage.post(seq..=seq);
            pass(Duration::from_secs(1)).await;
            assert_eq!(seqs(&got).len() as u64, seq);
        }
        let status = stage.outbox.status();
        assert_eq!((status.sent, status.waiting, status.state), (3, 0, "sending"));
        assert!(stage.end().await < EVERY, "nothing is left to be waited for");
    }
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_was_away_gets_what_waited_and_is_not_asked_without_end() {
    let stage = Stage::start();
    stage.post(1..=3);
    pass(Duration::from_secs(1)).await;
    let status = stage.outbox.status();
    assert_eq!((status.state, status.sent, status.not_taken), ("failing", 0, 0));
    assert!(status.error.unwrap().contains("refused"));
    let got = stage.collector(&[OK]);
    pass(Duration::from_secs(4)).await;
    assert_eq!(seqs(&got), [1, 2, 3]);
    let status = stage.outbox.status();
    assert_eq!((status.state, status.sent, status.error), ("sending", 3, None));
    stage.net.close(PORT);
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_one_is_asked_again_after_the_pause_it_asks_for() {
    let stage = Stage::start();
    let got = stage.collector(&["503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 0", OK]);
    stage.post(1..=1);
    pass(Duration::from_secs(6)).await;
    assert_eq!(got.lock().unwrap().len(), 1);
    pass(Duration::from_secs(2)).await;
    let times: Vec<Instant> = got.lock().unwrap().iter().map(|(at, _)| *at).collect();
    assert_eq!((times.len(), stage.outbox.status().sent), (2, 1));
    assert!(times[1] - times[0] >= Duration::from_secs(7), "{times:?}");
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_asks_for_no_pause_is_not_asked_without_one() {
    let stage = Stage::start();
    let got = stage.collector(&["429 Too Many Requests\r\nretry-after: 0\r\ncontent-length: 0"]);
    stage.post(1..=1);
    pass(Duration::from_secs(60)).await;
    assert_eq!(stage.outbox.status().not_taken, 1);
    let times: Vec<Instant> = got.lock().unwrap().iter().map(|(at, _)| *at).collect();
    assert_eq!(times.len(), ATTEMPTS as usize);
    assert!(times[1] - times[0] >= FIRST_PAUSE && times[4] - times[3] >= FIRST_PAUSE * 8, "{times:?}");
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_never_taken_is_given_up_and_counted_and_the_pauses_grow() {
    let stage = Stage::start();
    let got = stage.collector(&["503 Service Unavailable\r\ncontent-length: 0"]);
    stage.post(1..=2);
    pass(Duration::from_secs(60)).await;
    assert_eq!(stage.outbox.status().not_taken, 2);
    assert_eq!(got.lock().unwrap().len(), ATTEMPTS as usize);
    stage.post(3..=3);
    pass(Duration::from_secs(300)).await;
    assert_eq!(stage.outbox.status().not_taken, 3);
    let times: Vec<Instant> = got.lock().unwrap().iter().map(|(at, _)| *at).collect();
    let last = times[times.len() - 1] - times[times.len() - 2];
    assert!((LONGEST_PAUSE..LONGEST_PAUSE * 2).contains(&last), "{times:?}");
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_counted_apart_whole_or_in_part() {
    let stage = Stage::start();
    let refusing = [
        "400 Bad Request\r\ncontent-length: 0",
        "200 OK\r\ncontent-length: 40\r\n\r\n{\"partialSuccess\":{\"rejectedSpans\":\"2\"}}",
    ];
    let got = stage.collector(Box::leak(Box::new(refusing)));
    stage.post(1..=1);
    pass(Duration::from_secs(1)).await;
    assert_eq!((stage.outbox.status().refused, stage.outbox.status().state), (1, "failing"));
    stage.post(2..=2);
    pass(Duration::from_secs(1)).await;
    let status = stage.outbox.status();
    assert_eq!((status.refused, status.sent, status.refused_spans, status.state), (1, 1, 2, "sending"));
    assert_eq!(got.lock().unwrap().len(), 2, "what is refused is not sent again");
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_sends_what_waits_and_waits_for_nobody_for_long() {
    let stage = Stage::start();
    let got = stage.collector(&[OK]);
    pass(Duration::from_millis(10)).await;
    stage.post(1..=500);
    let outbox = Arc::clone(&stage.outbox);
    assert!(stage.end().await < LAST_WORDS);
    assert_eq!((seqs(&got).len(), outbox.status().sent, outbox.status().waiting), (500, 500, 0));
    // One that takes the connection and says nothing.
    let stage = Stage::start();
    let Listener::Pipe(_silent) = stage.net.listen(PORT) else { panic!("it is a pipe") };
    stage.post(1..=500);
    pass(Duration::from_secs(1)).await;
    stage.post(501..=600);
    let outbox = Arc::clone(&stage.outbox);
    let took = stage.end().await;
    assert!((LAST_WORDS..LAST_WORDS * 2).contains(&took), "{took:?}");
    assert_eq!((outbox.status().not_taken, outbox.status().waiting), (600, 0));
    // One that is away.
    let stage = Stage::start();
    stage.post(1..=2_000);
    let outbox = Arc::clone(&stage.outbox);
    assert!(stage.end().await < LAST_WORDS);
    assert_eq!((outbox.status().not_taken, outbox.status().waiting), (2_000, 0));
}

/// A streamed request of three seconds and 10 ms that arrived at this moment, and what its worker stamped 10 ms and 1 s later.
fn stamped(arrived: crate::clock::Stamp, same_host: bool, server_unix_ns: u64) -> Record {
    let seconds = |after_ns: u64| Some((server_unix_ns + after_ns) as f64 / 1e9);
    Record::Request(Box::new(RequestRecord {
        endpoint: Endpoint::Generate,
        worker: Some("http://w".into()),
        same_host: Some(same_host),
        arrival_mono_ns: arrived.mono_ns,
        arrival_unix_ns: arrived.unix_ns,
        decision: Some(DecisionRecord::default()),
        decided_ns: Some(1_000),
        router_send_ns: Some(2_000),
        first_token_ns: Some(2_000_000_000),
        last_byte_ns: Some(3_000_000_000),
        end_ns: 3_010_000_000,
        sse_events: 9,
        server: ServerStamps {
            request_received_ts: seconds(10_000_000),
            forward_entry_time: seconds(1_000_000_000),
            ..ServerStamps::default()
        },
        ..RequestRecord::default()
    }))
}

/// The stages at the worker of the first request that was sent, each with its end, nanoseconds after arrival.
fn at_worker(got: &Got, arrived: crate::clock::Stamp) -> Vec<(String, i64)> {
    let got = got.lock().unwrap();
    let spans = got[0].1["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    let worker = spans.iter().find(|span| span["kind"] == 3).expect("it was at a worker");
    let stages = spans.iter().filter(|span| span["parentSpanId"] == worker["spanId"]);
    let end = |span: &Value| span["endTimeUnixNano"].as_str().unwrap().parse::<i64>().unwrap();
    let arrived_ns = arrived.unix_ns.cast_signed();
    stages.map(|span| (span["name"].as_str().unwrap().to_owned(), end(span) - arrived_ns)).collect()
}

const WALL_NS: u64 = 1_795_000_000_000_000_000;

#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_moves_no_stage_of_a_request_that_follows_it() {
    let clock = Clock::virtual_time(1_000_000_000, WALL_NS);
    let stage = Stage::at(clock.clone(), &RunRecord { clock: clock.snapshot(), ..run() });
    let got = stage.collector(&[OK]);
    pass(Duration::from_secs(1)).await;
    // A second, so that by the clock before it the stamps lie inside their request too.
    clock.step_wall(1_000_000_000);
    pass(Duration::from_millis(300)).await;
    let arrived = clock.now();
    pass(Duration::from_millis(3_010)).await;
    Posting(Arc::clone(&stage.outbox)).offer(&[stamped(arrived, true, arrived.unix_ns)]);
    pass(Duration::from_secs(1)).await;
    let told = at_worker(&got, arrived);
    let near = |ns: i64, expected_ns: i64| ns.abs_diff(expected_ns) < 2_000;
    assert_eq!(told[0].0, "to server");
    assert!(near(told[0].1, 10_000_000) && near(told[1].1, 1_000_000_000), "{told:?}");
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_clock_nobody_knows_has_the_stages_that_the_router_saw() {
    let clock = Clock::virtual_time(1_000_000_000, WALL_NS);
    let stage = Stage::at(clock.clone(), &RunRecord { clock: clock.snapshot(), ..run() });
    let got = stage.collector(&[OK]);
    let arrived = clock.now();
    pass(Duration::from_millis(3_010)).await;
    // By the router's clock it would be inside the request, and is not: the other host's is off by half a second.
    let offered = stamped(arrived, false, arrived.unix_ns + 500_000_000);
    Posting(Arc::clone(&stage.outbox)).offer(&[offered]);
    pass(Duration::from_secs(1)).await;
    let expected =
        [("to server + tokenize + server queue + prefill", 2_000_000_000), ("decode", 3_000_000_000)];
    assert_eq!(at_worker(&got, arrived), expected.map(|(name, ns)| (name.to_owned(), ns)));
    stage.end().await;
}
