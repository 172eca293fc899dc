//! The rules by which the soak (`benches/soak`) judges: what it lets pass and what it does not.
//!
//! A soak that cannot fail says nothing, so each rule is shown something that breaks it. Deliberately not here: the soak.

#[path = "../benches/soak/agree.rs"]
mod agree;
#[path = "../benches/soak/flat.rs"]
mod flat;
#[path = "../benches/soak/seen.rs"]
mod seen;

use agree::{contradiction, records_due};
use flat::{Sample, judge};
use milepost::trace::record::{Outcome, RequestKind, RequestRecord};
use seen::{End, Seen};

fn seen(end: End, status: u16) -> Seen {
    let begun = Seen { arrivals: 1, is_good_at_last: status == 200, ..Seen::begun("test") };
    Seen { end: Some(end), status, body_bytes: 10, events: 2, is_done: true, ..begun }
}

fn record(outcome: Outcome, status: Option<u16>) -> RequestRecord {
    RequestRecord {
        outcome,
        status,
        attempts: 1,
        response_body_bytes: 10,
        sse_events: 2,
        sse_done: Some(true),
        error: (outcome == Outcome::WorkerError).then(|| "abort".to_owned()),
        ..RequestRecord::default()
    }
}

fn agrees(seen: &Seen, record: &RequestRecord) -> bool {
    contradiction(seen, record).is_none()
}

#[test]
fn a_whole_answer_is_recorded_as_it_was_seen() {
    let whole = seen(End::Whole, 200);
    let done = record(Outcome::Done, Some(200));
    assert!(agrees(&whole, &done));
    let failed = Seen { is_good_at_last: false, ..whole.clone() };
    assert!(agrees(&failed, &record(Outcome::WorkerError, Some(200))), "an error inside a 200");
    assert!(!agrees(&whole, &record(Outcome::WorkerError, Some(200))), "where there was none");
    assert!(!agrees(&failed, &done), "an error that was not seen");
    for outcome in Outcome::ALL.into_iter().filter(|o| !matches!(o, Outcome::Done | Outcome::WorkerError)) {
        assert!(!agrees(&whole, &record(outcome, Some(200))), "{outcome:?}");
    }
    let changes: [fn(&mut RequestRecord); 6] = [
        |r| r.status = Some(201),
        |r| r.status = None,
        |r| r.response_body_bytes = 11,
        |r| r.sse_events = 3,
        |r| r.sse_done = Some(false),
        |r| r.error = Some("no_tokens".to_owned()),
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut other = done.clone();
        change(&mut other);
        assert!(!agrees(&whole, &other), "change {i}");
    }
    let error = seen(End::Whole, 500);
    assert!(agrees(&error, &record(Outcome::WorkerError, Some(500))));
    assert!(!agrees(&error, &record(Outcome::Done, Some(500))));
}

#[test]
fn an_answer_or_a_body_that_went_astray_is_never_right() {
    let done = record(Outcome::Done, Some(200));
    assert!(!agrees(&Seen { is_foreign: true, ..seen(End::Whole, 200) }, &done));
    assert!(!agrees(&Seen { is_body_changed: true, ..seen(End::Whole, 200) }, &done));
    assert!(!agrees(&Seen { arrivals: 2, ..seen(End::Whole, 200) }, &done), "sent once, got twice");
    assert!(!agrees(&Seen { arrivals: 0, ..seen(End::Whole, 200) }, &done), "done by nobody");
    let local = RequestRecord { request_kind: RequestKind::Local, attempts: 0, ..done };
    assert!(agrees(&Seen { arrivals: 0, ..seen(End::Whole, 200) }, &local));
}

#[test]
fn the_routers_own_errors_have_their_outcomes() {
    use Outcome::{ClientGone, Done, Refused, TimedOut, Unreachable, WorkerReset};
    let fits = [
        (400, Refused),
        (408, TimedOut),
        (413, Refused),
        (429, Refused),
        (501, Refused),
        (502, Unreachable),
        (502, WorkerReset),
        (503, Unreachable),
        (504, TimedOut),
    ];
    for (status, outcome) in fits {
        let own = Seen { is_own_error: true, arrivals: 0, ..seen(End::Whole, status) };
        assert!(agrees(&own, &record(outcome, Some(status))), "{status} {outcome:?}");
        assert!(!agrees(&own, &record(Done, Some(status))), "{status}");
        assert!(!agrees(&own, &record(ClientGone, Some(status))), "{status}");
    }
    let cut = Seen { is_own_error: true, is_body_cut: true, arrivals: 0, ..seen(End::Whole, 400) };
    assert!(agrees(&cut, &record(ClientGone, Some(400))), "it half-closed inside its body and read on");
}

