//! Tests of the alignment, on values that real servers sent (`tests/data/captures`).

use proptest::prelude::*;

use super::*;
use crate::clock::ClockSnapshot;
use crate::trace::record::{Outcome, WorkerRecord};
use crate::wire::meta_info::ServerStamps;

/// Wall minus monotonic of the host of the patched capture, chosen so that its two clocks agree.
const PATCHED_OFFSET_NS: u64 = 1_795_298_573_737_500_000;

fn patched() -> RequestRecord {
    RequestRecord {
        same_host: Some(true),
        outcome: Outcome::Done,
        worker: Some("http://w".into()),
        arrival_mono_ns: 4_111_736_000_000,
        router_send_ns: Some(200_000),
        sse_events: 8,
        first_event_ns: Some(17_000_000),
        first_token_ns: Some(17_000_000),
        last_byte_ns: Some(55_000_000),
        server: ServerStamps {
            e2e_latency: Some(0.051_646_232_604_980_47),
            server_created_time: Some(1_795_302_685.474_251_7),
            server_first_token_time: Some(1_795_302_685.490_006),
            queue_time_start: Some(4_111.736_765_916),
            queue_time_end: Some(4_111.736_992_834),
            ..ServerStamps::default()
        },
        ..RequestRecord::default()
    }
}

fn patched_clocks() -> ClockTrack {
    clocks(4_110_000_000_000, PATCHED_OFFSET_NS)
}

fn clocks(mono_ns: u64, offset_ns: u64) -> ClockTrack {
    let mut track = ClockTrack::default();
    for mono_ns in [mono_ns, mono_ns + 10_000_000_000] {
        track.add(ClockSnapshot { mono_ns, unix_ns: mono_ns + offset_ns, bracket_ns: 100 });
    }
    track
}

/// 0.5.23, the stream of the captures; arrival 1 ms before `request_received_ts`.
fn newest() -> RequestRecord {
    RequestRecord {
        same_host: Some(true),
        outcome: Outcome::Done,
        worker: Some("http://w".into()),
        arrival_mono_ns: NEWEST_ARRIVAL_NS,
        router_send_ns: Some(100_000),
        sse_events: 8,
        first_event_ns: Some(31_500_000),
        first_token_ns: Some(31_500_000),
        last_byte_ns: Some(73_000_000),
        server: ServerStamps {
            e2e_latency: Some(0.071_115_252_000_026_89),
            queue_time: Some(0.000_401_549_999_878_625_4),
            request_received_ts: Some(1_795_299_931.345_447_8),
            api_server_dispatch_finish_ts: Some(1_795_299_931.346_089),
            forward_entry_time: Some(1_795_299_931.346_962_7),
            prefill_finished_time: Some(1_795_299_931.367_329_6),
            first_token_latency: Some(0.029_940_609_000_050_245),
            response_sent_to_client_ts: Some(1_795_299_931.375_601_3),
            request_finished_ts: Some(1_795_299_931.416_563),
            num_retractions: Some(0),
            ..ServerStamps::default()
        },
        ..RequestRecord::default()
    }
}

const NEWEST_ARRIVAL_NS: u64 = 900_000_000_000;
const NEWEST_OFFSET_NS: u64 = 1_795_299_931_344_447_800 - NEWEST_ARRIVAL_NS;

fn newest_clocks() -> ClockTrack {
    clocks(NEWEST_ARRIVAL_NS - 1_000_000_000, NEWEST_OFFSET_NS)
}

fn near(ns: Option<i64>, expected_ns: i64) {
    let ns = ns.expect("a value");
    assert!(ns.abs_diff(expected_ns) <= 400, "{ns} is not {expected_ns}");
}

fn reason(aligned: &Aligned, column: &str) -> Option<&'static str> {
    let found = aligned.missing.iter().find(|(name, _)| *name == column);
    found.map(|(_, reason)| *reason)
}

