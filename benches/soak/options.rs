//! What was typed.

use std::path::PathBuf;
use std::str::FromStr;

/// How to run it.
pub const USAGE: &str =
    "usage: cargo bench --bench soak -- [--minutes 30] [--seed 1] [--rate 300] [--workers 6] [--keep FOLDER]

  --minutes N    minutes of load; 0.5 will do
  --seed N       what is drawn: clients, faults, trouble
  --rate N       requests a second
  --workers N    workers, at least 2
  --keep FOLDER  keep the trace and the router's log there; else they are deleted";

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Minutes of load.
    pub minutes: f64,
    /// Of every draw.
    pub seed: u64,
    /// Requests a second.
    pub rate: u64,
    /// Number of workers.
    pub workers: u64,
    /// Where files stay.
    pub keep: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments; the error is in words.
    pub fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { minutes: 30.0, seed: 1, rate: 300, workers: 6, keep: None };
        while let Some(name) = args.next() {
            match name.as_str() {
                // Cargo adds it.
                "--bench" => {}
                "--minutes" => options.minutes = value(&name, args.next())?,
                "--seed" => options.seed = value(&name, args.next())?,
                "--rate" => options.rate = value(&name, args.next())?,
                "--workers" => options.workers = value(&name, args.next())?,
                "--keep" => options.keep = Some(value(&name, args.next())?),
                _ => return Err(format!("{name}: no such option\n{USAGE}")),
            }
        }
        let minutes_fit = (0.1..=24.0 * 60.0).contains(&options.minutes);
        if !minutes_fit || !(1..=5_000).contains(&options.rate) || !(2..=64).contains(&options.workers) {
            return Err(format!("--minutes is 0.1 to 1440, --rate 1 to 5000, --workers 2 to 64\n{USAGE}"));
        }
        Ok(options)
    }
}

fn value<T: FromStr>(name: &str, value: Option<String>) -> Result<T, String> {
    let value = value.ok_or_else(|| format!("{name}: a value is missing\n{USAGE}"))?;
    value.parse().map_err(|_| format!("{name} {value}: not such a value\n{USAGE}"))
}
