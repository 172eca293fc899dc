//! The courier in virtual time, before collectors that are away, busy, silent or of another mind.

use std::sync::Mutex;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::net::{Connector, Io, Listener, PipeNet};
use crate::trace::record::Record;
use crate::trace::schema::filled_records;

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
        let net = PipeNet::default();
        net.name("collector", PORT);
        let collector = Collector::of_endpoint("collector").unwrap();
        let outbox = Arc::new(Outbox::new(collector.to_string()));
        let sender = Sender::over(Connector::Pipes(net.clone()), collector, Clock::system());
        let round = Round::of(Arc::clone(&outbox), sender, &run(), Clock::system());
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
