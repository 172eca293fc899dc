//! Cases, what is expected of each router, and the run of a topic.
//!
//! Rule: every case of a topic runs, whatever the others did, and the test says all that was not as expected. Deliberately
//! not here: how a router is started (`process`), what a case can do (`stage`).

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::process::{Subject, peer};
use crate::stage::Stage;

/// What a case sees.
#[derive(Clone, Copy)]
pub enum Expect {
    /// The same in both.
    Both(&'static str),
    /// A difference that is meant.
    Differ {
        /// In sglang-router 0.3.2.
        peer: &'static str,
        /// In milepost.
        milepost: &'static str,
        /// Why, in one line.
        why: &'static str,
    },
    /// What sglang-router does is not the same each time, so that only milepost is held to something.
    Ours {
        /// What was seen of sglang-router, in words.
        peer: &'static str,
        /// In milepost.
        milepost: &'static str,
        /// Why, in one line.
        why: &'static str,
    },
}

impl Expect {
    /// What a router is held to; none: the case is not for it.
    fn of(self, subject: Subject) -> Option<&'static str> {
        match (self, subject) {
            (Self::Ours { .. }, Subject::SglangRouter) => None,
            (Self::Both(seen), _)
            | (Self::Differ { peer: seen, .. }, Subject::SglangRouter)
            | (Self::Differ { milepost: seen, .. } | Self::Ours { milepost: seen, .. }, Subject::Milepost) => {
                Some(seen)
            }
        }
    }
}

/// One behaviour.
pub struct Case {
    /// What is asked or done, in words.
    pub name: &'static str,
    /// Does it and says what was seen, in one line.
    pub run: fn(&Stage) -> String,
    /// What should be seen.
    pub expect: Expect,
}

/// A behaviour that is the same in both.
pub const fn same(name: &'static str, run: fn(&Stage) -> String, seen: &'static str) -> Case {
    Case { name, run, expect: Expect::Both(seen) }
}

/// A behaviour that differs on purpose.
pub const fn differs(
    name: &'static str,
    run: fn(&Stage) -> String,
    peer: &'static str,
    milepost: &'static str,
    why: &'static str,
) -> Case {
    Case { name, run, expect: Expect::Differ { peer, milepost, why } }
}

/// A behaviour of milepost where sglang-router has more than one.
pub const fn ours(
    name: &'static str,
    run: fn(&Stage) -> String,
    peer: &'static str,
    milepost: &'static str,
    why: &'static str,
) -> Case {
    Case { name, run, expect: Expect::Ours { peer, milepost, why } }
}

/// Cases that share one router process and its workers.
pub struct Group {
    /// Flags besides addresses and `--worker-urls`, separated by white space.
    pub flags: &'static str,
    /// Scripted workers, all of them given in `--worker-urls`.
    pub workers: usize,
    /// In this order.
    pub cases: &'static [Case],
}

/// What belongs together on the page.
pub struct Topic {
    /// Its heading.
    pub title: &'static str,
    /// Each with a process of its own.
    pub groups: &'static [Group],
}

/// Runs a topic against one router, its groups side by side: they wait more than they work.
pub fn hold(subject: Subject, topic: &Topic) {
    if subject == Subject::SglangRouter
        && let Err(why) = peer()
    {
        println!("skipped: {why}");
        return;
    }
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> =
            topic.groups.iter().map(|group| scope.spawn(move || wrong_in(subject, group))).collect();
        running.into_iter().flat_map(|group| group.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {subject:?}\n\n{}\n", wrong.len(), wrong.join("\n\n"));
}

/// The cases of a group that did not see what they should, one after the other.
fn wrong_in(subject: Subject, group: &Group) -> Vec<String> {
    let stage = Stage::new(subject, group);
    let mut wrong = Vec::new();
    for case in group.cases {
        let Some(expected) = case.expect.of(subject) else { continue };
        stage.clear();
        let seen = catch_unwind(AssertUnwindSafe(|| (case.run)(&stage))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
            format!("stopped: {text}\n{}", stage.said())
        });
        if seen != expected {
            wrong.push(format!("{}\n  expected  {expected}\n  seen      {seen}", case.name));
        }
    }
    wrong
}
