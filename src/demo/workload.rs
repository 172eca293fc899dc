//! What is sent: prompts, how many, how fast, and how much KV cache the workers have for them.
//!
//! Rule: the built-in prompts come from a seed and need no file; their prefixes together do not fit into one worker's KV cache
//! but do into all workers' together, as otherwise where a request goes makes no difference. Deliberately not here: the data
//! sets (`crate::load::dataset`).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::DemoError;
use crate::load::dataset::{Dataset, FileOptions, Loaded, SharedPrefixOptions};
use crate::load::schedule::Rate;
use crate::sim::Profile;

/// Shared prefixes of the built-in prompts.
const PREFIXES: u32 = 24;
/// Requests of a run last about this long.
const SECONDS: f64 = 8.0;
/// Requests a second of the built-in prompts.
const RATE: f64 = 40.0;
/// Requests a second of a file, whose answers may be many times as long.
const FILE_RATE: f64 = 8.0;
/// KV tokens of a worker for the built-in prompts.
const KV_TOKENS: u64 = 24_000;
/// Bytes of a file that are looked at to tell its format.
const LOOK_BYTES: u64 = 64 * 1024;

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The prompts.
    pub dataset: Dataset,
    /// At most so many of them.
    pub prompts: usize,
    /// Poisson arrivals a second.
    pub rate: f64,
    /// KV cache of each worker, in tokens; `None`: the profile's.
    pub kv_tokens: Option<u64>,
}

impl Workload {
    /// Prompts with shared prefixes. The number is rounded up to a whole number for each prefix.
    pub fn built_in(prompts: Option<usize>, rate: Option<f64>) -> Self {
        let rate = rate.unwrap_or(RATE);
        let wanted = prompts.unwrap_or((rate * SECONDS) as usize).clamp(1, 10_000_000) as u32;
        // At least four requests for each prefix, else there would be nothing to find in a cache.
        let groups = (wanted / 4).clamp(1, PREFIXES);
        let options = SharedPrefixOptions {
            groups,
            prompts_per_group: wanted.div_ceil(groups),
            system_tokens: 2000,
            question_tokens: 100,
            output_tokens: 96,
            range_ratio: 0.5,
            ..SharedPrefixOptions::default()
        };
        Self {
            prompts: (groups * options.prompts_per_group) as usize,
            dataset: Dataset::SharedPrefix(options),
            rate,
            kv_tokens: Some(KV_TOKENS),
        }
    }

    /// A file in `ShareGPT`'s or the custom format.
    ///
    /// # Errors
    /// It cannot be read, or is neither.
    pub fn file(path: PathBuf, prompts: Option<usize>, rate: Option<f64>) -> Result<Self, DemoError> {
        let rate = rate.unwrap_or(FILE_RATE);
        let prompts = prompts.unwrap_or((rate * SECONDS).max(1.0) as usize);
        let dataset = dataset_of(path)?;
        Ok(Self { dataset, prompts, rate, kv_tokens: None })
    }

    /// Latencies and sizes of each worker.
    pub fn profile(&self) -> Profile {
        let profile = Profile::default();
        Profile { kv_tokens: self.kv_tokens.unwrap_or(profile.kv_tokens), ..profile }
    }

    /// Arrivals.
    pub fn rate(&self) -> Rate {
        Rate::PerSecond(self.rate)
    }

    /// The prompts, as every run sends them.
    pub(super) fn load(&self, seed: u64) -> Result<Loaded, DemoError> {
        self.dataset.load(self.prompts, seed, true).map_err(|e| DemoError::Usage(e.to_string()))
    }
}

/// `ShareGPT`'s file is one array of conversations; everything else is read as custom, which says what it expects.
fn dataset_of(path: PathBuf) -> Result<Dataset, DemoError> {
    let look = first_bytes(&path)
        .map_err(|e| DemoError::Usage(format!("--dataset-path {}: {e}", path.display())))?;
    let text = String::from_utf8_lossy(&look);
    let is_array = text.trim_start_matches('\u{feff}').trim_start().starts_with('[');
    let place = |key: &str| text.find(key).unwrap_or(usize::MAX);
    let options = FileOptions { path: Some(path), ..FileOptions::default() };
    Ok(if is_array && place("\"conversation") < place("\"prompt\"") {
        Dataset::ShareGpt(options)
    } else {
        Dataset::Custom(options)
    })
}

fn first_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LOOK_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_prompts_is_rounded_up_to_whole_groups() {
        for wanted in [1, 3, 7, 50, 100, 101, 336, 1000] {
            let workload = Workload::built_in(Some(wanted), None);
            let made = workload.load(1).unwrap().prompts.len();
            assert_eq!(made, workload.prompts);
            assert!((wanted..wanted + PREFIXES as usize).contains(&made), "{wanted}: {made}");
        }
    }

    /// Locality matters only then.
    #[test]
    fn the_prefixes_fit_into_four_workers_and_not_into_one() {
        let workload = Workload::built_in(None, None);
        let Dataset::SharedPrefix(o) = &workload.dataset else { panic!("built in") };
        let mean_words = o.system_tokens as f64 * f64::midpoint(o.range_ratio, 1.0);
        // The simulated tokeniser makes at least one token of a word.
        let tokens = (f64::from(o.groups) * mean_words) as u64;
        let kv_tokens = workload.profile().kv_tokens;
        assert!(tokens > kv_tokens && tokens < 4 * kv_tokens, "{tokens} {kv_tokens}");
    }

    #[test]
    fn a_file_is_known_by_its_first_keys() {
        let folder = std::env::temp_dir().join(format!("milepost-demo-look-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (text, name) in [
            ("[{\"id\":1,\"conversations\":[]}]", "sharegpt"),
            ("[{\"prompt\":\"x\",\"output_len\":1}]", "custom"),
            ("{\"prompt\":\"say \\\"conversations\\\"\"}", "custom"),
            ("{\"conversations\":[]}", "custom"),
        ] {
            let path = folder.join("x");
            std::fs::write(&path, text).unwrap();
            assert_eq!(dataset_of(path).unwrap().name(), name, "{text}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
        let missing = Workload::file(folder.join("none"), None, None).unwrap_err();
        assert!(missing.to_string().starts_with("--dataset-path"), "{missing}");
    }
}
