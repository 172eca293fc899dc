//! Runs in which failures were asked for: whether they were made, and which errors are theirs.
//!
//! Rule: an error of a phase with a fault was asked for and counts for nothing, but is said; one of any other phase counts as
//! ever. A fault that was not made as asked makes the run INVALID, as its phases are then not what they say. Deliberately not
//! here: what the faults did (`report::faults`).

use super::{Finding, Rating};
use crate::load::faults::{Conducted, Phases};
use crate::load::row::Row;

/// An action that is begun so many seconds after its time was held up: by the client, or by the one before it at its worker.
const LATE_S: f64 = 1.0;

/// Whether each fault was made, and in time.
pub(super) fn made(conducted: &Conducted) -> Finding {
    let faults = &conducted.plan.faults;
    let line = |fault: usize| format!("line {} ({})", faults[fault].line, faults[fault]);
    let failed = conducted.acts.iter().find_map(|act| Some((act, act.failure.as_ref()?)));
    if let Some((act, why)) = failed {
        let what = if act.ends { "could not be ended" } else { "could not be made" };
        return Finding::Judged(Rating::Invalid, format!("{} {what}: {why}", line(act.fault)));
    }
    if let Some(never) = (0..faults.len()).find(|fault| conducted.act(*fault, false).is_none()) {
        return Finding::Judged(
            Rating::Invalid,
            format!("{} was never made: the load was over before", line(never)),
        );
    }
    let late =
        conducted.acts.iter().filter_map(|act| Some(act.began_ns - i64::try_from(act.asked_ns?).ok()?));
    let late_s = late.max().unwrap_or(0) as f64 / 1e9;
    let actions = conducted.acts.iter().filter(|act| !act.restores).count();
    Finding::above(
        late_s,
        LATE_S,
        f64::INFINITY,
        format!("all {actions} actions were made, {late_s:.3} s late at most"),
    )
}

/// The errors that were asked for; said, and never bad.
pub(super) fn asked_for(failed: usize, all: usize) -> Finding {
    Finding::Judged(
        Rating::Valid,
        format!(
            "{failed} of {all} requests failed while faults were made: asked for, not held against the run"
        ),
    )
}

/// Which requests are of a phase with a fault.
#[derive(Debug)]
pub(super) struct Theirs(Phases);

impl Theirs {
    /// None without a schedule of failures.
    pub(super) fn of(conducted: Option<&Conducted>) -> Self {
        Self(conducted.map(Phases::of).unwrap_or_default())
    }

    /// This one is.
    pub(super) fn has(&self, row: &Row) -> bool {
        self.0.of_row(row).is_some_and(|phase| !phase.faults.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::load::failure::{Class, Failure};
    use crate::load::faults::{Act, Plan};

    const S: i64 = 1_000_000_000;

    /// A worker that hangs from 10 s to 20 s; `change` what was done.
    fn conducted(change: impl FnOnce(&mut Vec<Act>)) -> Conducted {
        let plan = Plan::parse("# a fault\nat = 10s, for = 10s, hang worker 1").unwrap();
        let asked_ns = |s: i64| Some(s.unsigned_abs() * 1_000_000_000);
        let act = |ends, s: i64| Act {
            ends,
            asked_ns: asked_ns(s),
            began_ns: s * S,
            done_ns: s * S,
            ..Act::default()
        };
        let mut acts = vec![act(false, 10), act(true, 20)];
        change(&mut acts);
        Conducted { plan: Arc::new(plan), hosts: vec![None], acts }
    }

    fn judged(finding: &Finding) -> (Rating, &str) {
        match finding {
            Finding::Judged(rating, text) => (*rating, text),
            Finding::Unjudged(why) => panic!("{why}"),
        }
    }

    #[test]
    fn a_fault_that_was_not_made_is_invalid_and_says_why() {
        let of = |change: fn(&mut Vec<Act>)| made(&conducted(change));
        assert_eq!(judged(&of(|_| ())), (Rating::Valid, "all 2 actions were made, 0.000 s late at most"));
        let failed = of(|acts| acts[1].failure = Some("exit status: 3".to_owned()));
        let expected = "line 2 (hang worker 1) could not be ended: exit status: 3";
        assert_eq!(judged(&failed), (Rating::Invalid, expected));
        let never = of(Vec::clear);
        assert_eq!(
            judged(&never),
            (Rating::Invalid, "line 2 (hang worker 1) was never made: the load was over before")
        );
        assert_eq!(judged(&of(|acts| acts[0].began_ns += 2 * S)).0, Rating::Suspect);
    }

    #[test]
    fn errors_of_a_fault_are_told_apart_from_the_others() {
        let failed = |s: i64| Row {
            scheduled_ns: s * S,
            failure: Some(Failure::new(Class::Timeout, "x")),
            ..Row::default()
        };
        let (conducted, rows) = (conducted(|_| ()), [failed(5), failed(15), failed(25)]);
        let theirs = Theirs::of(Some(&conducted));
        assert_eq!(rows.iter().map(|row| theirs.has(row)).collect::<Vec<_>>(), [false, true, false]);
        assert!(rows.iter().all(|row| !Theirs::of(None).has(row)));
        assert!(judged(&asked_for(1, 3)).1.starts_with("1 of 3 requests failed"));
    }
}