#[test]
fn a_patched_server_on_this_host() {
    let a = align(&patched(), &patched_clocks(), &Offsets::default());
    near(a.created_ns, 751_700);
    assert_eq!((a.queue_start_ns, a.queue_end_ns), (Some(765_916), Some(992_834)));
    near(a.first_token_ns, 16_506_000);
    assert_eq!(a.pure_queue_ns, Some(226_918));
    near(a.tokenize_ns, 765_916 - 751_700);
    near(a.queue_in_server_ns, 15_754_300);
    assert_eq!((a.ttft_ns, a.ttft_source), (a.first_token_ns, TtftSource::ServerPatch));
    assert_eq!((a.finish_ns, a.order_broken, a.clock_bound_ns), (Some(55_000_000), false, Some(410)));
    assert_eq!(a.missing, []);
}

#[test]
fn the_newest_server_on_this_host() {
    let a = align(&newest(), &newest_clocks(), &Offsets::default());
    near(a.created_ns, 1_000_000);
    near(a.queue_end_ns, 2_514_900);
    near(a.queue_start_ns, 2_113_350);
    assert_eq!(a.pure_queue_ns, Some(401_550));
    near(a.tokenize_ns, 1_113_350);
    near(a.first_token_ns, 30_940_609);
    near(a.queue_in_server_ns, 29_940_609);
    assert_eq!(a.ttft_source, TtftSource::ServerFirstTokenLatency);
    assert_eq!((a.order_broken, a.missing.len()), (false, 0));
}

#[test]
fn ttft_falls_back_in_its_order() {
    let mut r = newest();
    let source = |r: &RequestRecord| align(r, &newest_clocks(), &Offsets::default()).ttft_source;
    r.server.first_token_latency = None;
    assert_eq!(source(&r), TtftSource::ServerSentTs);
    near(align(&r, &newest_clocks(), &Offsets::default()).ttft_ns, 31_153_500);
    r.server.response_sent_to_client_ts = None;
    assert_eq!(source(&r), TtftSource::ServerPrefillFinished);
    r.server.prefill_finished_ts = r.server.prefill_finished_time.take();
    assert_eq!(source(&r), TtftSource::ServerPrefillFinished);
    r.server.prefill_finished_ts = None;
    assert_eq!(source(&r), TtftSource::Router);
    r.first_token_ns = None;
    assert_eq!(source(&r), TtftSource::None);
}

#[test]
fn a_plain_answer_has_a_first_token_from_0_5_23_only() {
    let plain = |r: RequestRecord| RequestRecord { sse_events: 0, first_token_ns: None, ..r };
    let a = align(&plain(patched()), &patched_clocks(), &Offsets::default());
    assert_eq!((a.ttft_ns, a.ttft_source, a.first_token_ns), (None, TtftSource::None, None));
    assert_eq!(reason(&a, "ttft"), Some(NOT_STREAMED));
    assert_eq!(reason(&a, "server_first_token_time"), Some(NOT_STREAMED));
    assert_eq!(a.queue_in_server_ns, None);
    let a = align(&plain(newest()), &newest_clocks(), &Offsets::default());
    assert_eq!(a.ttft_source, TtftSource::ServerFirstTokenLatency);
    let mut before = plain(newest());
    before.server.first_token_latency = None;
    let a = align(&before, &newest_clocks(), &Offsets::default());
    assert_eq!((a.ttft_ns, a.ttft_source), (None, TtftSource::None));
}

