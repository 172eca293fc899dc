//! One fault: who noticed when, what was in flight, what was lost.
//!
//! Rule: times are after the moment at which the action was begun; the fault's own requests end where the next fault begins.
//! Deliberately not here: how it is found out (`watch`), and recovery (`recovery`), which asks about requests in a row.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::recovery::Recovery;
use super::seconds;

/// Who noticed, nanoseconds after the action was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detection {
    /// The first failed request ended.
    pub first_error_ns: Option<i64>,
    /// The first request left for another worker.
    pub first_rerouted_ns: Option<i64>,
    /// The worker was chosen for the last time while the fault lasted.
    pub last_chosen_ns: Option<i64>,
    /// How often it was chosen while the fault lasted.
    pub chosen: u64,
    /// It was chosen again, after the fault had ended.
    pub back_ns: Option<i64>,
}

/// Requests at the worker when the action was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// All of them.
    pub requests: u64,
    /// Answered by it all the same; where the worker is not known, by anybody.
    pub answered: u64,
    /// Answered by another worker.
    pub answered_elsewhere: u64,
    /// Failed, by class.
    pub lost: BTreeMap<&'static str, u64>,
    /// In flight where nobody told at which worker; in none of the other counts.
    pub unplaced: u64,
}

/// What came of one fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Aftermath {
    /// Its number, from 1.
    pub number: usize,
    /// In the words of the file.
    pub what: String,
    /// Its worker, `host:port`, where that is known.
    pub host: Option<String>,
    /// The rows tell which of them were at it.
    pub placed: bool,
    /// When its action was begun, nanoseconds after the start of the run.
    pub began_ns: i64,
    /// When it was over; `None`: it lasted to the end.
    pub ended_ns: Option<i64>,
    /// Who noticed.
    pub detection: Detection,
    /// When all was as before.
    pub recovery: Recovery,
    /// What was at the worker.
    pub in_flight: InFlight,
    /// Failed in its phases without having been at the worker when it began.
    pub failed_later: u64,
}

impl Detection {
    /// The first sign.
    pub fn first_ns(&self) -> Option<i64> {
        self.first_error_ns.into_iter().chain(self.first_rerouted_ns).min()
    }
}

impl InFlight {
    /// Those that failed.
    pub fn lost(&self) -> u64 {
        self.lost.values().sum()
    }
}

