//! The file of a series: one line of JSON a run.
//!
//! Rule: a run is known again by the hash of all that it was asked to do; one that was cut, or whose line is broken, is made
//! again. Deliberately not here: what is in a line (`report::json`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::load::config::LoadConfig;
use crate::load::schedule::Schedule;

/// Runs of a file that are remembered at most; those further down the file are not, and are made again.
const MOST_RUNS: usize = 100_000;

/// XXH3, in hexadecimal, of all that a run is asked to do: two runs with one identity are repetitions of each other.
pub fn identity(config: &LoadConfig) -> String {
    let schedule = Schedule::new(&config.arrivals, config.num_prompts, config.seed).hash();
    let asked = json!([config.to_json(), schedule]).to_string();
    format!("{:016x}", milepost_policies::name_hash(asked.as_bytes()))
}

/// The runs that a file tells of.
#[derive(Debug, Default)]
pub struct Lines {
    path: PathBuf,
    runs: BTreeMap<String, Value>,
}

impl Lines {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        let context = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let mut lines = Self { path: path.to_owned(), runs: BTreeMap::new() };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(lines),
            Err(e) => return Err(context(e)),
        };
        for line in BufReader::new(file).lines() {
            lines.take(&line.map_err(context)?);
        }
        Ok(lines)
    }

    fn take(&mut self, line: &str) {
        let Ok(run) = serde_json::from_str::<Value>(line) else { return };
        let whole = run["partial"] == Value::Bool(false);
        if let Some(id) =
            run["series"]["config_xxh3"].as_str().filter(|_| whole && self.runs.len() < MOST_RUNS)
        {
            self.runs.insert(id.to_owned(), run.clone());
        }
    }

    /// The run of this identity, if it was made before.
    pub fn find(&self, identity: &str) -> Option<&Value> {
        self.runs.get(identity)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line.
    ///
    /// # Errors
    /// The file cannot be written; the message names it.
    pub fn add(&mut self, run: &Value) -> io::Result<()> {
        if let Some(folder) = self.path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let line = run.to_string();
        crate::report::files::append_line(&self.path, &line)?;
        self.take(&line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::config::OwnColumn;
    use crate::load::dataset::{Dataset, RandomOptions};
    use crate::load::schedule::Rate;
    use crate::load::target::Target;

    fn config(seed: u64, rate: f64) -> LoadConfig {
        let dataset = Dataset::Random(RandomOptions::default());
        let target = Target::parse("http://a:1").unwrap();
        LoadConfig { seed, arrivals: Rate::PerSecond(rate).into(), ..LoadConfig::new(target, dataset) }
    }

    #[test]
    fn what_is_asked_makes_the_identity() {
        assert_eq!(identity(&config(1, 5.0)), identity(&config(1, 5.0)));
        assert_ne!(identity(&config(1, 5.0)), identity(&config(2, 5.0)));
        assert_ne!(identity(&config(1, 5.0)), identity(&config(1, 5.5)));
        let typed = LoadConfig { arguments: vec!["--disable-tqdm".to_owned()], ..config(1, 5.0) };
        assert_eq!(identity(&config(1, 5.0)), identity(&typed), "how it was typed is no matter");
        let workers =
            |n: &str| LoadConfig { besides: [("start_workers", n.to_owned())].into(), ..config(1, 5.0) };
        assert_ne!(identity(&workers("2")), identity(&workers("4")));
        let own = |expression: &str| OwnColumn { name: "ms".to_owned(), expression: expression.to_owned() };
        let column = |text: &str| LoadConfig { columns: vec![own(text)], ..config(1, 5.0) };
        assert_ne!(identity(&column("ttft*1000")), identity(&column("ttft*1e6")));
    }

    #[test]
    fn a_whole_run_is_found_again_and_a_cut_one_is_not() {
        let folder = std::env::temp_dir().join(format!("milepost-lines-{}", std::process::id()));
        let path = folder.join("sweep.jsonl");
        let line = |id: &str, partial: bool| json!({"series": {"config_xxh3": id}, "partial": partial});
        let mut lines = Lines::read(&path).unwrap();
        lines.add(&line("a", false)).unwrap();
        lines.add(&line("b", true)).unwrap();
        crate::report::files::append_line(&path, "{\"series\":{\"config_xx").unwrap();
        let again = Lines::read(&path).unwrap();
        assert!(again.find("a").is_some() && again.find("b").is_none() && lines.find("a").is_some());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