#[test]
fn a_remote_patched_server_keeps_what_is_of_one_clock() {
    let mut r = patched();
    r.same_host = Some(false);
    let mut offsets = Offsets::default();
    let a = align(&r, &patched_clocks(), &offsets);
    assert_eq!((a.created_ns, a.first_token_ns, a.clock_bound_ns), (None, None, None));
    assert_eq!(reason(&a, "server_created_time"), Some(NO_OFFSET));
    assert_eq!((a.pure_queue_ns, a.ttft_source), (Some(226_918), TtftSource::Router));
    near(a.queue_in_server_ns, 15_754_300);

    offsets.learn(&r);
    let a = align(&r, &ClockTrack::default(), &offsets);
    // Out and back share 16.8 ms - 15.7543 ms alike: 522.85 us each, after the send at 200 us.
    near(a.created_ns, 722_850);
    near(a.first_token_ns, 16_477_150);
    // 50 ppm of the exchange, and of the time from the send to the farther stamp.
    near(a.clock_bound_ns.map(signed), 522_850 + 360 + 840 + 814);
    assert_eq!((a.queue_start_ns, a.queue_end_ns, a.tokenize_ns), (None, None, None));
    for column in ["queue_time_start", "queue_time_end", "tokenize_time"] {
        assert_eq!(reason(&a, column), Some(REMOTE_MONOTONIC), "{column}");
    }
    assert_eq!((a.ttft_source, a.order_broken), (TtftSource::ServerPatch, false));
}

#[test]
fn durations_of_one_clock_need_no_alignment_and_are_those_of_the_aligned_stages() {
    let aligned = align(&newest(), &newest_clocks(), &Offsets::default());
    let remote = RequestRecord { same_host: Some(false), worker: None, ..newest() };
    let spans = server_spans(&remote);
    assert_eq!(spans.queue_ns.map(signed), aligned.pure_queue_ns);
    let prefill_ns = aligned.first_token_ns.unwrap() - aligned.queue_end_ns.unwrap();
    assert_eq!(spans.prefill_ns.map(signed), Some(prefill_ns));
    assert!(spans.decode_ns.is_some());
    let spans = server_spans(&patched());
    assert!(spans.queue_ns.is_some() && spans.decode_ns.is_some());
    assert_eq!(spans.prefill_ns, None, "its queue ends in one clock, its first token is in the other");
    assert_eq!(server_spans(&RequestRecord::default()), ServerSpans::default());
}

/// A router is on this host, but the engine behind it may be anywhere.
#[test]
fn stamps_through_another_router_are_not_placed_and_teach_nothing() {
    let mut offsets = Offsets::default();
    offsets.know(&WorkerRecord { router: Some(true), worker: "http://w".into(), ..worker_record() });
    let mut r = newest();
    let a = align(&r, &newest_clocks(), &offsets);
    assert_eq!((a.created_ns, reason(&a, "server_created_time")), (None, Some(UNKNOWN_WORKER)));
    // What is of the server's own clock alone holds all the same.
    assert!(a.pure_queue_ns.is_some() && a.queue_in_server_ns.is_some());
    r.same_host = Some(false);
    offsets.learn(&r);
    assert_eq!(reason(&align(&r, &newest_clocks(), &offsets), "server_created_time"), Some(UNKNOWN_WORKER));
    // One that does not say so is an engine.
    let mut offsets = Offsets::default();
    offsets.know(&WorkerRecord { router: None, worker: "http://w".into(), ..worker_record() });
    assert!(align(&newest(), &newest_clocks(), &offsets).created_ns.is_some());
}

