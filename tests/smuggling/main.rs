//! Request smuggling and response poisoning: every case of the public lists is refused, or reaches a worker as exactly one
//! request whose end nobody can miss; and no answer becomes that of another request.
//!
//! Rule: a table of bytes and of what is seen of them at the two raw ends, which `docs/smuggling.md` is made of; a second,
//! strict reader of HTTP/1.1 is the judge of both ends. Deliberately not here: what a request means to the router (`tests/it`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here, with the place")]

mod answers;
#[path = "../kept_page/mod.rs"]
mod kept_page;
mod mutations;
mod page;
mod requests;
mod stage;
mod strict;
mod table;

use stage::{Seen, Stage};
use table::Case;

/// Plays cases one after the other before one router, in parts; all that is not as expected is told.
async fn hold(cases: &[Case], part_bytes: usize) {
    let mut stage = Stage::start();
    stage.part_bytes = part_bytes;
    let mut wrong = Vec::new();
    for case in cases {
        let seen = stage.play(&case.bytes).await;
        let expected = Seen { told: case.told.clone(), worker: case.worker.clone() };
        // Of what is refused before its body is there, nothing more is read.
        let is_refused = case.told.starts_with(['4', '5']) && seen.worker == "nothing";
        let closed_early = is_refused && seen.told == case.told.replace("then the next", "closed");
        if seen != expected && !(closed_early && part_bytes < case.bytes.len()) {
            wrong.push(format!("{}\n  expected {expected:?}\n  seen     {seen:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_could_be_read_in_two_ways_is_refused_or_reaches_a_worker_as_one_request() {
    for class in requests::classes() {
        hold(&class.cases, usize::MAX).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_bytes_are_the_same_requests_however_they_are_cut() {
    for part_bytes in [1, 7] {
        for class in requests::classes() {
            hold(&class.cases, part_bytes).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_about_the_coding_makes_it_no_request_or_changes_nothing() {
    for family in requests::families() {
        hold(&family.cases(), usize::MAX).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_becomes_that_of_another_request() {
    let mut wrong = Vec::new();
    for case in answers::cases() {
        let mut stage = Stage::start();
        let seen = stage.play_answer(case.method, case.script).await;
        let expected = Seen { told: case.told, worker: case.next.to_owned() };
        if seen != expected {
            wrong.push(format!("{}\n  expected {expected:?}\n  seen     {seen:?}", case.name));
        }
        stage.finish().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
