//! A trace as a workload: JSON lines in the form of Mooncake's traces, for `milepost bench` and other load generators.
//!
//! A line has `timestamp` (milliseconds after the first request that was to generate), `input_length`, `output_length` (tokens) and `hash_ids`, one
//! for each 512 tokens of the prompt: two prompts have the same first k ids if they began with the same text. Blocks of another length
//! are said on every line (`block_tokens`), as readers of such files take them to have 512. The ids are made of the block hashes of
//! the trace's journal, else of those in its records (`--trace-prompt hash`), which are keyed; they are small numbers in the order in
//! which blocks were seen, and no text can be had from them.
//!
//! Rule: no hashes, no workload: sharing is not made up, and a prompt without hashes shares with nobody. Hashes are of bytes and
//! ids of tokens, so one number of bytes a token is used for the whole trace, its mean: where a prompt has as many, the edge of a block
//! is off by at most one block of hashes (in a journal 64 bytes, 256 beyond 4 KiB; in records 256), else by the difference too, token
//! by token. A prompt's last id stands for all of its text, so that none but equal prompts are equal. What two prompts share is cut to
//! whole blocks of ids, and prompts of two runs of the router share nothing where the hashes are keyed, as each run has a key of its
//! own. Lines are in the order of arrivals; kept for that are the requests of as long as the longest took, and one number for each
//! distinct block. Of their hashes `MOST_HELD_BYTES` are kept; where that is too little, and where the wall clock was set back or files
//! are given out of order, it is said. Deliberately not here: what was a warm-up, made no tokens, or is beyond the sample.

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
use crate::trace::sampled::Sampled;

/// Tokens of a block, as readers of such files take it to be.
pub const USUAL_BLOCK_TOKENS: u64 = 512;
/// Most memory of prompts whose line is to come, bytes: some two million of 4 KiB.
const MOST_HELD_BYTES: usize = 512 << 20;
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
        forgotten: 0,
        sampled: Sampled::default(),
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
        Item::Other(Record::Run(run), _) => {
            workload.sampled.hear(run);
            Ok(())
        }
        Item::Request(placed) => workload.request(placed.record),
        Item::Other(..) => Ok(()),
    })?;
    workload.release(u64::MAX)?;
    workload.end()
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
    /// Rows without hashes that may have had some, of which there were too many at once.
    forgotten: u64,
    sampled: Sampled,
}

