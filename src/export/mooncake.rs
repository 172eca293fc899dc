//! A trace as a workload: JSON lines in the form of Mooncake's traces, for `milepost bench` and other load generators.
//!
//! A line has `timestamp` (milliseconds after the first request that was to generate), `input_length`, `output_length` (tokens) and `hash_ids`, one
//! for each 512 tokens of the prompt: two prompts have the same first k ids if they began with the same text. Blocks of another length
//! are said on every line (`block_tokens`), as readers of such files take them to have 512. The ids are made of the block hashes of
//! the trace's journal, else of those in its records (`--trace-prompt hash`), which are keyed; they are small numbers in the order in
//! which blocks were seen, and no text can be had from them.
//!
//! Rule: no hashes, no workload: sharing is not made up, and a prompt without hashes shares with nobody. Hashes are of bytes and
//! ids of tokens, so one number of bytes a token is used for the whole trace, its mean: the edge of a block is off by at most one
//! block of hashes (in a journal 64 bytes, 256 beyond 4 KiB; in records 256). What two prompts share is cut to whole blocks of ids,
//! and prompts of two runs of the router share nothing where the hashes are keyed, as each run has a key of its own. Lines are in the order of arrivals; kept for that are the requests of as long
//! as the longest took, and one number for each distinct block. Where the wall clock was set back, or files are given out of order, lines
//! are too: that is said. Deliberately not here: what was a warm-up, or made no tokens.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use milepost_policies::PromptHashes;
use serde::Serialize;

use super::ExportError;
use super::source::{Item, each};
use super::survey::{Survey, is_generation};
use crate::log;
use crate::trace::journal::{ChoiceCall, JournalCall};
use crate::trace::prompt::{BLOCK_BYTES, PromptBlocks};
use crate::trace::record::{Record, RequestRecord};

/// Tokens of a block, as readers of such files take it to be.
pub const USUAL_BLOCK_TOKENS: u64 = 512;
/// Most prompts that are kept for a request that is to come.
const MOST_PROMPTS: usize = 262_144;
/// How far the lines of a trace may be out of order, nanoseconds: its writer comes round far more often.
const DISORDER_NS: u64 = 1_000_000_000;
/// Bytes of a token id, where the engine was given these.
const BYTES_PER_ID: f64 = 4.0;

/// A line.
#[derive(Debug, Serialize)]
struct Row<'a> {
    timestamp: u64,
    input_length: u64,
    output_length: u64,
    hash_ids: &'a [u64],
    /// Where it is not as usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    block_tokens: Option<u64>,
}

/// Writes the workload of a trace, with an id for so many tokens; returns how many requests it has.
pub fn write(survey: &Survey, block_tokens: u64, out: &mut (dyn Write + Send)) -> Result<u64, ExportError> {
    let bytes_per_token = survey.prompt_bytes as f64 / survey.prompt_tokens.max(1) as f64;
    let mut workload = Workload {
        out,
        bytes_per_token,
        longest_ns: survey.longest_ns,
        waiting: BTreeMap::new(),
        prompts: Prompts::default(),
        ids: Ids { block_tokens, ..Ids::default() },
        first_unix_ns: survey.first_generation_unix_ns.unwrap_or(0),
        latest_unix_ns: 0,
        disordered: 0,
        rows: 0,
        hashed: 0,
    };
    each(survey, |item| match item {
        // Another run counts its requests anew.
        Item::NewRun(_) => {
            workload.release(u64::MAX)?;
            workload.prompts = Prompts::default();
            Ok(())
        }
        Item::Other(Record::Journal(journal), _) => {
            if let JournalCall::Choice(choice) = &journal.call {
                workload.prompts.hear(choice);
            }
            Ok(())
        }
        Item::Request(placed) => workload.request(placed.record),
        Item::Other(..) => Ok(()),
    })?;
    workload.release(u64::MAX)?;
    if workload.rows == 0 {
        let why = "no request of the trace tells its tokens in and out, so there is no workload";
        return Err(ExportError::Unfit(why.to_owned()));
    }
    if workload.hashed == 0 {
        let why = "the trace has no block hashes of prompts, so nothing is known of what they share; record it with \
                   --trace-prompt hash, which is the default, or --trace-decisions journal";
        return Err(ExportError::Unfit(why.to_owned()));
    }
    if workload.disordered > 0 {
        log::warn(&format!(
            "the times of {} lines are before that of a line above them: the clock was set back, or the files are not in their order",
            workload.disordered
        ));
    }
    Ok(workload.rows)
}

struct Workload<'w> {
    out: &'w mut (dyn Write + Send),
    bytes_per_token: f64,
    /// The longest that a request took.
    longest_ns: u64,
    /// Requests whose line is not written yet, by arrival and number: input and output tokens.
    waiting: BTreeMap<(u64, u64), (u64, u64)>,
    prompts: Prompts,
    ids: Ids,
    first_unix_ns: u64,
    /// The latest arrival of a row.
    latest_unix_ns: u64,
    /// Rows that arrived before one that stands above them.
    disordered: u64,
    rows: u64,
    /// Rows whose prompt has hashes.
    hashed: u64,
}

