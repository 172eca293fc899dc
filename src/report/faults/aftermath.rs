//! One fault: who noticed when, what was in flight, what was lost.
//!
//! Rule: times are after the moment at which the action was begun; the fault's own requests end where the next fault begins.
//! Deliberately not here: recovery (`recovery`), which asks about requests in a row.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::recovery::Recovery;
use super::{cut_by_user, seconds};
use crate::load::faults::{Conducted, Phases};
use crate::load::row::Row;

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

/// A send to a worker, or an attempt at it: when it began and when it was over.
struct Stay {
    from_ns: i64,
    to_ns: i64,
}

/// All stays of a request at a worker; of an unknown one its whole way.
fn stays<'a>(row: &'a Row, host: Option<&'a str>) -> impl Iterator<Item = Stay> + 'a {
    let tried = row.tried.iter().filter(move |tried| host == Some(tried.host.as_str()));
    let tried = tried.map(|t| Stay { from_ns: t.send_ns.unwrap_or(t.failed_ns), to_ns: t.failed_ns });
    // Of a request that failed at its last attempt the host is the worker of that attempt.
    let failed_there = row.host.is_some()
        && !row.success()
        && row.tried.last().is_some_and(|t| Some(&t.host) == row.host.as_ref());
    let from_ns = if host.is_none() { row.write_begun_ns } else { row.router_send_ns.or(row.write_begun_ns) };
    let last = from_ns.zip(row.client_end_ns).map(|(from_ns, to_ns)| Stay { from_ns, to_ns });
    let is_there = host.is_none() || (row.host.as_deref() == host && !failed_there);
    tried.chain(last.filter(|_| is_there))
}

impl Aftermath {
    /// `None` if it was never begun.
    pub(super) fn of(
        conducted: &Conducted,
        phases: &Phases,
        fault: usize,
        rows: &[impl Borrow<Row>],
    ) -> Option<Self> {
        let began_ns = conducted.act(fault, false)?.began_ns;
        let end = conducted.act(fault, true).filter(|act| !act.restores && act.failure.is_none());
        let ended_ns = end.map(|act| act.done_ns);
        let begins = conducted.acts.iter().filter(|act| !act.ends && act.began_ns > began_ns);
        let next_ns = begins.map(|act| act.began_ns).min().unwrap_or(i64::MAX);
        let told: Vec<&Row> = rows.iter().map(Borrow::borrow).filter(|row| !cut_by_user(row)).collect();
        let host = conducted.hosts.get(fault).cloned().flatten();
        let placed = host.is_some() && told.iter().any(|row| row.host.is_some());
        let of_rows = host.as_deref().filter(|_| placed);
        let in_flight: Vec<bool> = told.iter().map(|row| is_there(row, of_rows, began_ns)).collect();
        let later = told.iter().zip(&in_flight).filter(|(row, there)| {
            let phase = phases.of_row(row);
            !row.success() && !**there && phase.is_some_and(|phase| phase.faults.contains(&(fault + 1)))
        });
        let failed_later = later.count() as u64;
        let before: Vec<&Row> = told
            .iter()
            .copied()
            .filter(|row| phases.of_row(row).is_some_and(|p| p.from_ns == i64::MIN))
            .collect();
        let begun_after = |row: &&Row| (began_ns..next_ns).contains(&row.begun_ns());
        let mut after: Vec<&Row> = told.iter().copied().filter(begun_after).collect();
        after.sort_by_key(|row| row.begun_ns());
        Some(Self {
            number: fault + 1,
            what: conducted.plan.faults[fault].to_string(),
            detection: detection(&told, of_rows, (began_ns, ended_ns, next_ns)),
            recovery: Recovery::of(&before, &after, began_ns),
            in_flight: what_became(&told, &in_flight, of_rows, began_ns),
            host,
            placed,
            began_ns,
            ended_ns,
            failed_later,
        })
    }

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

fn is_there(row: &Row, host: Option<&str>, at_ns: i64) -> bool {
    stays(row, host).any(|stay| stay.from_ns <= at_ns && at_ns < stay.to_ns)
}

/// `times`: when it was begun, was over, and when the next one was begun.
fn detection(told: &[&Row], host: Option<&str>, times: (i64, Option<i64>, i64)) -> Detection {
    let (began_ns, ended_ns, next_ns) = times;
    let within = |at_ns: &i64| (began_ns..next_ns).contains(at_ns);
    let errors = told.iter().filter(|row| !row.success()).filter_map(|row| row.client_end_ns);
    let first_error_ns = errors.filter(within).min();
    let rerouted =
        told.iter().filter(|row| host.is_some() && row.host.as_deref() != host).filter_map(|row| {
            let at =
                row.tried.iter().position(|t| host == Some(t.host.as_str()) && t.failed_ns >= began_ns)?;
            let next = row.tried.get(at + 1).and_then(|tried| tried.send_ns);
            next.or(row.router_send_ns).filter(|ns| *ns >= row.tried[at].failed_ns)
        });
    let first_rerouted_ns = rerouted.filter(within).min();
    let of_known = told.iter().filter(|_| host.is_some());
    let sends: Vec<i64> = of_known.flat_map(|row| stays(row, host)).map(|stay| stay.from_ns).collect();
    let over_ns = ended_ns.unwrap_or(i64::MAX);
    let chosen = || sends.iter().copied().filter(|at_ns| (began_ns..over_ns.min(next_ns)).contains(at_ns));
    let back_ns = sends.iter().copied().filter(|at_ns| *at_ns >= over_ns).min();
    let after = |ns: Option<i64>| ns.map(|ns| ns - began_ns);
    Detection {
        first_error_ns: after(first_error_ns),
        first_rerouted_ns: after(first_rerouted_ns),
        last_chosen_ns: after(chosen().max()),
        chosen: chosen().count() as u64,
        back_ns: back_ns.map(|ns| ns - over_ns),
    }
}

fn what_became(told: &[&Row], there: &[bool], host: Option<&str>, began_ns: i64) -> InFlight {
    let mut became = InFlight::default();
    for (row, there) in told.iter().zip(there) {
        if !there {
            let unplaced = host.is_some() && row.host.is_none() && row.tried.is_empty();
            became.unplaced += u64::from(unplaced && is_there(row, None, began_ns));
            continue;
        }
        became.requests += 1;
        match &row.failure {
            Some(failure) => *became.lost.entry(failure.class.name()).or_insert(0) += 1,
            None if host.is_none() || row.host.as_deref() == host => became.answered += 1,
            None => became.answered_elsewhere += 1,
        }
    }
    became
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::load::failure::{Class, Failure};
    use crate::load::faults::{Act, Plan};
    use crate::load::row::Tried;

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
        Aftermath::of(&conducted, &Phases::of(&conducted), 0, rows).unwrap()
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
