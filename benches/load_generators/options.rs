//! What was asked for on the command line.

use std::path::PathBuf;

use crate::tools::Tool;

const HELP: &str = "\
cargo bench --bench load_generators [-- OPTIONS]

Points milepost bench and the load generators that are installed at one server, and holds what they were asked for and what they
report against what that server saw. All on this machine's loopback.

  --only WORD,..     tools whose name contains one of the words
  --rates N,..       arrivals a second that are asked for                     [100,1000,4000]
  --streams N,..     streams at once, from few to many                        [100,300,1000,2000,4000]
  --seconds N        of arrivals at each rate                                 [10]
  --write FILE       also writes the tables into this page, between its markers (docs/load-generator.md)

MILEPOST_SGLANG_PYTHON, MILEPOST_AIPERF and MILEPOST_GUIDELLM say where tools are that are not on the path.
";

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Tools to be measured, in the order of the tables.
    pub tools: Vec<Tool>,
    /// Arrivals a second.
    pub rates: Vec<f64>,
    /// Streams at once.
    pub streams: Vec<usize>,
    /// Of arrivals at each rate.
    pub seconds: f64,
    /// The page to be written.
    pub write: Option<PathBuf>,
}

impl Options {
    /// From the arguments after the program's name; `Err`: what to say instead, and the exit code.
    pub fn parse(args: impl Iterator<Item = String>) -> Result<Self, (String, u8)> {
        let mut options = Self {
            tools: Tool::ALL.to_vec(),
            rates: vec![100.0, 1_000.0, 4_000.0],
            streams: vec![100, 300, 1_000, 2_000, 4_000],
            seconds: 10.0,
            write: None,
        };
        // cargo itself adds `--bench`.
        let mut args = args.filter(|arg| arg != "--bench");
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| wrong(&format!("{arg}: a value is missing")));
            match arg.as_str() {
                "--only" => {
                    let words = value()?;
                    options.tools.retain(|tool| words.split(',').any(|word| tool.name().contains(word)));
                }
                "--rates" => options.rates = numbers(&arg, &value()?)?,
                "--streams" => {
                    options.streams = numbers(&arg, &value()?)?.into_iter().map(|n| n as usize).collect();
                }
                "--seconds" => options.seconds = numbers(&arg, &value()?)?.first().copied().unwrap_or(10.0),
                "--write" => options.write = Some(value()?.into()),
                "--help" | "-h" => return Err((HELP.to_owned(), 0)),
                _ => return Err(wrong(&format!("{arg}: not known"))),
            }
        }
        Ok(options)
    }
}

fn numbers(flag: &str, text: &str) -> Result<Vec<f64>, (String, u8)> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let numbers: Option<Vec<f64>> =
        words.map(|word| word.parse().ok().filter(|n| (1.0..=1e6).contains(n))).collect();
    numbers.ok_or_else(|| wrong(&format!("{flag} {text}: expected numbers from 1 to 1000000")))
}

fn wrong(why: &str) -> (String, u8) {
    (format!("{why}\n\n{HELP}"), 2)
}
