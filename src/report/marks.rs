//! Moments of a run that its charts show: when a fault began and was over, when a stage began.
//!
//! Rule: as they took place, not as they were asked for; they stand in the run's manifest, so that charts made of files have them
//! too. Deliberately not here: how they are drawn (`chart`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::load::faults::{Conducted, Phases};
use crate::load::run::RunReport;

/// Most of one run; more cannot be told apart.
const MOST: usize = 64;

/// One moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Seconds after the start of the run.
    pub at_s: f64,
    /// What was then.
    pub label: String,
}

/// Those of a run, in order of time.
pub fn of_run(run: &RunReport) -> Vec<Mark> {
    let mut marks = match &run.faults {
        Some(conducted) => of_faults(conducted),
        None => run.phases().as_ref().map(of_stages).unwrap_or_default(),
    };
    marks.truncate(MOST);
    marks
}

/// Those that the files of a run tell; none of a run of an older version.
pub fn of_files(told: &Value) -> Vec<Mark> {
    let mut marks: Vec<Mark> = serde_json::from_value(told.clone()).unwrap_or_default();
    marks.retain(|mark| mark.at_s.is_finite());
    marks.truncate(MOST);
    marks
}

fn of_faults(conducted: &Conducted) -> Vec<Mark> {
    // What only puts things back is after the last request.
    let acts = conducted.acts.iter().filter(|act| !act.restores);
    let several = conducted.plan.faults.len() > 1;
    let one = |act: &crate::load::faults::Act| {
        let fault = conducted.plan.faults.get(act.fault)?;
        let number = if several { format!("{}: ", act.fault + 1) } else { String::new() };
        let failed = if act.failure.is_some() { " (failed)" } else { "" };
        let (at_ns, what) =
            if act.ends { (act.done_ns, "over".to_owned()) } else { (act.began_ns, fault.to_string()) };
        Some(Mark { at_s: at_ns as f64 / 1e9, label: format!("{number}{what}{failed}") })
    };
    let mut marks: Vec<Mark> = acts.filter_map(one).collect();
    marks.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    marks
}

fn of_stages(phases: &Phases) -> Vec<Mark> {
    let begun = phases.0.iter().filter(|phase| phase.from_ns > i64::MIN);
    begun.map(|phase| Mark { at_s: phase.from_ns as f64 / 1e9, label: phase.name.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::load::faults::{Act, Plan};
    use crate::load::schedule::Stages;

    #[test]
    fn faults_are_marked_when_they_began_and_were_over() {
        let plan = Plan::parse("at = 1s, for = 2s, hang worker 1\nat = 2s, stop worker 2").unwrap();
        let act = |fault: usize, ends: bool, began_ns: i64, done_ns: i64| Act {
            fault,
            ends,
            began_ns,
            done_ns,
            ..Act::default()
        };
        let acts = vec![
            act(0, false, 1_000_000_000, 1_100_000_000),
            act(0, true, 3_000_000_000, 3_250_000_000),
            Act { failure: Some("no".to_owned()), ..act(1, false, 2_000_000_000, 2_000_000_000) },
            Act { restores: true, ..act(1, true, 9_000_000_000, 9_000_000_000) },
        ];
        let told = of_faults(&Conducted { plan: Arc::new(plan), hosts: Vec::new(), acts });
        let told: Vec<(f64, &str)> = told.iter().map(|mark| (mark.at_s, mark.label.as_str())).collect();
        assert_eq!(told[0], (1.0, "1: hang worker 1"));
        assert!(told[1].1.starts_with("2: stop worker 2") && told[1].1.ends_with("(failed)"), "{told:?}");
        assert_eq!(told[2..], [(3.25, "1: over")]);
    }

    #[test]
    fn stages_are_marked_where_they_begin_and_files_give_the_same() {
        let marks = of_stages(&Phases::of_stages(&Stages::parse("1@2s,5@3s,9@1s").unwrap()));
        let told: Vec<(f64, &str)> = marks.iter().map(|mark| (mark.at_s, mark.label.as_str())).collect();
        assert_eq!(told, [(2.0, "stage 2 (5/s)"), (5.0, "stage 3 (9/s)")]);
        assert_eq!(of_files(&serde_json::json!(marks)), marks);
        assert!(
            of_files(&Value::Null).is_empty() && of_files(&serde_json::json!([{"at_s": "x"}])).is_empty()
        );
    }
}
