//! Each fault that a router meets: what the client sees, what the record says, what becomes of the worker's connection.
//!
//! Rule: one table of rows. A row does one thing to a router, and what was seen is put beside what the table holds; after each
//! the router is stopped and everything it held has to be back. `docs/faults.md` is made of the table. Deliberately not here:
//! chance (a scripted row has one story), the lists of smuggled requests, of which one each stands here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here, with the place")]

mod books;
mod client;
mod door;
mod events;
#[path = "../kept_page/mod.rs"]
mod kept_page;
mod page;
mod process;
mod stage;
mod table;
#[path = "../it/text.rs"]
mod text;
mod told;
mod worker;

/// The topics, in the order of the page.
macro_rules! topics {
    ($($topic:ident),* $(,)?) => {
        $(mod $topic;)*

        /// All of them.
        const TOPICS: &[&table::Topic] = &[$(&$topic::TOPIC),*];
    };
}

topics![attempts, answers, leaving, slow, requests, limits, fleet, router, host];
