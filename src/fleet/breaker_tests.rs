//! Tests of the breaker: what people rely on, one by one, and the machine against a plain model.

use proptest::prelude::*;

use super::*;

const SECOND_NS: u64 = 1_000_000_000;

fn breaker() -> Breaker {
    let config = BreakerConfig {
        enabled: true,
        failure_threshold: 3,
        success_threshold: 2,
        open_for: Duration::from_secs(60),
    };
    Breaker::new(config)
}

#[derive(Debug, PartialEq)]
struct NotAdmitted;

/// One request from its choice to its end, at one moment.
fn request(breaker: &Breaker, now_ns: u64, verdict: Verdict) -> Result<Option<Transition>, NotAdmitted> {
    if !breaker.admit(now_ns).0 {
        return Err(NotAdmitted);
    }
    Ok(breaker.settle(breaker.begin(), verdict, || now_ns))
}

fn open(breaker: &Breaker, now_ns: u64) {
    let told: Vec<_> = (0..3).map(|_| request(breaker, now_ns, Verdict::Failure)).collect();
    assert_eq!(told, [Ok(None), Ok(None), Ok(Some(Transition::Opened))]);
}

#[test]
fn it_opens_after_failures_in_a_row_and_a_success_between_begins_the_row_again() {
    let breaker = breaker();
    for verdict in [Verdict::Failure, Verdict::Failure, Verdict::Success, Verdict::Failure, Verdict::Failure]
    {
        assert_eq!(request(&breaker, 0, verdict), Ok(None));
    }
    assert_eq!((breaker.view().consecutive_failures, breaker.view().failures), (2, 4));
    assert_eq!(request(&breaker, 0, Verdict::Neutral), Ok(None), "who leaves says nothing");
    assert_eq!(request(&breaker, 0, Verdict::Failure), Ok(Some(Transition::Opened)));
    assert_eq!(
        request(&breaker, 60 * SECOND_NS - 1, Verdict::Success),
        Err(NotAdmitted),
        "nothing goes there"
    );
}

#[test]
fn half_open_it_takes_one_request_at_a_time_and_closes_after_successes_in_a_row() {
    let breaker = breaker();
    open(&breaker, 5 * SECOND_NS);
    let now_ns = 65 * SECOND_NS;
    assert!(breaker.admits(now_ns) && breaker.view().state == State::Open, "to ask changes nothing");
    assert_eq!(breaker.admit(now_ns), (true, Some(Transition::HalfOpened)));
    assert_eq!(breaker.admit(now_ns), (true, None), "it was half-opened once, and nobody has been sent yet");
    let probe = breaker.begin();
    assert_eq!((breaker.admit(now_ns), breaker.admits(now_ns)), ((false, None), false));
    assert_eq!(breaker.settle(probe, Verdict::Neutral, || now_ns), None);
    assert!(breaker.admits(now_ns), "a probe that says nothing makes room for the next");
    assert_eq!(request(&breaker, now_ns, Verdict::Success), Ok(None));
    assert_eq!((breaker.view().state.number(), breaker.view().consecutive_successes), (2, 1));
    assert_eq!(request(&breaker, now_ns, Verdict::Success), Ok(Some(Transition::Closed)));
    assert_eq!((breaker.view().state, breaker.view().transitions), (State::Closed, [1, 1, 0, 1]));
}

#[test]
fn a_probe_that_fails_opens_it_for_the_whole_pause_again() {
    let breaker = breaker();
    open(&breaker, 0);
    assert_eq!(request(&breaker, 60 * SECOND_NS, Verdict::Failure), Ok(Some(Transition::Reopened)));
    assert!(!breaker.admits(120 * SECOND_NS - 1) && breaker.admits(120 * SECOND_NS));
}

#[test]
fn what_was_sent_before_it_opened_neither_reopens_nor_closes_it() {
    let breaker = breaker();
    let old = [breaker.begin(), breaker.begin(), breaker.begin(), breaker.begin()];
    open(&breaker, 0);
    assert_eq!(breaker.settle(old[0], Verdict::Failure, || SECOND_NS), None);
    assert!(breaker.admits(60 * SECOND_NS), "a late failure does not make the pause longer");
    assert_eq!(breaker.admit(60 * SECOND_NS), (true, Some(Transition::HalfOpened)));
    let probe = breaker.begin();
    for (late, verdict) in
        [(old[1], Verdict::Success), (old[2], Verdict::Failure), (old[3], Verdict::Neutral)]
    {
        assert_eq!(breaker.settle(late, verdict, || 60 * SECOND_NS), None);
        assert!(!breaker.admits(60 * SECOND_NS), "the probe is still out");
    }
    assert_eq!(breaker.settle(probe, Verdict::Success, || 60 * SECOND_NS), None);
    assert_eq!(breaker.view().consecutive_successes, 1);
}

