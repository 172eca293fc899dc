//! A trace as a workload: JSON lines in the form of Mooncake's traces, for `milepost bench` and other load generators.
//!
//! A line has `timestamp` (milliseconds after the first request that was to generate), `input_length`, `output_length` (tokens) and `hash_ids`, one
//! for each 512 tokens of the prompt: two prompts have the same first k ids if they began with the same text. The ids are made
//! of the block hashes of the trace's journal; they are small numbers in the order in which blocks were seen, and no text can be
//! had from them.
//!
//! Rule: no hashes, no workload: sharing is not made up, and a prompt without hashes shares with nobody. Hashes are of bytes and
//! ids of tokens, so one number of bytes a token is used for the whole trace, its mean: the edge of a block is off by at most one
//! block of hashes (64 bytes, 256 beyond 4 KiB). Lines are in the order of arrivals; kept for that are the requests of as long
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
use crate::trace::record::{Record, RequestRecord};

/// Tokens of a block, as readers of such files take it to be.
const BLOCK_TOKENS: u64 = 512;
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
}

/// Writes the workload of a trace; returns how many requests it has.
pub fn write(survey: &Survey, out: &mut (dyn Write + Send)) -> Result<u64, ExportError> {
    let bytes_per_token = survey.prompt_bytes as f64 / survey.prompt_tokens.max(1) as f64;
    let mut workload = Workload {
        out,
        bytes_per_token,
        longest_ns: survey.longest_ns,
        waiting: BTreeMap::new(),
        prompts: Prompts::default(),
        ids: Ids::default(),
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
                   --trace-decisions journal";
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
            };
            serde_json::to_writer(&mut *self.out, &row).map_err(std::io::Error::from)?;
            self.out.write_all(b"\n")?;
            self.rows += 1;
        }
        Ok(())
    }
}

/// What the journal told of prompts whose line is not written yet, by the number of the request.
#[derive(Default)]
struct Prompts(BTreeMap<u64, Prompt>);

struct Prompt {
    hashes: PromptHashes,
    /// The engine was given token ids.
    is_counted: bool,
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
        self.0.insert(choice.seq, Prompt { hashes, is_counted: choice.is_counted });
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
}

impl Ids {
    /// Finds the ids of a prompt; those of one without hashes are new.
    fn put(&mut self, prompt: Option<&Prompt>, tokens: u64, bytes_per_token: f64) {
        self.of_prompt.clear();
        for block in 0..tokens.div_ceil(BLOCK_TOKENS) {
            let hash = prompt.and_then(|prompt| {
                let bytes_per_token = if prompt.is_counted { BYTES_PER_ID } else { bytes_per_token };
                let end_bytes = ((block + 1) * BLOCK_TOKENS) as f64 * bytes_per_token;
                let hashes = prompt.hashes.blocks_within(end_bytes as u64);
                prompt.hashes.as_slice().get(hashes.checked_sub(1)?)
            });
            let id = match hash {
                Some(hash) => *self.known.entry((block, *hash)).or_insert(self.next),
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
        Prompt { hashes: PromptHashes::of(text.as_bytes()), is_counted: false }
    }

    fn ids(ids: &mut Ids, prompt: Option<&Prompt>, tokens: u64) -> Vec<u64> {
        ids.put(prompt, tokens, 4.0);
        ids.of_prompt.clone()
    }

    #[test]
    fn prompts_share_as_many_ids_as_they_share_whole_blocks() {
        let shared = "x".repeat(4 * 512 * 2 + 100);
        let one = prompt(&format!("{shared}{}", "a".repeat(3_000)));
        let two = prompt(&format!("{shared}{}", "b".repeat(3_000)));
        let mut known = Ids::default();
        let first = ids(&mut known, Some(&one), 1_800);
        let second = ids(&mut known, Some(&two), 1_800);
        assert_eq!(first, [0, 1, 2, 3]);
        assert_eq!((&second[..2], second[2] > 3, second[3] > 3), (&[0, 1][..], true, true));
        assert_eq!(ids(&mut known, Some(&one), 1_800), first, "the same prompt has the same ids to its end");
    }

    #[test]
    fn a_prompt_without_hashes_shares_with_nobody() {
        let mut known = Ids::default();
        assert_eq!(ids(&mut known, None, 600), [0, 1]);
        assert_eq!(ids(&mut known, None, 600), [2, 3]);
    }
}
