//! The rows, and what is expected of each.
//!
//! Rule: a row's name is the name of its test and stands in the page. Deliberately not here: what a row can do (`stage`), how
//! it is written down (`page`).

use std::pin::Pin;

use crate::stage::Stage;

/// A row that plays on a stage; what the client saw.
pub type Play = for<'a> fn(&'a Stage) -> Pin<Box<dyn Future<Output = String> + 'a>>;

/// How a row is played.
#[derive(Clone, Copy)]
pub enum Run {
    /// Over pipes, in virtual time: times are exact, and a minute takes none.
    Pipes(Play),
    /// Over TCP on the loopback address: what a kernel does counts.
    Sockets(Play),
    /// By the binary as a process of its own.
    Process(crate::process::Play),
}

impl Run {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipes(_) => "pipes",
            Self::Sockets(_) => "sockets",
            Self::Process(_) => "process",
        }
    }
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// By the client.
    pub client: String,
    /// In the trace.
    pub record: String,
    /// Of the connections to workers.
    pub upstream: String,
}

/// One fault.
pub struct Row {
    /// Name of the test.
    pub test: &'static str,
    /// What goes wrong.
    pub fault: &'static str,
    /// How it is played.
    pub run: Run,
    /// What the client should see.
    pub client: &'static str,
    /// What the record should say.
    pub record: &'static str,
    /// What should become of the connections to workers.
    pub upstream: &'static str,
}

/// Rows that belong together on the page.
pub struct Topic {
    /// Heading.
    pub title: &'static str,
    /// In the order of the page.
    pub rows: &'static [Row],
}

/// Makes a file's `TOPIC`, and of each row a test that has its name.
macro_rules! rows {
    (@run Pipes $name:ident) => { crate::table::Run::Pipes(|stage| Box::pin(super::$name(stage))) };
    (@run Sockets $name:ident) => { crate::table::Run::Sockets(|stage| Box::pin(super::$name(stage))) };
    (@run Process $name:ident) => { crate::table::Run::Process(|processes| Box::pin(super::$name(processes))) };
    ($title:literal; $(
        $name:ident by $how:ident $fault:literal:
            $client:literal, $record:literal, $upstream:literal;
    )*) => {
        /// The rows of this file.
        pub static TOPIC: crate::table::Topic = crate::table::Topic { title: $title, rows: row::ROWS };

        mod row {
            pub const ROWS: &[crate::table::Row] = &[$(crate::table::Row {
                test: stringify!($name),
                fault: $fault,
                run: crate::table::rows!(@run $how $name),
                client: $client,
                record: $record,
                upstream: $upstream,
            }),*];

            $(#[test]
            fn $name() {
                crate::table::hold(&super::TOPIC, stringify!($name));
            })*
        }
    };
}
pub(crate) use rows;

/// Plays a row and compares.
pub fn hold(topic: &Topic, test: &str) {
    let row = topic.rows.iter().find(|row| row.test == test).unwrap();
    let seen = match row.run {
        Run::Pipes(play) => Stage::play(true, play),
        Run::Sockets(play) => Stage::play(false, play),
        Run::Process(play) => crate::process::play(play),
    };
    let expected = Seen {
        client: row.client.to_owned(),
        record: row.record.to_owned(),
        upstream: row.upstream.to_owned(),
    };
    assert!(seen == expected, "{}\nexpected {expected:#?}\nseen {seen:#?}", row.fault);
}
