//! milepost's own trace log as a workload: the same arrivals and lengths, and as much sharing as the records tell.
//!
//! Rule: the log holds no text. Where it has hashes of the prompts' blocks, those tell what is shared. Else what a server found in its cache is taken to be shared with the latest earlier request to the
//! same worker that is long enough; without such a figure nothing is shared. Of a sampled log only the sample is sent, and that is said. Deliberately not here: the format (`trace::record`).

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use super::TraceRow;
use crate::load::dataset::DatasetError;
use crate::trace::prompt::PromptBlocks;
use crate::trace::reader::TraceReader;
use crate::trace::record::{Record, RequestRecord};
use crate::trace::sampled::Sampled;

/// What has to be said of such a workload.
pub(super) const APPROXIMATE: &str = "approximate: lengths are the servers' token counts (without one, a token for 4 bytes), \
     and what was found in a cache is shared with the latest earlier request to the same worker";

/// The same of one with hashes.
pub(super) const BY_HASHES: &str = "lengths are the servers' token counts (without one, a token for 4 bytes), and what is shared is told by \
     the hashes of the prompts' blocks of 256 bytes, to a block";

/// Tokens of a block; what is shared is rounded down to it.
const BLOCK_TOKENS: u64 = 16;
/// Bytes of a token of plain English.
const BYTES_PER_TOKEN: u64 = 4;
/// Output tokens where neither the server nor the request tells.
const OUTPUT_TOKENS: u64 = 128;
/// Requests of a worker looked back at.
const LOOK_BACK: usize = 256;

/// Hands over each request for tokens that is no warm-up, until `take` says that it is enough; returns what the log tells
/// of being a sample.
pub(super) fn read(path: &Path, mut take: impl FnMut(TraceRow) -> bool) -> Result<Sampled, DatasetError> {
    let fail = |e: &dyn std::fmt::Display| {
        DatasetError::new(format!("--dataset-path {}: {e}; expected a trace log of milepost", path.display()))
    };
    let (mut sharing, mut sampled) = (Sharing::default(), Sampled::default());
    for record in TraceReader::open(path).map_err(|e| fail(&e))? {
        match record.map_err(|e| fail(&e))?.1 {
            Record::Run(run) => sampled.hear(&run),
            Record::Request(record)
                if record.endpoint.generates()
                    && record.phase.is_none()
                    && sampled.has(&record)
                    && !take(sharing.row(&record)) =>
            {
                break;
            }
            _ => {}
        }
    }
    Ok(sampled)
}

/// Recent prompts of each worker, as ids of blocks.
#[derive(Default)]
struct Sharing {
    recent: HashMap<Arc<str>, VecDeque<Vec<u64>>>,
    next_id: u64,
}

