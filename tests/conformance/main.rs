//! What sglang-router 0.3.2 does, and what milepost does in its place: one table of cases, run against both as processes.
//!
//! Rule: a case observes and says what it saw in one line of text; the table holds the line expected of each router, and the
//! reason where the two differ. `docs/conformance.md` is made of that table. The cases run against sglang-router too where
//! it is installed, so that the table is known to describe it. Deliberately not here: milepost's trace (`tests/it`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here, with the place")]

mod cases;
mod client;
#[path = "../kept_page/mod.rs"]
mod kept_page;
mod page;
mod process;
mod stage;
mod table;
mod worker;

use process::Subject;

/// Two tests a topic, so that topics run side by side, as many as the machine has cores.
macro_rules! topics {
    ($($topic:ident),* $(,)?) => {
        $(mod $topic {
            #[test]
            fn milepost() {
                crate::table::hold(crate::Subject::Milepost, &crate::cases::$topic::TOPIC);
            }

            #[test]
            fn sglang_router() {
                crate::table::hold(crate::Subject::SglangRouter, &crate::cases::$topic::TOPIC);
            }
        })*

        /// All of them, in the order of the page.
        const TOPICS: &[&table::Topic] = &[$(&cases::$topic::TOPIC),*];
    };
}

topics![
    launch, flags, endpoints, control, workers, bodies, headers, errors, retries, breaker, health, limits,
    keys, streams, policies, drain, metrics,
];