impl Aftermath {
    pub(super) fn to_json(&self) -> Value {
        let at = |ns: Option<i64>| ns.map(seconds);
        json!({
            "fault": self.number,
            "what": self.what,
            "host": self.host,
            "placed": self.placed,
            "began_s": seconds(self.began_ns),
            "ended_s": at(self.ended_ns),
            "detect_s": at(self.detection.first_ns()),
            "first_error_s": at(self.detection.first_error_ns),
            "first_rerouted_s": at(self.detection.first_rerouted_ns),
            "last_chosen_s": at(self.detection.last_chosen_ns),
            "chosen": self.detection.chosen,
            "back_s": at(self.detection.back_ns),
            "recover_s": at(self.recovery.after_ns()),
            "recovery": self.recovery.to_string(),
            "in_flight": self.in_flight.requests,
            "in_flight_answered": self.in_flight.answered,
            "in_flight_answered_elsewhere": self.in_flight.answered_elsewhere,
            "lost_in_flight": self.in_flight.lost(),
            "lost_by_class": self.in_flight.lost,
            "unplaced": self.in_flight.unplaced,
            "failed_later": self.failed_later,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::load::failure::{Class, Failure};
    use crate::load::faults::{Act, Conducted, Plan};
    use crate::load::row::{Row, Tried};
    use crate::load::rows::Rows;
    use crate::report::faults::aftermaths;

    const MS: i64 = 1_000_000;
    const HOST: &str = "a:1";

    /// From `due_ms` on at `host`, for `lasts_ms`.
    fn row(due_ms: i64, lasts_ms: i64, host: &str) -> Row {
        let from_ns = due_ms * MS;
        Row {
            scheduled_ns: from_ns,
            dispatched_ns: Some(from_ns),
            write_begun_ns: Some(from_ns),
            router_send_ns: Some(from_ns),
            client_first_token_ns: Some(from_ns + MS),
            client_end_ns: Some(from_ns + lasts_ms * MS),
            host: Some(host.to_owned()),
            ..Row::default()
        }
    }

    fn failed(row: Row) -> Row {
        Row { failure: Some(Failure::new(Class::Truncated, "x")), ..row }
    }

    /// Sent to the worker that failed at once, then to the other one.
    fn rerouted(due_ms: i64, failed_ms: i64) -> Row {
        let tried = Tried { host: HOST.to_owned(), send_ns: Some(due_ms * MS), failed_ns: failed_ms * MS };
        Row {
            tried: vec![tried],
            router_send_ns: Some(failed_ms * MS),
            ..row(due_ms, failed_ms - due_ms + 5, "b:1")
        }
    }

    /// The worker a:1 was stopped from 100 ms to 200 ms.
    fn stopped(rows: &[Row]) -> Aftermath {
        let act = |ends, ms: i64| Act { ends, began_ns: ms * MS, done_ns: ms * MS, ..Act::default() };
        let conducted = Conducted {
            plan: Arc::new(Plan::parse("at = 100ms, for = 100ms, stop worker 1").unwrap()),
            hosts: vec![Some(HOST.to_owned())],
            acts: vec![act(false, 100), act(true, 200)],
        };
        aftermaths(&conducted, &Rows::from(rows.to_vec())).remove(0)
    }

    #[test]
    fn what_was_in_flight_is_told_by_what_became_of_it() {
        let rows = [
            row(80, 10, HOST),
            row(90, 30, HOST),
            row(90, 30, "b:1"),
            failed(row(95, 10, HOST)),
            rerouted(99, 101),
            failed(row(120, 1, HOST)),
            failed(Row { host: None, ..row(99, 20, HOST) }),
        ];
        let told = stopped(&rows);
        assert_eq!(
            told.in_flight,
            InFlight {
                requests: 3,
                answered: 1,
                answered_elsewhere: 1,
                lost: BTreeMap::from([("truncated", 1)]),
                unplaced: 1
            }
        );
        assert_eq!((told.in_flight.lost(), told.failed_later), (1, 2));
    }

    #[test]
    fn the_first_sign_is_an_error_or_a_request_that_leaves_for_another() {
        let told = stopped(&[
            failed(row(50, 10, HOST)),
            rerouted(110, 112),
            failed(row(120, 3, "b:1")),
            row(150, 2, HOST),
            row(250, 2, HOST),
        ]);
        let expected = Detection {
            first_error_ns: Some(23 * MS),
            first_rerouted_ns: Some(12 * MS),
            last_chosen_ns: Some(50 * MS),
            chosen: 2,
            back_ns: Some(50 * MS),
        };
        assert_eq!((told.detection, told.detection.first_ns()), (expected, Some(12 * MS)));
        assert_eq!(stopped(&[row(110, 2, "b:1")]).detection, Detection::default());
    }

    /// Closed loop: all requests are due at 0 and begin as others end.
    #[test]
    fn in_a_closed_loop_requests_are_after_a_fault_too() {
        let at_once = |row: Row| Row { scheduled_ns: 0, ..row };
        let mut rows: Vec<Row> = (0..60).map(|n| at_once(row(5 * n, 4, HOST))).collect();
        rows.extend([at_once(failed(row(150, 4, HOST))), at_once(failed(row(250, 4, HOST)))]);
        let told = stopped(&rows);
        assert_eq!((told.recovery, told.failed_later), (Recovery::Untouched, 1));
    }

    /// A router that tells nothing, and no trace.
    #[test]
    fn without_names_everything_in_flight_is_told_and_nobody_is_chosen() {
        let nameless = |row: Row| Row { host: None, ..row };
        let told = stopped(&[
            nameless(row(90, 30, HOST)),
            nameless(failed(row(95, 30, HOST))),
            nameless(row(250, 2, HOST)),
        ]);
        assert!(!told.placed);
        assert_eq!((told.in_flight.requests, told.in_flight.answered, told.in_flight.lost()), (2, 1, 1));
        assert_eq!((told.detection.chosen, told.detection.back_ns, told.in_flight.unplaced), (0, None, 0));
    }

    #[test]
    fn what_ctrl_c_took_is_no_sign() {
        let cut = Row { failure: Some(Failure::new(Class::Interrupted, "x")), ..row(150, 2, HOST) };
        let told = stopped(&[cut]);
        assert_eq!((told.detection, told.failed_later), (Detection::default(), 0));
    }
}
