//! What was asked for on the command line.
//!
//! Rule: a word that is not known is an error with the words that are. Deliberately not here: what the words do.

use std::path::PathBuf;

/// The parts of the bench, by their words for `--cases`.
pub const CASES: &[(&str, &str)] = &[
    ("plain16", "120 B prompts, sixteen requests at once"),
    ("plain4", "the same, four at once"),
    ("paced", "the same at 2,000 a second"),
    ("4k", "4 KB prompts, sixteen at once"),
    ("64k", "64 KB prompts, sixteen at once"),
    ("sse", "streams of 64 events 5 ms apart, 150 a second, and when their first event comes"),
    ("latency", "latency added at a light load and at half of what fills haproxy's core"),
    ("memory", "resident memory idle and with 3,000 streams"),
    ("workers", "from 2 to 512 workers"),
    ("cores", "from one to all cores"),
    ("trace", "trace on against off, 8 workers"),
    (
        "request_path",
        "nanoseconds of each step, each policy and the decision's lock; the budget of a request",
    ),
];

const HELP: &str = "\
cargo bench --bench end_to_end [-- OPTIONS]

Measures milepost beside haproxy, nginx, sglang-router and smg where they are installed. All on this machine's loopback.

  --only WORD,..     peers whose name contains one of the words (direct is always there)
  --cases WORD,..    parts of the bench, see below
  --rounds N         runs of each peer and case, interleaved; medians are told          [5]
  --requests N       requests of a run in a closed loop; other runs are sized by it    [20000]
  --quick            one round of small runs: shows that everything works, and no number of it means much
  --write FILE       also writes the sections into this page, between its markers (docs/performance.md)

cases:
";

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    only: Vec<String>,
    cases: Vec<String>,
    /// Runs of each.
    pub rounds: usize,
    /// Requests of a run in a closed loop.
    pub requests: usize,
    /// Small.
    pub quick: bool,
    /// The page to be written.
    pub write: Option<PathBuf>,
}

impl Options {
    /// From the arguments after the program's name; `Err`: what to say instead, and the exit code.
    pub fn parse(args: impl Iterator<Item = String>) -> Result<Self, (String, u8)> {
        let mut options = Self {
            only: Vec::new(),
            cases: Vec::new(),
            rounds: 5,
            requests: 20_000,
            quick: false,
            write: None,
        };
        let (mut rounds, mut requests) = (None, None);
        // cargo itself adds `--bench`.
        let mut args = args.filter(|arg| arg != "--bench");
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| wrong(&format!("{arg}: a value is missing")));
            match arg.as_str() {
                "--only" => options.only = words(&value()?),
                "--cases" => options.cases = words(&value()?),
                "--rounds" => rounds = Some(number(&arg, &value()?)?),
                "--requests" => requests = Some(number(&arg, &value()?)?),
                "--quick" => options.quick = true,
                "--write" => options.write = Some(value()?.into()),
                "--help" | "-h" => return Err((help(), 0)),
                _ => return Err(wrong(&format!("{arg}: not known"))),
            }
        }
        let unknown = options.cases.iter().find(|word| !CASES.iter().any(|(key, _)| key == word));
        if let Some(word) = unknown {
            return Err(wrong(&format!("--cases {word}: not known")));
        }
        options.rounds = rounds.unwrap_or(if options.quick { 1 } else { 5 });
        options.requests = requests.unwrap_or(if options.quick { 2_000 } else { 20_000 });
        Ok(options)
    }

    /// The words of `--only`.
    pub fn only(&self) -> &[String] {
        &self.only
    }

    /// This part is asked for.
    pub fn has(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|word| word == case)
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn number(flag: &str, text: &str) -> Result<usize, (String, u8)> {
    let number = text.parse().ok().filter(|n| (1..=10_000_000).contains(n));
    number.ok_or_else(|| wrong(&format!("{flag} {text}: expected a number from 1 to 10000000")))
}

fn wrong(why: &str) -> (String, u8) {
    (format!("{why}\n\n{}", help()), 2)
}

fn help() -> String {
    let cases = CASES.iter().map(|(key, what)| format!("  {key:<14} {what}\n"));
    HELP.chars().chain(cases.collect::<String>().chars()).collect()
}