fn worker_record() -> WorkerRecord {
    serde_json::from_str(r#"{"mono_ns":1,"worker":"http://w","event":"described"}"#).unwrap()
}

#[test]
fn a_remote_newest_server_is_all_wall_clock() {
    let mut r = newest();
    r.same_host = None;
    let mut offsets = Offsets::default();
    let a = align(&r, &newest_clocks(), &offsets);
    near(a.tokenize_ns, 1_113_350);
    assert_eq!((a.queue_end_ns, reason(&a, "queue_time_end")), (None, Some(NO_OFFSET)));
    offsets.learn(&r);
    let a = align(&r, &newest_clocks(), &offsets);
    assert!(a.queue_start_ns.is_some() && a.queue_end_ns.is_some() && !a.order_broken);
    assert_eq!(a.missing, []);
}

#[test]
fn what_a_remote_clock_told_before_it_was_set_places_no_stamp_outside_its_request() {
    let first = RequestRecord { same_host: Some(false), ..newest() };
    let mut offsets = Offsets::default();
    offsets.learn(&first);
    // Of an answer that broke off: it tells nothing of the clock by itself.
    let mut second = RequestRecord { outcome: Outcome::ClientGone, ..first };
    second.server.response_sent_to_client_ts = None;
    assert!(align(&second, &newest_clocks(), &offsets).created_ns.is_some());
    for set_s in [-5.0, 5.0] {
        let mut set = second.clone();
        set.server.request_received_ts = second.server.request_received_ts.map(|s| s + set_s);
        set.server.forward_entry_time = second.server.forward_entry_time.map(|s| s + set_s);
        let a = align(&set, &newest_clocks(), &offsets);
        assert_eq!((a.created_ns, a.queue_end_ns), (None, None), "{set_s}");
        assert_eq!(reason(&a, "server_created_time"), Some(NO_OFFSET));
    }
}

#[test]
fn a_clock_step_between_start_and_request_moves_nothing() {
    let step_ns = 3_000_000_000;
    let mut stepped = clocks(NEWEST_ARRIVAL_NS - 60_000_000_000, NEWEST_OFFSET_NS + step_ns);
    for mono_ns in [NEWEST_ARRIVAL_NS - 2_000_000_000, NEWEST_ARRIVAL_NS + 8_000_000_000] {
        stepped.add(ClockSnapshot { mono_ns, unix_ns: mono_ns + NEWEST_OFFSET_NS, bracket_ns: 100 });
    }
    let a = align(&newest(), &stepped, &Offsets::default());
    let b = align(&newest(), &newest_clocks(), &Offsets::default());
    assert_eq!((a.created_ns, a.ttft_ns, a.order_broken), (b.created_ns, b.ttft_ns, false));
}

#[test]
fn a_stamp_out_of_order_is_flagged_and_kept() {
    let mut r = patched();
    r.server.queue_time_end = Some(4_111.736_5);
    let a = align(&r, &patched_clocks(), &Offsets::default());
    assert!(a.order_broken);
    assert_eq!((a.queue_end_ns, a.pure_queue_ns), (Some(500_000), Some(-265_916)));
    let mut r = newest();
    r.last_byte_ns = Some(20_000_000);
    assert!(align(&r, &newest_clocks(), &Offsets::default()).order_broken);
    // Within the bound it is not broken: the dispatch stamp, later than the forward pass, is no stage at all.
    let mut r = newest();
    r.server.api_server_dispatch_finish_ts = Some(1_795_299_931.348);
    assert!(!align(&r, &newest_clocks(), &Offsets::default()).order_broken);
}

#[test]
fn an_address_of_this_host_is_not_believed_against_the_stamps() {
    // A container: the wall clock of this host, and a monotonic clock that began elsewhere.
    let mut r = patched();
    r.server.queue_time_start = r.server.queue_time_start.map(|s| s + 86_400.0);
    r.server.queue_time_end = r.server.queue_time_end.map(|s| s + 86_400.0);
    let a = align(&r, &patched_clocks(), &Offsets::default());
    assert_eq!((a.queue_start_ns, a.queue_end_ns), (None, None));
    assert_eq!(reason(&a, "queue_time_start"), Some(NOT_THIS_CLOCK));
    assert_eq!((a.ttft_source, a.order_broken), (TtftSource::ServerPatch, true));
    near(a.pure_queue_ns, 226_919);
    // A forwarded port: both clocks are of another host, here 250 ms behind.
    let behind = clocks(4_110_000_000_000, PATCHED_OFFSET_NS + 250_000_000);
    let a = align(&patched(), &behind, &Offsets::default());
    assert_eq!((a.created_ns, a.first_token_ns, a.ttft_source), (None, None, TtftSource::Router));
    assert_eq!(reason(&a, "server_first_token_time"), Some(NOT_THIS_CLOCK));
    near(a.queue_in_server_ns, 15_754_300);
}

#[test]
fn a_retracted_request_has_no_queue_start() {
    let mut r = newest();
    r.server.num_retractions = Some(1);
    let a = align(&r, &newest_clocks(), &Offsets::default());
    assert_eq!((a.queue_start_ns, reason(&a, "queue_time_start")), (None, Some(RETRACTED)));
    assert_eq!((a.tokenize_ns, reason(&a, "tokenize_time")), (None, Some(RETRACTED)));
    assert_eq!(a.pure_queue_ns, Some(401_550));
}

#[test]
fn between_the_generations_tokenize_is_receive_to_dispatch() {
    let mut r = newest();
    r.server = ServerStamps {
        queue_time: Some(0.001),
        request_received_ts: Some(1_795_299_931.345_447_8),
        request_sent_to_scheduler_ts: Some(1_795_299_931.346_447_8),
        prefill_finished_ts: Some(1_795_299_931.367_329_6),
        ..ServerStamps::default()
    };
    let a = align(&r, &newest_clocks(), &Offsets::default());
    near(a.tokenize_ns, 1_000_000);
    assert_eq!((a.pure_queue_ns, a.queue_start_ns, a.queue_end_ns), (Some(1_000_000), None, None));
    assert_eq!(reason(&a, "queue_time_end"), Some(NOT_SENT));
}

#[test]
fn each_absent_field_leaves_its_cells_empty() {
    type Clear = fn(&mut ServerStamps);
    let clears: [(Clear, &[&str]); 4] = [
        (|s| s.server_created_time = None, &["server_created_time", "tokenize_time"]),
        (|s| s.queue_time_start = None, &["queue_time_start", "pure_queue_time", "tokenize_time"]),
        (|s| s.queue_time_end = None, &["queue_time_end", "pure_queue_time"]),
        (|s| s.server_first_token_time = None, &["server_first_token_time"]),
    ];
    for (clear, empty) in clears {
        let mut r = patched();
        clear(&mut r.server);
        let a = align(&r, &patched_clocks(), &Offsets::default());
        let columns: Vec<&str> = a.missing.iter().map(|(column, _)| *column).collect();
        assert_eq!(columns, empty);
        assert!(a.missing.iter().all(|(_, reason)| *reason == NOT_SENT));
    }
    let nothing = align(&RequestRecord::default(), &ClockTrack::default(), &Offsets::default());
    assert_eq!((nothing.clock_bound_ns, nothing.order_broken, nothing.missing.len()), (None, false, 7));
    let unplaced = align(&patched(), &ClockTrack::default(), &Offsets::default());
    assert_eq!(reason(&unplaced, "server_created_time"), Some(NO_CLOCK_RECORD));
}

proptest! {
    /// Whatever a server or a damaged trace says, it is a value or an empty cell.
    #[test]
    fn never_panics(
        stamps in prop::collection::vec(prop::option::of(prop_oneof![any::<f64>(), 0.0..2e9, Just(f64::MAX), Just(-1e300)]), 10),
        router in prop::collection::vec(prop_oneof![any::<u64>(), Just(u64::MAX)], 6),
        same_host: bool, sse_events in 0u64..2,
    ) {
        let record = RequestRecord {
            same_host: Some(same_host),
            outcome: Outcome::Done,
            worker: Some("w".into()),
            sse_events,
            arrival_mono_ns: router[0],
            router_send_ns: Some(router[1]),
            first_event_ns: Some(router[2]),
            first_token_ns: Some(router[3]),
            first_byte_ns: Some(router[4]),
            last_byte_ns: Some(router[5]),
            server: ServerStamps {
                e2e_latency: stamps[0],
                server_created_time: stamps[1],
                server_first_token_time: stamps[2],
                queue_time_start: stamps[3],
                queue_time_end: stamps[4],
                queue_time: stamps[5],
                request_received_ts: stamps[6],
                forward_entry_time: stamps[7],
                first_token_latency: stamps[8],
                response_sent_to_client_ts: stamps[9],
                ..ServerStamps::default()
            },
            ..RequestRecord::default()
        };
        let mut offsets = Offsets::default();
        offsets.learn(&record);
        let mut clocks = newest_clocks();
        clocks.add(ClockSnapshot { mono_ns: router[0], unix_ns: router[1], bracket_ns: router[2] });
        align(&record, &clocks, &offsets);
    }
}