#[test]
fn an_answer_that_broke_is_not_recorded_as_whole_and_only_who_leaves_gets_none() {
    let broken = seen(End::Broken, 200);
    assert!(agrees(&broken, &record(Outcome::WorkerReset, Some(200))));
    assert!(agrees(&broken, &record(Outcome::TimedOut, Some(200))));
    assert!(!agrees(&broken, &record(Outcome::Done, Some(200))));
    assert!(!agrees(&broken, &record(Outcome::ClientGone, Some(200))), "its client was there");
    assert!(!agrees(&Seen { body_bytes: 9, ..broken }, &record(Outcome::WorkerReset, Some(200))));

    let nothing = Seen { body_bytes: 0, events: 0, is_done: false, ..seen(End::NoAnswer, 0) };
    assert!(!agrees(&nothing, &record(Outcome::WorkerReset, None)), "a client that waits is due an answer");
    let half = Seen { is_half_closed: true, ..nothing };
    assert!(agrees(&half, &record(Outcome::ClientGone, None)));
    assert!(!agrees(&half, &record(Outcome::Done, Some(200))), "it would have read that");
    assert!(!agrees(&seen(End::Hung, 200), &record(Outcome::Done, Some(200))));
    assert!(!agrees(&Seen::begun("test"), &record(Outcome::Done, Some(200))));
}

#[test]
fn of_a_client_that_left_only_what_it_saw_counts() {
    let left = Seen { body_bytes: 4, ..seen(End::Left, 200) };
    for outcome in [Outcome::ClientGone, Outcome::Done, Outcome::TimedOut, Outcome::WorkerReset] {
        assert!(agrees(&left, &record(outcome, Some(200))), "{outcome:?}");
    }
    assert!(!agrees(&left, &record(Outcome::ClientGone, None)), "it saw a status");
    assert!(!agrees(&Seen { body_bytes: 11, ..left.clone() }, &record(Outcome::ClientGone, Some(200))));
    assert!(!agrees(&left, &record(Outcome::Panicked, Some(200))));
    assert!(!agrees(&left, &record(Outcome::Stopped, Some(200))), "nobody was stopped yet");
    let cut = Seen { is_body_cut: true, arrivals: 0, status: 0, ..left };
    assert!(agrees(&cut, &record(Outcome::ClientGone, Some(400))));
    assert!(!agrees(&cut, &record(Outcome::Unreachable, Some(502))), "half a request was sent to a worker");
}

#[test]
fn every_request_that_was_taken_up_is_due_one_record() {
    for end in [End::Whole, End::UntilClose, End::Broken, End::NoAnswer, End::Left, End::Hung] {
        assert_eq!(records_due(&seen(end, 200)), (1, 1), "{end:?}");
    }
    assert_eq!(records_due(&seen(End::LeftByReset, 0)), (0, 1));
    assert_eq!(records_due(&seen(End::Behind, 0)), (0, 0));
}

/// A sample a second.
fn memory(of: impl Fn(f64) -> f64) -> Vec<Sample> {
    (0..400).map(|s| Sample { at_s: f64::from(s), rss_mib: of(f64::from(s)) }).collect()
}

#[test]
fn memory_is_flat_after_warm_up_or_it_is_not() {
    let holds = |samples: &[Sample]| judge(samples).expect("long enough").holds();
    assert!(holds(&memory(|_| 20.0)));
    assert!(holds(&memory(|s| 20.0 + (s * 0.7).sin() * 2.0)), "it goes up and down");
    assert!(holds(&memory(|s| if s < 80.0 { s / 4.0 } else { 20.0 })), "it grows while it warms up");
    assert!(holds(&memory(|s| if s > 200.0 && s < 203.0 { 60.0 } else { 20.0 })), "a peak");
    assert!(!holds(&memory(|s| 20.0 + s * 0.02)), "a leak of 6 MiB in five minutes");
    assert!(!holds(&memory(|s| 200.0 + s * 0.06)), "a tenth of what there was");
    assert!(!holds(&memory(|s| if s > 300.0 { 40.0 } else { 20.0 })), "a step that stays");
    let leak = judge(&memory(|s| 20.0 + s * 0.02)).expect("long enough");
    assert!((leak.slope_mib_per_h - 72.0).abs() < 0.1, "{leak:?}");
    assert!(judge(&memory(|_| 20.0)[..30]).is_none(), "too short to tell");
    assert!(judge(&[]).is_none());
}
