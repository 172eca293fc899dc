//! What was typed.

use std::path::PathBuf;
use std::str::FromStr;

use crate::workload::Kind;

/// How to run it.
pub const USAGE: &str = "usage: cargo bench --bench policies -- [--write docs/policies.md] [--quick] [--only WORD,...]
       cargo bench --bench policies -- --live

  --write FILE      write the page; without it the tables are printed
  --seeds N         runs of each cell, 1 to 10 (5)
  --scale X         times as many requests in a run, 0.05 to 4 (1)
  --quick           two seeds and a quarter of the requests: a look, not a measurement
  --workloads A,B   only these: balanced, zipf, shift, mooncake, chat, plain
  --arms A,B        only arms whose name has one of these words in it
  --live            check the port of sglang-router 0.3.2 against the installed one, over sockets; skipped if there is none";

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the page is.
    pub write: Option<PathBuf>,
    /// Runs of each cell.
    pub seeds: u64,
    /// Times as many requests.
    pub scale: f64,
    /// In the order of the page.
    pub kinds: Vec<Kind>,
    /// Words; all arms if none.
    pub arms: Vec<String>,
    /// The check over sockets instead.
    pub live: bool,
    /// How it was called, for the page.
    pub command: String,
}

impl Options {
    /// Reads the arguments; the error is in words.
    pub fn read(args: impl Iterator<Item = String>) -> Result<Self, String> {
        // Cargo adds `--bench`.
        let typed: Vec<String> = args.filter(|arg| arg != "--bench").collect();
        let command = format!("cargo bench --bench policies -- {}", typed.join(" "));
        let mut args = typed.into_iter();
        let mut options = Self {
            write: None,
            seeds: 5,
            scale: 1.0,
            kinds: Kind::ALL.to_vec(),
            arms: Vec::new(),
            live: false,
            command,
        };
        while let Some(name) = args.next() {
            match name.as_str() {
                "--write" => options.write = Some(value(&name, args.next())?),
                "--seeds" => options.seeds = value(&name, args.next())?,
                "--scale" => options.scale = value(&name, args.next())?,
                "--quick" => (options.seeds, options.scale) = (2, 0.25),
                "--workloads" => options.kinds = kinds(&value::<String>(&name, args.next())?)?,
                "--arms" => {
                    let words: String = value(&name, args.next())?;
                    options.arms = words.split(',').map(str::to_owned).collect();
                }
                "--live" => options.live = true,
                _ => return Err(format!("{name}: no such option\n{USAGE}")),
            }
        }
        if !(1..=10).contains(&options.seeds) || !(0.05..=4.0).contains(&options.scale) {
            return Err(format!("--seeds is 1 to 10, --scale 0.05 to 4\n{USAGE}"));
        }
        Ok(options)
    }
}

fn kinds(words: &str) -> Result<Vec<Kind>, String> {
    let asked: Vec<&str> = words.split(',').collect();
    let known = |word: &&str| Kind::ALL.iter().any(|kind| kind.name() == *word);
    if let Some(word) = asked.iter().find(|word| !known(word)) {
        return Err(format!("--workloads {word}: no such workload\n{USAGE}"));
    }
    Ok(Kind::ALL.into_iter().filter(|kind| asked.contains(&kind.name())).collect())
}

fn value<T: FromStr>(name: &str, value: Option<String>) -> Result<T, String> {
    let value = value.ok_or_else(|| format!("{name}: a value is missing\n{USAGE}"))?;
    value.parse().map_err(|_| format!("{name} {value}: not such a value\n{USAGE}"))
}
