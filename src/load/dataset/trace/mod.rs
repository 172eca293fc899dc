//! Traces of real traffic: when requests came, how long they were, what they had in common.
//!
//! Rule: the file is read row by row and only what a row says is kept (8 bytes a block); prompts of the same length and with
//! the same sharing are made from it when they are sent. What a row does not tell is not made up: where a trace knows nothing
//! of sharing, nothing is shared, and a note says so. Deliberately not here: when requests are due (`schedule`).

mod columns;
mod own_log;
mod rows;
mod turns;
mod weka;

use std::path::PathBuf;
use std::time::Duration;

use super::blocks::{Blocks, mixed};
use super::{Content, DatasetError, Loaded, Prompt, file};
use crate::trace::prompt;

pub use weka::WekaOptions;

/// Blocks of all prompts together: 2 GB of ids.
const MOST_BLOCKS: usize = 250_000_000;
/// Tokens of a prompt: no model has a longer context.
const MOST_TOKENS: u64 = 10_000_000;

/// Whose trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFormat {
    /// JSON lines with `timestamp` in milliseconds and hashes of 512-token blocks.
    Mooncake,
    /// CSV with `TIMESTAMP,ContextTokens,GeneratedTokens`.
    Azure,
    /// CSV with `Timestamp` in seconds, `Request tokens` and `Response tokens`.
    BurstGpt,
    /// JSON lines with chats, turns and hashes of 16-token blocks.
    Bailian,
    /// Sessions of calls with hashes of 64-token blocks and think times, but no times of their own.
    Weka(WekaOptions),
    /// milepost's own trace log.
    Milepost,
}

impl TraceFormat {
    /// The name as in `--dataset-name`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mooncake => "mooncake",
            Self::Azure => "azure",
            Self::BurstGpt => "burstgpt",
            Self::Bailian => "qwen-bailian",
            Self::Weka(_) => "weka",
            Self::Milepost => "milepost-trace",
        }
    }

    /// Tokens of a block of the trace.
    fn block_tokens(self) -> u32 {
        match self {
            Self::Mooncake => 512,
            Self::Azure | Self::BurstGpt | Self::Bailian | Self::Milepost => 16,
            // Each session says it.
            Self::Weka(_) => 64,
        }
    }
}

/// Which trace, with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceOptions {
    /// Whose.
    pub format: TraceFormat,
    /// `--dataset-path`.
    pub path: Option<PathBuf>,
    /// Ask for this many output tokens, whatever the trace says.
    pub output_tokens: Option<u64>,
    /// Leave out what is longer than this, prompt and output together.
    pub context_tokens: Option<u64>,
    /// Leave out what came later than this after the first, in the trace's time.
    pub until: Option<Duration>,
    /// One above the largest token id of prompts.
    pub vocabulary: u32,
}

/// One request of a trace.
#[derive(Debug, Default, PartialEq)]
struct TraceRow {
    /// Since whenever the trace counts from.
    at_ns: u64,
    input_tokens: u64,
    output_tokens: u64,
    /// Ids of its blocks; none where the trace does not tell.
    ids: Vec<u64>,
    /// Bytes of text that its blocks are of, where they are not of tokens.
    text_bytes: u64,
    /// Tokens of a block, where they are not the same in the whole trace.
    block_tokens: Option<u32>,
    /// Its chat and the one it goes on from.
    chat: Option<(i64, i64)>,
    /// From the answer that it goes on from.
    think_ns: u64,
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    LeftOut,
    /// No more rows are wanted.
    Enough,
}