#[test]
fn switched_off_it_lets_everything_through_and_counts_nothing() {
    let breaker = Breaker::new(BreakerConfig { enabled: false, ..*breaker().config() });
    for _ in 0..100 {
        assert_eq!(request(&breaker, 0, Verdict::Failure), Ok(None));
    }
    assert_eq!((breaker.view().state, breaker.view().failures), (State::Closed, 0));
}

#[test]
fn transitions_stand_at_their_numbers_and_fit_together() {
    for (i, transition) in Transition::ALL.into_iter().enumerate() {
        assert_eq!(transition as usize, i);
        assert_ne!(transition.from(), transition.to());
    }
    let names = Transition::ALL.map(|t| (t.from().name(), t.to().name()));
    let expected =
        [("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed")];
    assert_eq!(names, expected);
}

/// What happens to a breaker.
#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Send,
    End(usize, Verdict),
}

/// All that ever happened, from which everything is computed anew each time.
#[derive(Default)]
struct Model {
    /// State and begin of every phase.
    phases: Vec<(State, u64)>,
    /// Phase and verdict of every request that has ended.
    ended: Vec<(usize, Verdict)>,
    /// Phases of the requests in flight.
    in_flight: Vec<usize>,
}

impl Model {
    fn admits(&self, config: &BreakerConfig, now_ns: u64) -> bool {
        let phase = self.phases.len() - 1;
        match self.phases[phase] {
            (State::Closed, _) => true,
            (State::Open, since_ns) => now_ns - since_ns >= config.open_for.as_nanos() as u64,
            (State::HalfOpen, _) => !self.in_flight.contains(&phase),
        }
    }

    /// The state that what has ended in the last phase leads to.
    fn leads_to(&self, config: &BreakerConfig) -> Option<State> {
        let phase = self.phases.len() - 1;
        let said = self.ended.iter().filter(|(p, v)| *p == phase && *v != Verdict::Neutral);
        let said: Vec<Verdict> = said.map(|(_, v)| *v).collect();
        let row = |verdict| said.iter().rev().take_while(|v| **v == verdict).count() as u32;
        match self.phases[phase].0 {
            State::Closed => (row(Verdict::Failure) >= config.failure_threshold).then_some(State::Open),
            State::Open => None,
            State::HalfOpen if row(Verdict::Failure) > 0 => Some(State::Open),
            State::HalfOpen => (row(Verdict::Success) >= config.success_threshold).then_some(State::Closed),
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Success),
        4 => Just(Verdict::Failure),
        1 => Just(Verdict::Neutral)
    ];
    let step = prop_oneof![
        1 => (0u64..6).prop_map(Step::Wait),
        4 => Just(Step::Send),
        4 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Step::End(which, verdict)),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn it_is_the_plain_model(
        steps in steps(), failure_threshold in 1u32..4, success_threshold in 1u32..4, open_for_ns in 0u64..10,
    ) {
        let open_for = Duration::from_nanos(open_for_ns);
        let config = BreakerConfig { enabled: true, failure_threshold, success_threshold, open_for };
        let breaker = Breaker::new(config);
        let mut model = Model { phases: vec![(State::Closed, 0)], ..Model::default() };
        let (mut now_ns, mut in_flight) = (0, Vec::new());
        for step in steps {
            match step {
                Step::Wait(ns) => now_ns += ns,
                Step::Send => {
                    let admitted = model.admits(&config, now_ns);
                    prop_assert_eq!(breaker.admits(now_ns), admitted);
                    prop_assert_eq!(breaker.admit(now_ns).0, admitted);
                    if admitted {
                        if model.phases[model.phases.len() - 1].0 == State::Open {
                            model.phases.push((State::HalfOpen, now_ns));
                        }
                        in_flight.push(breaker.begin());
                        model.in_flight.push(model.phases.len() - 1);
                    }
                }
                Step::End(which, verdict) if !in_flight.is_empty() => {
                    let which = which % in_flight.len();
                    let turned = breaker.settle(in_flight.swap_remove(which), verdict, || now_ns);
                    model.ended.push((model.in_flight.swap_remove(which), verdict));
                    let led = model.leads_to(&config);
                    prop_assert_eq!(turned.map(Transition::to), led);
                    model.phases.extend(led.map(|state| (state, now_ns)));
                }
                Step::End(..) => {}
            }
            let view = breaker.view();
            prop_assert_eq!(view.state, model.phases[model.phases.len() - 1].0);
            prop_assert_eq!(view.transitions.iter().sum::<u64>(), model.phases.len() as u64 - 1);
            let said = |verdict| model.ended.iter().filter(|(_, v)| *v == verdict).count() as u64;
            prop_assert_eq!((view.successes, view.failures), (said(Verdict::Success), said(Verdict::Failure)));
        }
    }
}
