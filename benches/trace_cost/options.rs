//! What was asked for on the command line.
//!
//! Rule: a word that is not known is an error with the words that are. Deliberately not here: what the words do.

use std::path::PathBuf;
use std::str::FromStr;

/// The parts of the bench, by their words for `--cases`.
pub const CASES: &[(&str, &str)] = &[
    ("sinks", "CPU of a request with each way to trace, and without"),
    ("records", "many records written, checked, aligned and exported: time, memory and size"),
];
/// How the program calls itself to write records; nobody types it.
pub const MAKE: &str = "make-records";

const HELP: &str = "\
cargo bench --bench trace_cost [-- OPTIONS]

Measures what the trace costs: a request's CPU with each sink, the time and memory of its commands, and whether a capture that is
left on loses nothing and keeps its memory. All on this machine's loopback.

  --cases WORD,..    parts of the bench, see below                                [all]
  --rounds N         runs of each sink, interleaved; medians are told             [5]
  --requests N       requests of a run in a closed loop                           [20000]
  --records N        records that are written, checked and exported               [1000000]
  --quick            one round of small runs: shows that everything works, and no number of it means much
  --hold MINUTES     this alone: a capture that is left on for so long, and then its books
  --rate N           requests a second of --hold                                  [2000]
  --write FILE       also writes the sections into this page, between its markers (docs/trace-cost.md)

cases:
";

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    cases: Vec<String>,
    /// Runs of each.
    pub rounds: usize,
    /// Requests of a run in a closed loop.
    pub requests: usize,
    /// Records that are written, checked and exported.
    pub records: u64,
    /// Small.
    pub quick: bool,
    /// Minutes of a capture that is left on.
    pub hold: Option<f64>,
    /// Its requests a second.
    pub rate: f64,
    /// The page to be written.
    pub write: Option<PathBuf>,
}

impl Options {
    /// From the arguments after the program's name; `Err`: what to say instead, and the exit code.
    pub fn parse(args: impl Iterator<Item = String>) -> Result<Self, (String, u8)> {
        let mut options = Self {
            cases: Vec::new(),
            rounds: 5,
            requests: 20_000,
            records: 1_000_000,
            quick: false,
            hold: None,
            rate: 2_000.0,
            write: None,
        };
        let (mut rounds, mut requests, mut records) = (None, None, None);
        // cargo itself adds `--bench`.
        let mut args = args.filter(|arg| arg != "--bench");
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| wrong(&format!("{arg}: a value is missing")));
            match arg.as_str() {
                "--cases" => options.cases = words(&value()?)?,
                "--rounds" => rounds = Some(number(&arg, &value()?, 1, 1_000)?),
                "--requests" => requests = Some(number(&arg, &value()?, 100, 10_000_000)?),
                "--records" => records = Some(number(&arg, &value()?, 1_000, 100_000_000)?),
                "--quick" => options.quick = true,
                "--hold" => options.hold = Some(number(&arg, &value()?, 0.1, 1_440.0)?),
                "--rate" => options.rate = number(&arg, &value()?, 1.0, 20_000.0)?,
                "--write" => options.write = Some(value()?.into()),
                "--help" | "-h" => return Err((help(), 0)),
                _ => return Err(wrong(&format!("{arg}: not known"))),
            }
        }
        options.rounds = rounds.unwrap_or(if options.quick { 1 } else { 5 });
        options.requests = requests.unwrap_or(if options.quick { 2_000 } else { 20_000 });
        options.records = records.unwrap_or(if options.quick { 20_000 } else { 1_000_000 });
        Ok(options)
    }

    /// This part is asked for.
    pub fn has(&self, case: &str) -> bool {
        self.hold.is_none() && (self.cases.is_empty() || self.cases.iter().any(|word| word == case))
    }
}

fn words(text: &str) -> Result<Vec<String>, (String, u8)> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let known = |word: &str| CASES.iter().any(|(key, _)| *key == word);
    words
        .map(|word| {
            if known(word) { Ok(word.to_owned()) } else { Err(wrong(&format!("--cases {word}: not known"))) }
        })
        .collect()
}

fn number<T: FromStr + PartialOrd + Copy + std::fmt::Display>(
    flag: &str,
    text: &str,
    least: T,
    most: T,
) -> Result<T, (String, u8)> {
    let number = text.parse().ok().filter(|n| (&least..=&most).contains(&n));
    number.ok_or_else(|| wrong(&format!("{flag} {text}: expected a number from {least} to {most}")))
}

fn wrong(why: &str) -> (String, u8) {
    (format!("{why}\n\n{}", help()), 2)
}

fn help() -> String {
    let cases = CASES.iter().map(|(key, what)| format!("  {key:<8} {what}\n"));
    HELP.chars().chain(cases.collect::<String>().chars()).collect()
}