/// Reads up to `count` requests, in the order in which they came.
pub(super) fn load(
    o: &TraceOptions,
    count: usize,
    seed: u64,
    exact_tokens: bool,
) -> Result<Loaded, DatasetError> {
    let path = o.path.as_ref().ok_or_else(|| {
        DatasetError::new(format!("dataset {}: --dataset-path is missing", o.format.name()))
    })?;
    let mut taken = Taken { left: count, ..Taken::default() };
    if o.format == TraceFormat::Milepost {
        let sampled = own_log::read(path, |row| taken.take(row, o) != Fate::Enough)?;
        taken.of_sample = sampled.words();
    } else if let TraceFormat::Weka(options) = o.format {
        let read = weka::read(path, options, o.until, &mut |row| taken.take(row, o))?;
        taken.of_sessions = Some(read);
    } else {
        let mut rows = rows::Rows::new(o.format);
        for line in file::lines(path)? {
            let (number, line) = line?;
            let at = |what: String| {
                DatasetError::new(format!("--dataset-path {} line {number}: {what}", path.display()))
            };
            let Some(row) = rows.read(&line).map_err(at)? else { continue };
            if taken.take(row, o) == Fate::Enough {
                break;
            }
        }
    }
    if taken.blocks > MOST_BLOCKS {
        return Err(DatasetError::new(format!(
            "--dataset-path {}: more than {MOST_BLOCKS} blocks; give --num-prompts or --duration",
            path.display()
        )));
    }
    Ok(taken.loaded(o, seed, exact_tokens))
}

/// What was read so far.
#[derive(Debug, Default)]
struct Taken {
    rows: Vec<TraceRow>,
    left: usize,
    blocks: usize,
    empty: u64,
    too_long: u64,
    misfits: u64,
    unordered: bool,
    /// More rows were there than were asked for.
    ended_by_count: bool,
    /// Of the prompts whose blocks are of text.
    text_bytes: u64,
    text_tokens: u64,
    of_sessions: Option<weka::Read>,
    /// What has to be said of a trace that was sampled.
    of_sample: Option<String>,
}

impl Taken {
    /// Keeps a row that can be sent.
    fn take(&mut self, mut row: TraceRow, o: &TraceOptions) -> Fate {
        if self.left == 0 || self.blocks > MOST_BLOCKS {
            self.ended_by_count |= self.left == 0;
            return Fate::Enough;
        }
        row.output_tokens = o.output_tokens.unwrap_or(row.output_tokens);
        if row.input_tokens == 0 || row.output_tokens == 0 {
            self.empty += 1;
            return Fate::LeftOut;
        }
        let most = o.context_tokens.unwrap_or(MOST_TOKENS).min(MOST_TOKENS);
        if row.input_tokens.saturating_add(row.output_tokens) > most {
            self.too_long += 1;
            return Fate::LeftOut;
        }
        if let (Some(first), Some(until)) = (self.rows.first(), o.until)
            && u128::from(row.at_ns.saturating_sub(first.at_ns)) >= until.as_nanos()
        {
            // Records of our own log are in the order of their ends.
            return if o.format == TraceFormat::Milepost { Fate::LeftOut } else { Fate::Enough };
        }
        let block_tokens = u64::from(row.block_tokens.unwrap_or(o.format.block_tokens()));
        let blocks = row.input_tokens.div_ceil(block_tokens) as usize;
        // Of sessions only blocks that are full have ids.
        let full =
            if row.block_tokens.is_some() { (row.input_tokens / block_tokens) as usize } else { blocks };
        if row.text_bytes > 0 {
            self.text_bytes += row.text_bytes;
            self.text_tokens += row.input_tokens;
        } else if !row.ids.is_empty() && !(full..=blocks).contains(&row.ids.len()) {
            self.misfits += 1;
            row.ids.truncate(blocks);
        }
        self.unordered |= self.rows.last().is_some_and(|last| last.at_ns > row.at_ns);
        self.blocks += row.ids.len();
        self.left -= 1;
        self.rows.push(row);
        Fate::Kept
    }

