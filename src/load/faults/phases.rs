//! Before, during and after: the phases into which the faults divide a run, or its stages where there are no faults.
//!
//! Rule: a fault lasts from the moment at which its action is begun until the action that ends it is done, as both took place
//! and not as they were asked for. A request is of the phase of the first fault that it met (it began in it, or was in flight when
//! the fault began), else of the phase in which it began ([`Row::begun_ns`]; in a closed loop all are due at once): the requests
//! before a fault are then those that it cannot have touched.
//! A stage of `--stages` is made of the requests that were due in it, as it is the rate that was asked for.
//! Deliberately not here: figures of a phase.

use super::Conducted;
use crate::load::row::Row;
use crate::load::schedule::Stages;
use crate::naming::{counted, unlike};

/// A stretch of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// `before`, `during`, `after`; of several faults with their numbers (`during 1+2`). Like no other: the second of a name
    /// is numbered (`during 1 (2)`).
    pub name: String,
    /// When it begins, nanoseconds after the start of the run.
    pub from_ns: i64,
    /// When the next one begins; `None`: the last.
    pub to_ns: Option<i64>,
    /// The faults in it, from 1.
    pub faults: Vec<usize>,
}

/// All of them, without gap or overlap; the first one has no beginning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Phases(pub Vec<Phase>, By);

/// Which moment of a request counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum By {
    /// When it began.
    #[default]
    Begin,
    /// When it was due.
    Due,
}

impl Phases {
    /// By what was done. A fault that was never begun has none; one whose action failed has, as nobody knows what it did.
    pub fn of(conducted: &Conducted) -> Self {
        let single = conducted.plan.faults.len() == 1;
        let spans: Vec<(usize, i64, i64)> = (0..conducted.plan.faults.len())
            .filter_map(|fault| {
                let end = conducted.act(fault, true);
                // What only puts things back is after the last request.
                let end_ns = end
                    .filter(|act| !act.restores && act.failure.is_none())
                    .map_or(i64::MAX, |act| act.done_ns);
                Some((fault + 1, conducted.act(fault, false)?.began_ns, end_ns))
            })
            .collect();
        let mut edges: Vec<i64> = spans.iter().flat_map(|(_, from_ns, to_ns)| [*from_ns, *to_ns]).collect();
        edges.retain(|at_ns| *at_ns != i64::MAX);
        edges.sort_unstable();
        edges.dedup();
        let mut phases = vec![Phase {
            name: "before".to_owned(),
            from_ns: i64::MIN,
            to_ns: edges.first().copied(),
            faults: Vec::new(),
        }];
        for (at, from_ns) in edges.iter().enumerate() {
            let inside = spans.iter().filter(|(_, begin_ns, end_ns)| begin_ns <= from_ns && from_ns < end_ns);
            let faults: Vec<usize> = inside.map(|span| span.0).collect();
            let ended = spans.iter().filter(|span| span.2 <= *from_ns).max_by_key(|span| span.2);
            let name = match (faults.is_empty(), ended) {
                (false, _) if single => "during".to_owned(),
                (false, _) => format!("during {}", numbers(&faults)),
                (true, Some((number, _, _))) if !single => format!("after {number}"),
                (true, _) => "after".to_owned(),
            };
            // Figures are kept by name, so that no two phases may have one.
            let name = unlike(&name, counted, |name| phases.iter().any(|phase| phase.name == name));
            phases.push(Phase { name, from_ns: *from_ns, to_ns: edges.get(at + 1).copied(), faults });
        }
        Self(phases, By::Begin)
    }

    /// A phase for each stage; what is due after the last one is of the last one.
    pub fn of_stages(stages: &Stages) -> Self {
        let mut phases: Vec<Phase> = Vec::new();
        let mut begins_s = 0.0;
        for (at, stage) in stages.iter().enumerate() {
            let from_ns = if at == 0 { i64::MIN } else { (begins_s * 1e9) as i64 };
            if let Some(before) = phases.last_mut() {
                before.to_ns = Some(from_ns);
            }
            let name = format!("stage {} ({}/s)", at + 1, stage.rates());
            phases.push(Phase { name, from_ns, to_ns: None, faults: Vec::new() });
            begins_s += stage.lasts_s;
        }
        Self(phases, By::Due)
    }

    /// The phase of a request.
    pub fn of_row(&self, row: &Row) -> Option<&Phase> {
        if self.1 == By::Due {
            return self.0.iter().rfind(|phase| phase.from_ns <= row.scheduled_ns);
        }
        let at = self.0.iter().rposition(|phase| phase.from_ns <= row.begun_ns())?;
        if !self.0[at].faults.is_empty() {
            return self.0.get(at);
        }
        let met = self.0.get(at + 1).filter(|phase| {
            row.dispatched_ns.is_some() && row.client_end_ns.is_some_and(|end_ns| end_ns > phase.from_ns)
        });
        met.or(self.0.get(at))
    }

    /// Notes in a row the phase that it is of.
    pub fn mark(&self, row: &mut Row) {
        row.phase = self.of_row(row).map(|phase| phase.name.clone());
    }
}