impl Sharing {
    fn row(&mut self, record: &RequestRecord) -> TraceRow {
        let bytes = record.prompt_bytes.unwrap_or(0);
        let input_tokens = record.tokens.prompt_tokens.unwrap_or(bytes.div_ceil(BYTES_PER_TOKEN));
        let output_tokens =
            record.tokens.completion_tokens.or(record.max_new_tokens).unwrap_or(OUTPUT_TOKENS);
        if let Some(hashes) = record.prompt_hashes.as_ref().map(PromptBlocks::keyed).filter(|h| !h.is_empty())
        {
            let (at_ns, ids) = (record.arrival_unix_ns, hashes.to_vec());
            return TraceRow {
                at_ns,
                input_tokens,
                output_tokens,
                ids,
                text_bytes: bytes,
                ..TraceRow::default()
            };
        }
        let cached = record.tokens.cached_tokens.unwrap_or(0).min(input_tokens) / BLOCK_TOKENS;
        // More than any model reads is left out by its length; its ids need not be made.
        let blocks = input_tokens.min(super::MOST_TOKENS).div_ceil(BLOCK_TOKENS) as usize;
        let recent = record.worker.clone().map(|worker| self.recent.entry(worker).or_default());
        let earlier = recent.as_ref().and_then(|r| r.iter().rev().find(|ids| ids.len() as u64 >= cached));
        let mut ids: Vec<u64> = earlier.map_or_else(Vec::new, |ids| ids[..cached as usize].to_vec());
        while ids.len() < blocks {
            ids.push(self.next_id);
            self.next_id += 1;
        }
        if let Some(recent) = recent {
            if recent.len() == LOOK_BACK {
                recent.pop_front();
            }
            recent.push_back(ids.clone());
        }
        TraceRow { at_ns: record.arrival_unix_ns, input_tokens, output_tokens, ids, ..TraceRow::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::answer::Tokens;

    fn record(worker: &str, prompt: u64, cached: u64) -> RequestRecord {
        RequestRecord {
            worker: Some(worker.into()),
            tokens: Tokens {
                prompt_tokens: Some(prompt),
                completion_tokens: Some(3),
                cached_tokens: Some(cached),
            },
            ..RequestRecord::default()
        }
    }

    #[test]
    fn what_was_cached_is_shared_with_an_earlier_request_to_the_worker() {
        let mut sharing = Sharing::default();
        let first = sharing.row(&record("a", 100, 0));
        let elsewhere = sharing.row(&record("b", 100, 0));
        let second = sharing.row(&record("a", 80, 64));
        assert_eq!((first.ids.len(), second.ids.len()), (7, 5));
        assert_eq!(second.ids[..4], first.ids[..4]);
        assert!(second.ids[4..].iter().all(|id| !first.ids.contains(id)));
        assert!(elsewhere.ids.iter().all(|id| !first.ids.contains(id)));
    }

    #[test]
    fn hashes_of_blocks_tell_what_is_shared_whoever_answered() {
        let hashed = |worker: &str, hashes: &[u64]| RequestRecord {
            prompt_hashes: Some(PromptBlocks::Keyed(hashes.into())),
            prompt_bytes: Some(600),
            ..record(worker, 150, 0)
        };
        let mut sharing = Sharing::default();
        let first = sharing.row(&hashed("a", &[1, 2, 3]));
        let second = sharing.row(&hashed("b", &[1, 2, 4]));
        assert_eq!((first.text_bytes, first.input_tokens), (600, 150));
        assert_eq!((first.ids, second.ids), (vec![1, 2, 3], vec![1, 2, 4]));
    }

    #[test]
    fn of_a_sampled_log_the_sample_alone_is_sent_and_its_share_is_said() {
        let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/traces/two_workers.jsonl");
        let of = |path: &Path| {
            let mut rows = 0;
            let sampled = read(path, |_| {
                rows += 1;
                true
            });
            (rows, sampled.unwrap().words())
        };
        let (rows, words) = of(&whole);
        assert_eq!(words, None);
        let mut slow = 0;
        let lines = TraceReader::open(&whole).unwrap().map(|record| {
            let mut record = record.unwrap().1;
            match &mut record {
                Record::Run(run) => {
                    run.capture.get_or_insert_default().sample_share = Some(0.25);
                }
                Record::Request(request) if request.endpoint.generates() && request.phase.is_none() => {
                    slow += 1;
                    request.kept_for = (slow <= 2).then(|| "slow".into());
                }
                _ => {}
            }
            serde_json::to_string(&record).unwrap() + "\n"
        });
        let path = std::env::temp_dir().join(format!("milepost-own-log-{}.jsonl", std::process::id()));
        std::fs::write(&path, lines.collect::<String>()).unwrap();
        let (kept, words) = of(&path);
        let words = words.unwrap();
        assert_eq!(kept, rows - 2);
        assert!(words.contains("--trace-sample 0.25") && words.contains("; 2 requests"), "{words}");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn lengths_are_guessed_where_nobody_told() {
        let silent = RequestRecord { prompt_bytes: Some(42), ..RequestRecord::default() };
        let row = Sharing::default().row(&silent);
        assert_eq!((row.input_tokens, row.output_tokens), (11, OUTPUT_TOKENS));
    }
}
