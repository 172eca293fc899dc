//! Tests of the writer's thread, step by step: a disk that is full.

use super::*;
use crate::trace::capture::Capture;
use crate::trace::parts::part_path;
use crate::trace::prompt::PromptKey;
use crate::trace::reader::TraceFile;
use crate::trace::record::{Outcome, RequestRecord, WorkerRecord};
use crate::trace::writer::tests::{run_record, scratch};

/// One that writes to /dev/full, which answers every write with ENOSPC.
fn scribe_at(path: &Path, sink: &Arc<Sink>) -> Option<Scribe> {
    let clock = Clock::system();
    let config = CaptureConfig::default();
    let (_, desk) = Capture::new();
    let mut scribe = Scribe::new(
        Some(path),
        config,
        (run_record(&clock), PromptKey::drawn().unwrap()),
        Arc::clone(sink),
        clock,
        desk,
    );
    scribe.outlet = Some(Outlet::File(LiveFile::open(path).ok()?));
    scribe.is_headed = true;
    Some(scribe)
}

fn requests(count: usize) -> Vec<Record> {
    vec![Record::Request(Box::<RequestRecord>::default()); count]
}

#[test]
fn a_full_disk_stops_the_capture_and_counts_what_it_cost() {
    let sink = Arc::new(Sink::bounded(10));
    let Some(mut scribe) = scribe_at(Path::new("/dev/full"), &sink) else { return };
    scribe.write_records(&mut requests(4));
    let lost = LostRecord { requests: 4, ..LostRecord::default() };
    assert_eq!((sink.lost(), scribe.status().state), (lost, "failing"));
    scribe.write_lost();
    assert_eq!(
        (sink.lost(), sink.lost_total(), scribe.status().lost),
        (lost, 4, lost),
        "told later, counted once"
    );
}

#[test]
fn a_disk_that_has_room_again_is_written_with_what_was_lost_and_the_first_lines() {
    let sink = Arc::new(Sink::bounded(10));
    let Some(mut scribe) = scribe_at(Path::new("/dev/full"), &sink) else { return };
    // The first lines did not fit either.
    let left = WorkerRecord { worker: "http://w".into(), event: "removed".into(), ..WorkerRecord::default() };
    scribe.known.learn(&[Record::Worker(left)]);
    scribe.begin_file();
    assert!(!scribe.is_headed);
    let place = Arc::clone(&scribe.desk.place);
    assert_eq!(*place.lock().unwrap(), None, "of what is no plain file there are no pages");
    assert_eq!(scribe.status().sink, Some("pipe"));
    scribe.round(&mut requests(4), false);
    let path = scratch("room");
    scribe.outlet = Some(Outlet::File(LiveFile::open(&path).unwrap()));
    scribe.round(&mut requests(1), false);
    assert_eq!(*place.lock().unwrap(), Some(Place { path: path.clone(), part: 1 }));
    let lines = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line.split('"').nth(3).unwrap()).collect();
    assert_eq!(kinds, ["run", "worker", "request", "lost"], "{lines:?}");
    assert_eq!(lines[3], "{\"kind\":\"lost\",\"requests\":4}");
    assert_eq!((scribe.status().state, scribe.status().requests), ("capturing", 1));
    assert_eq!(scribe.status().sink, Some("file"));
}

#[test]
fn a_file_says_again_what_is_known_of_workers_and_a_request_that_came_behind_the_stop_is_counted() {
    let sink = Arc::new(Sink::bounded(10));
    let path = scratch("known");
    let Some(mut scribe) = scribe_at(&path, &sink) else { return };
    scribe.stop(&mut Vec::new());
    let worker = WorkerRecord {
        worker: "http://inner".into(),
        event: "described".into(),
        router: Some(true),
        ..WorkerRecord::default()
    };
    // Nothing is captured, and still it is known later.
    sink.offer(Record::Worker(worker.clone()));
    scribe.round(&mut requests(2), false);
    assert_eq!(sink.lost(), LostRecord { stopped: 2, ..LostRecord::default() });
    scribe.start(None).unwrap();
    scribe.turn_over().unwrap();
    let said = |path: &Path| {
        let file = TraceFile::read(path).unwrap();
        let last = file.runs.iter().flat_map(|run| &run.workers).next().unwrap();
        (last.worker.to_string(), last.event.clone(), last.detail.clone(), last.router)
    };
    let expected = ("http://inner".to_owned(), "known".to_owned(), Some("described".to_owned()), Some(true));
    assert_eq!((said(&part_path(&path, 1)), said(&path)), (expected.clone(), expected));
    assert_eq!((sink.lost(), scribe.status().lost.stopped), (LostRecord::default(), 2));
}

#[derive(Debug)]
struct Anybody;

impl Follower for Anybody {
    fn offer(&mut self, _: &[Record]) {}
}

#[test]
fn who_ends_while_the_capture_is_stopped_is_not_counted_as_left_out_of_the_sample() {
    let sink = Arc::new(Sink::bounded(10));
    let Some(mut scribe) = scribe_at(&scratch("sampled"), &sink) else { return };
    let none = Sampling { share: 0.0, slowest_per_minute: 0 };
    scribe.sieve = Sieve::new(none, PromptKey::drawn().unwrap());
    // Spans are sent all the same, so the sample is drawn.
    scribe.sieve.follow(vec![Box::new(Anybody)]);
    let done = |count| {
        let record = RequestRecord { outcome: Outcome::Done, ..RequestRecord::default() };
        vec![Record::Request(Box::new(record)); count]
    };
    scribe.round(&mut done(2), false);
    scribe.stop(&mut Vec::new());
    scribe.round(&mut done(5), false);
    scribe.start(None).unwrap();
    scribe.round(&mut done(1), false);
    let lost = LostRecord { sampled: 3, stopped: 5, ..LostRecord::default() };
    assert_eq!((scribe.status().lost, scribe.sieve.left_out), (lost, 1));
}