impl Workload<'_> {
    /// Says what has to be said of it; returns its rows.
    fn end(&self) -> Result<u64, ExportError> {
        let sampled = self.sampled.words();
        if self.rows == 0 {
            let why = "no request of the trace tells its tokens in and out, so there is no workload";
            let besides = sampled.map(|words| format!(" ({words})")).unwrap_or_default();
            return Err(ExportError::Unfit(format!("{why}{besides}")));
        }
        if self.hashed == 0 {
            let why = "the trace has no block hashes of prompts, so nothing is known of what they share; record it with \
                       --trace-prompt hash, which is the default, or --trace-decisions journal";
            return Err(ExportError::Unfit(why.to_owned()));
        }
        if self.disordered > 0 {
            log::warn(&format!(
                "the times of {} lines are before that of a line above them: the clock was set back, or the files are not in their order",
                self.disordered
            ));
        }
        if self.forgotten > 0 {
            log::warn(&format!(
                "{} of {} lines share nothing, whatever their prompts did: more than {} MiB of hashes would have had to be kept until the \
                 longest request had ended; export a shorter time at once",
                self.forgotten,
                self.rows,
                MOST_HELD_BYTES >> 20
            ));
        }
        if let Some(words) = sampled {
            log::warn(&words);
        }
        Ok(self.rows)
    }

    fn request(&mut self, record: &RequestRecord) -> Result<(), ExportError> {
        let tokens = self.tokens(record).filter(|_| is_generation(record));
        match tokens.filter(|_| self.sampled.has(record)) {
            Some(tokens) => {
                self.prompts.hear_record(record);
                self.waiting.insert((record.arrival_unix_ns, record.seq), tokens);
            }
            None => {
                self.prompts.take(record.seq);
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
            let prompt = self.prompts.take(seq);
            self.forgotten += u64::from(prompt.is_none() && self.prompts.forgotten_to >= Some(seq));
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
struct Prompts {
    held: BTreeMap<u64, Prompt>,
    held_bytes: usize,
    most_bytes: usize,
    /// The highest number of a request whose prompt there was no room for.
    forgotten_to: Option<u64>,
}

impl Default for Prompts {
    fn default() -> Self {
        Self { held: BTreeMap::new(), held_bytes: 0, most_bytes: MOST_HELD_BYTES, forgotten_to: None }
    }
}

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
    /// The hash that stands for all of the text; `None` where it has none.
    fn whole(&self) -> Option<u64> {
        match self {
            Self::Journal { hashes, .. } => hashes.as_slice().last().copied(),
            Self::Record { hashes, len_bytes } => {
                let is_whole = hashes.keyed().len() as u64 == len_bytes.div_ceil(BLOCK_BYTES);
                hashes.keyed().last().copied().filter(|_| is_whole)
            }
        }
    }

    /// Memory that it takes, about.
    fn held_bytes(&self) -> usize {
        let hashes = match self {
            Self::Journal { hashes, .. } => hashes.as_slice(),
            Self::Record { hashes, .. } => hashes.keyed(),
        };
        size_of::<(u64, Self)>() + size_of_val(hashes)
    }

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
            && !self.held.contains_key(&record.seq)
        {
            self.keep(record.seq, Prompt::Record { hashes: hashes.clone(), len_bytes });
        }
    }

    fn keep(&mut self, seq: u64, prompt: Prompt) {
        self.take(seq);
        self.held_bytes += prompt.held_bytes();
        self.held.insert(seq, prompt);
        while self.held_bytes > self.most_bytes
            && let Some((seq, oldest)) = self.held.pop_first()
        {
            self.held_bytes -= oldest.held_bytes();
            self.forgotten_to = self.forgotten_to.max(Some(seq));
        }
    }

    fn take(&mut self, seq: u64) -> Option<Prompt> {
        let prompt = self.held.remove(&seq)?;
        self.held_bytes -= prompt.held_bytes();
        Some(prompt)
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
        let blocks = tokens.div_ceil(self.block_tokens);
        for block in 0..blocks {
            let hash = prompt.and_then(|prompt| match block + 1 {
                last if last == blocks => prompt.whole(),
                end => prompt.up_to(end * self.block_tokens, bytes_per_token),
            });
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
    fn prompts_with_more_bytes_a_token_than_the_mean_are_told_apart_by_their_last_id() {
        // 1,800 tokens of 6 bytes under a mean of 4: what differs lies behind all cuts.
        let shared = "x".repeat(9_000);
        for told in [prompt, record] {
            let one = told(&format!("{shared}{}", "a".repeat(1_800)));
            let two = told(&format!("{shared}{}", "b".repeat(1_800)));
            let mut known = known(512);
            let first = ids(&mut known, Some(&one), 1_800);
            let second = ids(&mut known, Some(&two), 1_800);
            assert_eq!((&first[..3], first[3] == second[3]), (&second[..3], false));
            assert_eq!(ids(&mut known, Some(&one), 1_800), first);
        }
    }

    #[test]
    fn prompts_for_which_there_is_no_room_are_forgotten_oldest_first_and_it_is_known_which() {
        let one = prompt("text").held_bytes();
        let mut prompts = Prompts { most_bytes: 2 * one, ..Prompts::default() };
        (1..=4).for_each(|seq| prompts.keep(seq, prompt("text")));
        prompts.keep(4, prompt("told"));
        assert_eq!((prompts.forgotten_to, prompts.held_bytes), (Some(2), 2 * one));
        assert!(prompts.take(2).is_none() && prompts.take(3).is_some() && prompts.take(4).is_some());
        assert_eq!(prompts.held_bytes, 0);
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
        assert!(matches!(prompts.held.get(&1), Some(Prompt::Journal { .. })));
        assert!(matches!(prompts.held.get(&2), Some(Prompt::Record { len_bytes: 300, .. })));
        assert_eq!(prompts.held.len(), 2);
    }

    #[test]
    fn a_prompt_without_hashes_shares_with_nobody() {
        let mut known = known(512);
        assert_eq!(ids(&mut known, None, 600), [0, 1]);
        assert_eq!(ids(&mut known, None, 600), [2, 3]);
    }
}