    fn loaded(mut self, o: &TraceOptions, seed: u64, exact_tokens: bool) -> Loaded {
        if self.unordered {
            self.rows.sort_by_key(|row| row.at_ns);
        }
        let notes = self.notes(o, exact_tokens);
        let block_tokens = self.block_tokens(o.format);
        let first_ns = self.rows.first().map_or(0, |row| row.at_ns);
        let at_ns: Vec<u64> = self.rows.iter().map(|row| row.at_ns - first_ns).collect();
        let turns = turns::of(&self.rows, &at_ns);
        let prompts = self.rows.into_iter().zip(turns).zip(0..).map(|((row, turn), index)| Prompt {
            id: None,
            planned_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            group: None,
            turn,
            content: Content::Blocks(Blocks {
                ids: row.ids.into(),
                block_tokens: row.block_tokens.unwrap_or(block_tokens),
                tokens: row.input_tokens,
                own: mixed(mixed(seed) ^ index),
                vocabulary: o.vocabulary,
                as_words: !exact_tokens,
            }),
        });
        Loaded { prompts: prompts.collect(), notes, at_ns: Some(at_ns) }
    }

    /// Tokens of a block: where blocks are of text, as many as its bytes had on the average of all prompts, and what has none is
    /// of its own.
    fn block_tokens(&mut self, format: TraceFormat) -> u32 {
        if self.text_bytes == 0 {
            return format.block_tokens();
        }
        let tokens = prompt::BLOCK_BYTES as f64 * self.text_tokens as f64 / self.text_bytes as f64;
        let block_tokens = tokens.round().clamp(1.0, f64::from(u32::MAX)) as u32;
        for row in &mut self.rows {
            let blocks = row.input_tokens.div_ceil(u64::from(block_tokens)) as usize;
            row.ids.truncate(if row.text_bytes > 0 { blocks } else { 0 });
        }
        block_tokens
    }

    fn notes(&self, o: &TraceOptions, exact_tokens: bool) -> Vec<String> {
        let name = o.format.name();
        let (input, output): (u64, u64) =
            (self.rows.iter().map(|r| r.input_tokens).sum(), self.rows.iter().map(|r| r.output_tokens).sum());
        let how = if exact_tokens { "exact, sent as input_ids" } else { "about one a word" };
        let mut notes = vec![format!(
            "{name}: {} requests, {input} prompt tokens ({how}), {output} output tokens asked for",
            self.rows.len()
        )];
        let mut note = |count: u64, what: &str| {
            if count > 0 {
                notes.push(format!("{name}: {count} {what}"));
            }
        };
        note(self.empty, "rows without prompt or answer were left out (failed when the trace was taken)");
        note(self.too_long, "rows are longer than the context length and were left out");
        note(
            self.misfits,
            "rows have more or fewer block ids than their length needs: cut, or filled with tokens of their own",
        );
        if self.unordered && o.format != TraceFormat::Milepost {
            notes.push(format!("{name}: rows were not in the order of their times and were put into it"));
        }
        notes.extend(self.of_sample.as_ref().map(|words| format!("{name}: {words}")));
        match o.format {
            TraceFormat::Azure | TraceFormat::BurstGpt => {
                notes.push(format!("{name}: the trace tells nothing of sharing; every prompt is of its own"));
            }
            TraceFormat::Milepost if self.text_bytes > 0 => {
                notes.push(format!("{name}: {}", own_log::BY_HASHES));
            }
            TraceFormat::Milepost => notes.push(format!("{name}: {}", own_log::APPROXIMATE)),
            TraceFormat::Weka(options) => {
                let weka::Read { sessions, cut, ended_inside } = self.of_sessions.unwrap_or_default();
                notes.push(format!(
                    "{name}: {sessions} sessions; the trace does not tell when they began: all begin at once, or as --request-rate says"
                ));
                let most_s = options.most_think.as_secs_f64();
                if cut > 0 {
                    notes.push(format!("{name}: {cut} think times are cut to {most_s} s (--weka-max-think)"));
                }
                if self.ended_by_count && ended_inside {
                    notes.push(format!(
                        "{name}: --num-prompts ends in the middle of session {sessions}; its later calls are not sent"
                    ));
                }
            }
            TraceFormat::Bailian if self.ended_by_count => notes.push(format!(
                "{name}: --num-prompts ends the trace early; later turns of chats that began are not sent"
            )),
            TraceFormat::Mooncake | TraceFormat::Bailian => {}
        }
        notes
    }
}