fn numbers(faults: &[usize]) -> String {
    faults.iter().map(usize::to_string).collect::<Vec<_>>().join("+")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Act, Plan};
    use super::*;

    const S: i64 = 1_000_000_000;

    /// Each fault's beginning and end, seconds.
    fn conducted(text: &str, spans: &[(i64, Option<i64>)]) -> Conducted {
        let mut acts = Vec::new();
        for (fault, (from_s, to_s)) in spans.iter().enumerate() {
            acts.push(Act { fault, began_ns: from_s * S, done_ns: from_s * S, ..Act::default() });
            let restores = to_s.is_none();
            let done_ns = to_s.unwrap_or(99) * S;
            acts.push(Act { fault, ends: true, restores, began_ns: done_ns - 1, done_ns, ..Act::default() });
        }
        Conducted { plan: Arc::new(Plan::parse(text).unwrap()), hosts: Vec::new(), acts }
    }

    fn names(phases: &Phases) -> Vec<&str> {
        phases.0.iter().map(|phase| phase.name.as_str()).collect()
    }

    fn at(due_s: i64, end_s: i64) -> Row {
        Row {
            scheduled_ns: due_s * S,
            dispatched_ns: Some(due_s * S),
            client_end_ns: Some(end_s * S),
            ..Row::default()
        }
    }

    #[test]
    fn one_fault_has_a_before_a_during_and_an_after() {
        let phases = Phases::of(&conducted("at = 10s, for = 10s, hang worker 1", &[(10, Some(20))]));
        assert_eq!(names(&phases), ["before", "during", "after"]);
        let of = |due_s, end_s| phases.of_row(&at(due_s, end_s)).unwrap().name.as_str();
        assert_eq!((of(0, 9), of(9, 10), of(9, 11), of(9, 30)), ("before", "before", "during", "during"));
        assert_eq!((of(10, 10), of(19, 25), of(20, 21)), ("during", "during", "after"));
        let unsent = Row { scheduled_ns: 9 * S, ..Row::default() };
        assert_eq!(phases.of_row(&unsent).unwrap().name, "before");
    }

    #[test]
    fn faults_that_overlap_have_a_phase_together() {
        let text = "at = 10s, hang worker 1\nat = 15s, hang worker 2\nat = 50s, hang worker 3";
        let phases = Phases::of(&conducted(text, &[(10, Some(20)), (15, Some(30)), (50, None)]));
        assert_eq!(names(&phases), ["before", "during 1", "during 1+2", "during 2", "after 2", "during 3"]);
        assert_eq!(phases.0[4].to_ns, Some(50 * S));
    }

    /// A short fault within a long one: the long one is alone twice.
    #[test]
    fn no_two_phases_have_one_name() {
        let text = "at = 10s, hang worker 1\nat = 15s, hang worker 2\nat = 25s, hang worker 3";
        let phases = Phases::of(&conducted(text, &[(10, Some(50)), (15, Some(20)), (25, Some(30))]));
        assert_eq!(
            names(&phases),
            ["before", "during 1", "during 1+2", "during 1 (2)", "during 1+3", "during 1 (3)", "after 1"]
        );
    }

    /// At rate inf all are due at 0, and those that wait for a place begin when they have it.
    #[test]
    fn a_request_is_of_the_phase_in_which_it_began_and_not_was_due() {
        let phases = Phases::of(&conducted("at = 10s, for = 10s, hang worker 1", &[(10, Some(20))]));
        let mut rows = [(1, 2), (12, 13), (25, 26)].map(|(s, end_s)| Row { scheduled_ns: 0, ..at(s, end_s) });
        for row in &mut rows {
            phases.mark(row);
        }
        assert_eq!(rows.map(|row| row.phase.unwrap()), ["before", "during", "after"]);
    }

    /// Late or in a queue: a request is of the rate at which it was asked for.
    #[test]
    fn stages_divide_by_when_requests_were_due() {
        let phases = Phases::of_stages(&Stages::parse("10@30s,10..100@1m,0.5@30s").unwrap());
        assert_eq!(names(&phases), ["stage 1 (10/s)", "stage 2 (10..100/s)", "stage 3 (0.5/s)"]);
        let spans: Vec<_> = phases.0.iter().map(|phase| (phase.from_ns, phase.to_ns)).collect();
        assert_eq!(spans, [(i64::MIN, Some(30 * S)), (30 * S, Some(90 * S)), (90 * S, None)]);
        let mut rows =
            [0, 29, 30, 89, 90, 130].map(|due_s| Row { dispatched_ns: Some(200 * S), ..at(due_s, 250) });
        rows.iter_mut().zip([0, 29, 30, 89, 90, 130]).for_each(|(row, due_s)| row.scheduled_ns = due_s * S);
        for row in &mut rows {
            phases.mark(row);
        }
        let of: Vec<usize> = rows
            .iter()
            .map(|row| names(&phases).iter().position(|name| row.phase.as_deref() == Some(name)).unwrap())
            .collect();
        assert_eq!(of, [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn what_was_never_begun_divides_nothing() {
        let never = Conducted { acts: Vec::new(), ..conducted("at = 10s, hang worker 1", &[]) };
        assert_eq!(names(&Phases::of(&never)), ["before"]);
    }
}