impl Workload<'_> {
    fn request(&mut self, record: &RequestRecord) -> Result<(), ExportError> {
        let tokens = self.tokens(record);
        match tokens.filter(|_| is_generation(record)) {
            Some(tokens) => {
                self.prompts.hear_record(record);
                self.waiting.insert((record.arrival_unix_ns, record.seq), tokens);
            }
            None => {
                self.prompts.0.remove(&record.seq);
            }
        }
        // Whoever ends after this one came at most so long before.
        let ended_ns = record.arrival_unix_ns.saturating_add(record.end_ns);
        self.release(ended_ns.saturating_sub(self.longest_ns).saturating_sub(DISORDER_NS))
    }

    /// Tokens in and out, where the request has both.
    fn tokens(&self, record: &RequestRecord) -> Option<(u64, u64)> {
        // Where no prompt's tokens were counted, nothing is known of the lengths of others.
        let by_length = || {
            Some((record.prompt_bytes? as f64 / self.bytes_per_token).ceil() as u64)
                .filter(|_| self.bytes_per_token > 0.0)
        };
        let input = record.tokens.prompt_tokens.or_else(by_length)?;
        let output = record.tokens.completion_tokens.or(record.max_new_tokens)?;
        (input > 0 && output > 0).then_some((input, output))
    }

    /// Writes the requests that arrived before a moment.
    fn release(&mut self, before_unix_ns: u64) -> Result<(), ExportError> {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 < before_unix_ns
        {
            let (unix_ns, seq) = *first.key();
            let (input, output) = first.remove();
            let prompt = self.prompts.0.remove(&seq);
            self.hashed += u64::from(prompt.is_some());
            self.ids.put(prompt.as_ref(), input, self.bytes_per_token);
            self.disordered += u64::from(unix_ns < self.latest_unix_ns);
            self.latest_unix_ns = self.latest_unix_ns.max(unix_ns);
            let row = Row {
                timestamp: unix_ns.saturating_sub(self.first_unix_ns) / 1_000_000,
                input_length: input,
                output_length: output,
                hash_ids: &self.ids.of_prompt,
                block_tokens: Some(self.ids.block_tokens).filter(|tokens| *tokens != USUAL_BLOCK_TOKENS),
            };
            serde_json::to_writer(&mut *self.out, &row).map_err(std::io::Error::from)?;
            self.out.write_all(b"\n")?;
            self.rows += 1;
        }
        Ok(())
    }
}

/// What is known of prompts whose line is not written yet, by the number of the request.
#[derive(Default)]
struct Prompts(BTreeMap<u64, Prompt>);

enum Prompt {
    /// By the journal.
    Journal {
        hashes: PromptHashes,
        /// The engine was given token ids.
        is_counted: bool,
    },
    /// By the record alone: keyed hashes of a text of so many bytes.
    Record { hashes: PromptBlocks, len_bytes: u64 },
}

impl Prompt {
    /// The hash that stands for the text's first bytes, as many as so many tokens have, to a block of hashes; `None` where there
    /// is none for so little or so much.
    fn up_to(&self, tokens: u64, bytes_per_token: f64) -> Option<u64> {
        let bytes = |bytes_per_token: f64| (tokens as f64 * bytes_per_token) as u64;
        match self {
            Self::Journal { hashes, is_counted } => {
                let end_bytes = bytes(if *is_counted { BYTES_PER_ID } else { bytes_per_token });
                hashes.as_slice().get(hashes.blocks_within(end_bytes).checked_sub(1)?).copied()
            }
            Self::Record { hashes, len_bytes } => {
                let end_bytes = bytes(bytes_per_token);
                let blocks = if end_bytes >= *len_bytes {
                    len_bytes.div_ceil(BLOCK_BYTES)
                } else {
                    // Of blocks shorter than those of hashes the first are as one.
                    (end_bytes / BLOCK_BYTES).max(1)
                };
                hashes.keyed().get(usize::try_from(blocks).ok()?.checked_sub(1)?).copied()
            }
        }
    }
}

impl Prompts {
    fn hear(&mut self, choice: &ChoiceCall) {
        // What the engine sees, where that is another text than the one that requests are routed by.
        let of_engine = choice.engine_hashes.as_ref().zip(choice.engine_bytes);
        let Some((hashes, bytes)) = of_engine.or_else(|| choice.hashes.as_ref().zip(choice.hashed_bytes))
        else {
            return;
        };
        let Some(hashes) = PromptHashes::from_chain(hashes.as_slice().to_vec(), bytes) else { return };
        self.keep(choice.seq, Prompt::Journal { hashes, is_counted: choice.is_counted });
    }

    /// A record says less than the journal does: of larger blocks, and not what the engine sees.
    fn hear_record(&mut self, record: &RequestRecord) {
        let told = record.prompt_hashes.as_ref().filter(|hashes| !hashes.keyed().is_empty());
        if let (Some(hashes), Some(len_bytes)) = (told, record.prompt_bytes)
            && !self.0.contains_key(&record.seq)
        {
            self.keep(record.seq, Prompt::Record { hashes: hashes.clone(), len_bytes });
        }
    }

