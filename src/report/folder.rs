//! A folder for each run: `2026-11-22T10-31-05Z-random-20rps`, inside the folder that the user names.
//!
//! Rule: nothing is overwritten and nothing is reused; a second run in the same second gets a number. `latest` leads to the last
//! run, where links can be made and nobody else has something of that name. Deliberately not here: the files of a run.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::load::config::LoadConfig;
use crate::load::run::RunReport;
use crate::units::utc;

/// Runs of one name at most.
const MOST_ALIKE: u32 = 999;
/// The link to the last run.
const LATEST: &str = "latest";

/// Makes the folder of a run.
///
/// # Errors
/// It cannot be made; the message names it.
pub fn dated(parent: &Path, run: &RunReport) -> io::Result<PathBuf> {
    let context = |path: &Path, e: &io::Error| {
        io::Error::new(e.kind(), format!("--output-dir {}: {e}", path.display()))
    };
    fs::create_dir_all(parent).map_err(|e| context(parent, &e))?;
    let name = name(run.start.unix_ns, &run.config);
    for number in 1..=MOST_ALIKE {
        let folder = parent.join(if number == 1 { name.clone() } else { format!("{name}-{number}") });
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(context(&folder, &e)),
        }
    }
    Err(io::Error::other(format!("--output-dir {}: there are {MOST_ALIKE} of {name}", parent.display())))
}

fn name(unix_ns: u64, config: &LoadConfig) -> String {
    let second = utc(unix_ns)[..19].replace(':', "-");
    let rate = config.arrivals.mean_per_s().map_or_else(|| "inf".to_owned(), |rate| format!("{rate:.4}"));
    let rate = if rate.contains('.') { rate.trim_end_matches('0').trim_end_matches('.') } else { &rate };
    let unit = if config.arrivals.mean_per_s().is_some() { "rps" } else { "" };
    format!("{second}Z-{}-{rate}{unit}", config.dataset.name())
}

/// Lets `latest` lead to `folder`. A file system without links goes without; what is no link stays.
pub fn link_latest(parent: &Path, folder: &Path) {
    let link = parent.join(LATEST);
    let taken = fs::symlink_metadata(&link).is_ok_and(|found| !found.is_symlink());
    let Some(name) = folder.file_name().filter(|_| !taken) else { return };
    // Made beside it and moved over it, so that there is a whole one at every moment.
    let new = parent.join(format!(".{LATEST}-{}", std::process::id()));
    let _ = fs::remove_file(&new);
    if symlink(name, &new).is_ok() && fs::rename(&new, &link).is_err() {
        let _ = fs::remove_file(&new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::dataset::{Dataset, RandomOptions};
    use crate::load::schedule::Rate;
    use crate::load::target::Target;

    fn config(rate: Rate) -> LoadConfig {
        let dataset = Dataset::Random(RandomOptions::default());
        LoadConfig { arrivals: rate.into(), ..LoadConfig::new(Target::parse("http://a:1").unwrap(), dataset) }
    }

    #[test]
    fn a_name_says_when_what_and_how_fast() {
        let at = |rate| name(1_795_343_465_276_000_000, &config(rate));
        assert_eq!(at(Rate::AllAtOnce), "2026-11-22T10-31-05Z-random-inf");
        assert_eq!(at(Rate::PerSecond(20.0)), "2026-11-22T10-31-05Z-random-20rps");
        assert_eq!(at(Rate::PerSecond(1.0 / 3.0)), "2026-11-22T10-31-05Z-random-0.3333rps");
    }

    #[test]
    fn latest_is_moved_and_what_is_no_link_stays() {
        let parent = std::env::temp_dir().join(format!("milepost-latest-{}", std::process::id()));
        for run in ["a", "b"] {
            fs::create_dir_all(parent.join(run)).unwrap();
            link_latest(&parent, &parent.join(run));
            assert_eq!(fs::read_link(parent.join(LATEST)).unwrap(), Path::new(run));
        }
        fs::remove_file(parent.join(LATEST)).unwrap();
        fs::write(parent.join(LATEST), "mine").unwrap();
        link_latest(&parent, &parent.join("a"));
        assert_eq!(fs::read_to_string(parent.join(LATEST)).unwrap(), "mine");
        fs::remove_dir_all(&parent).unwrap();
    }
}