    fn keep(&mut self, seq: u64, prompt: Prompt) {
        self.0.insert(seq, prompt);
        if self.0.len() > MOST_PROMPTS {
            self.0.pop_first();
        }
    }
}

/// Numbers of blocks.
#[derive(Default)]
struct Ids {
    /// By the place of a block and the hash of all up to its end.
    known: HashMap<(u64, u64), u64>,
    next: u64,
    of_prompt: Vec<u64>,
    block_tokens: u64,
}

impl Ids {
    /// Finds the ids of a prompt; those of one without hashes are new.
    fn put(&mut self, prompt: Option<&Prompt>, tokens: u64, bytes_per_token: f64) {
        self.of_prompt.clear();
        for block in 0..tokens.div_ceil(self.block_tokens) {
            let hash =
                prompt.and_then(|prompt| prompt.up_to((block + 1) * self.block_tokens, bytes_per_token));
            let id = match hash {
                Some(hash) => *self.known.entry((block, hash)).or_insert(self.next),
                None => self.next,
            };
            self.next += u64::from(id == self.next);
            self.of_prompt.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(text: &str) -> Prompt {
        Prompt::Journal { hashes: PromptHashes::of(text.as_bytes()), is_counted: false }
    }

    /// What a record tells of a text: a number for each block that stands for all up to its end.
    fn record(text: &str) -> Prompt {
        let ends = (1..=text.len().div_ceil(256)).map(|n| &text.as_bytes()[..text.len().min(n * 256)]);
        let hashes: Vec<u64> = ends.map(milepost_policies::name_hash).collect();
        Prompt::Record { hashes: PromptBlocks::Keyed(hashes.as_slice().into()), len_bytes: text.len() as u64 }
    }

    fn known(block_tokens: u64) -> Ids {
        Ids { block_tokens, ..Ids::default() }
    }

    fn ids(ids: &mut Ids, prompt: Option<&Prompt>, tokens: u64) -> Vec<u64> {
        ids.put(prompt, tokens, 4.0);
        ids.of_prompt.clone()
    }

    #[test]
    fn prompts_share_as_many_ids_as_they_share_whole_blocks() {
        let shared = "x".repeat(4 * 512 * 2 + 100);
        for told in [prompt, record] {
            let one = told(&format!("{shared}{}", "a".repeat(3_000)));
            let two = told(&format!("{shared}{}", "b".repeat(3_000)));
            let mut known = known(512);
            let first = ids(&mut known, Some(&one), 1_800);
            let second = ids(&mut known, Some(&two), 1_800);
            assert_eq!(first, [0, 1, 2, 3]);
            assert_eq!((&second[..2], second[2] > 3, second[3] > 3), (&[0, 1][..], true, true));
            assert_eq!(
                ids(&mut known, Some(&one), 1_800),
                first,
                "the same prompt has the same ids to its end"
            );
        }
    }

    #[test]
    fn blocks_as_short_as_those_of_hashes_share_to_such_a_block() {
        let shared = "x".repeat(2_000);
        let one = record(&format!("{shared}{}", "a".repeat(500)));
        let two = record(&format!("{shared}{}", "b".repeat(500)));
        for block_tokens in [64, 50, 16] {
            let mut known = known(block_tokens);
            let first = ids(&mut known, Some(&one), 625);
            let second = ids(&mut known, Some(&two), 625);
            let shared = first.iter().zip(&second).take_while(|(a, b)| a == b).count() as u64 * block_tokens;
            assert!((500 - 64..=500 + 64).contains(&shared), "{block_tokens}: {shared} of 500 tokens");
            assert!(first.iter().skip((500 + 64) / block_tokens as usize).all(|id| !second.contains(id)));
            assert_eq!(ids(&mut known, Some(&two), 625), second);
        }
    }

    #[test]
    fn the_journal_says_more_than_a_record_and_one_that_says_nothing_is_not_kept() {
        let keyed = PromptBlocks::Keyed([5, 6].as_slice().into());
        let told = |seq, prompt_hashes| RequestRecord {
            seq,
            prompt_hashes,
            prompt_bytes: Some(300),
            ..RequestRecord::default()
        };
        let mut prompts = Prompts::default();
        let hashes = Some(PromptHashes::of(b"text").as_slice().into());
        prompts.hear(&ChoiceCall { seq: 1, hashes, hashed_bytes: Some(4), ..ChoiceCall::default() });
        prompts.hear_record(&told(1, Some(keyed.clone())));
        prompts.hear_record(&told(2, Some(keyed)));
        prompts.hear_record(&told(3, None));
        assert!(matches!(prompts.0.get(&1), Some(Prompt::Journal { .. })));
        assert!(matches!(prompts.0.get(&2), Some(Prompt::Record { len_bytes: 300, .. })));
        assert_eq!(prompts.0.len(), 2);
    }

    #[test]
    fn a_prompt_without_hashes_shares_with_nobody() {
        let mut known = known(512);
        assert_eq!(ids(&mut known, None, 600), [0, 1]);
        assert_eq!(ids(&mut known, None, 600), [2, 3]);
    }
}
