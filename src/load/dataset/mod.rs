//! What is sent: prompts with the output length to ask for, from a file or made from a seed.
//!
//! Rule: the same options, file and seed give the same prompts in the same order; a file that cannot be read as asked is an
//! error that names the line, before any request leaves. Deliberately not here: request bodies, see `body`.

mod blocks;
mod custom;
mod file;
mod multi_turn;
mod prompts;
mod random;
pub mod reuse;
pub mod sessions;
mod shared_prefix;
mod sharegpt;
mod trace;
mod words;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

pub use blocks::Blocks;
pub use multi_turn::MultiTurnOptions;
pub use prompts::Prompts;
pub use random::{Drawn, Draws, RandomOptions};
pub use shared_prefix::{Popularity, SharedPrefixOptions};
pub use trace::{TraceFormat, TraceOptions, WekaOptions};
pub use words::approximate_tokens;

/// The text of a prompt, or what it is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text.
    Text(String),
    /// Random tokens or words, drawn when they are needed.
    Drawn(Drawn),
    /// Blocks of a trace: token ids or words, made when they are needed.
    Blocks(Blocks),
    /// What user and model said, in turn, beginning and ending with the user.
    Conversation(Vec<String>),
}

/// Where a request stands in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Which session, from 1.
    pub session: u32,
    /// Which turn of it, from 1.
    pub turn: u32,
    /// What it waits for; `None`: it has a due time of its own.
    pub after: Option<After>,
}

/// What a turn waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// The answer to this prompt, counted from 0.
    pub prompt: usize,
    /// So long after that answer.
    pub think_ns: u64,
    /// And not before this time of the run.
    pub not_before_ns: u64,
    /// It begins with that prompt and its answer.
    pub carries_reply: bool,
}

/// One request to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The file's own id for it.
    pub id: Option<String>,
    /// What is asked.
    pub content: Content,
    /// Prompt tokens as planned: exact for token ids, else an estimate.
    pub planned_tokens: u64,
    /// Output tokens to ask for.
    pub output_tokens: u64,
    /// Which group of a shared prefix it belongs to.
    pub group: Option<u32>,
    /// Where it stands in a session.
    pub turn: Option<Turn>,
}

impl Prompt {
    /// What it waits for; without it it has a due time of its own.
    pub fn after(&self) -> Option<&After> {
        self.turn.as_ref()?.after.as_ref()
    }

    /// What the user says in it, where a later turn says it again.
    pub fn question(&self) -> Option<&String> {
        match (&self.content, &self.turn) {
            (Content::Text(text), Some(_)) => Some(text),
            _ => None,
        }
    }

    /// Words, split on white space; `None` for token ids.
    pub fn words(&self) -> Option<u64> {
        match &self.content {
            Content::Text(text) => Some(text.split_whitespace().count() as u64),
            Content::Blocks(blocks) => blocks.as_words.then_some(blocks.tokens),
            Content::Conversation(said) => {
                Some(said.iter().map(|text| text.split_whitespace().count() as u64).sum())
            }
            Content::Drawn(drawn) => drawn.word_count(),
        }
    }
}

/// Which data, with its options.
#[derive(Clone, Debug, PartialEq)]
pub enum Dataset {
    /// First two turns of shared conversations.
    ShareGpt(FileOptions),
    /// Prompts of random tokens.
    Random(RandomOptions),
    /// The user's own prompts, in the file's order.
    Custom(FileOptions),
    /// Groups of prompts that share a long beginning.
    SharedPrefix(SharedPrefixOptions),
    /// Conversations, each turn on top of the answers that came.
    MultiTurn(MultiTurnOptions),
    /// Requests of a trace, with their times.
    Trace(TraceOptions),
}

/// Options of the data sets that come from a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// `--dataset-path`.
    pub path: Option<PathBuf>,
    /// Ask for this many output tokens, whatever the file says (`--sharegpt-output-len`).
    pub output_tokens: Option<u64>,
    /// Leave out what is longer than this, prompt and output together (`--sharegpt-context-len`).
    pub context_tokens: Option<u64>,
}

/// Prompts and what there is to say about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// In the order in which they are sent.
    pub prompts: Vec<Prompt>,
    /// Lines for the user: what was left out, how lengths were found.
    pub notes: Vec<String>,
    /// When each came, nanoseconds after the first, in order; of traces.
    pub at_ns: Option<Vec<u64>>,
}

/// The same for a run, which need not hold all of them.
#[derive(Clone, Debug)]
pub struct Opened {
    /// In the order in which they are sent.
    pub prompts: Prompts,
    /// Lines for the user: what was left out, how lengths were found.
    pub notes: Vec<String>,
    /// When each came, nanoseconds after the first, in order; of traces.
    pub at_ns: Option<Vec<u64>>,
}

/// Why there are no prompts.
#[derive(Debug, PartialEq, Eq)]
pub struct DatasetError(String);

impl DatasetError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for DatasetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DatasetError {}

impl Dataset {
    /// The name as in `--dataset-name`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ShareGpt(_) => "sharegpt",
            Self::Random(_) => "random",
            Self::Custom(_) => "custom",
            Self::SharedPrefix(_) => "generated-shared-prefix",
            Self::MultiTurn(_) => "multi-turn",
            Self::Trace(options) => options.format.name(),
        }
    }

    /// The file that it comes from.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::ShareGpt(options) | Self::Custom(options) => options.path.as_deref(),
            Self::Trace(options) => options.path.as_deref(),
            Self::Random(_) | Self::SharedPrefix(_) | Self::MultiTurn(_) => None,
        }
    }

    /// Its own options say how many requests it has, whatever number is asked for.
    pub fn counts_itself(&self) -> bool {
        matches!(self, Self::SharedPrefix(_) | Self::MultiTurn(_))
    }

    /// The prompts that [`Dataset::load`] gives; what can be made again is not held.
    ///
    /// # Errors
    /// As there.
    pub fn open(&self, count: usize, seed: u64, exact_tokens: bool) -> Result<Opened, DatasetError> {
        match self {
            Self::Random(options) if count > 0 => {
                let (draws, note) = random::draws(options, count, seed, exact_tokens)?;
                Ok(Opened { prompts: Prompts::Drawn(draws), notes: vec![note], at_ns: None })
            }
            _ => {
                let Loaded { prompts, notes, at_ns } = self.load(count, seed, exact_tokens)?;
                Ok(Opened { prompts: prompts.into(), notes, at_ns })
            }
        }
    }

    /// Reads or makes up to `count` prompts. `exact_tokens` says that the backend takes token ids.
    ///
    /// # Errors
    /// The file is missing or malformed, an id is there twice or cannot be a header value, or nothing is left.
    pub fn load(&self, count: usize, seed: u64, exact_tokens: bool) -> Result<Loaded, DatasetError> {
        let loaded = match self {
            Self::ShareGpt(options) => sharegpt::load(options, count, seed),
            Self::Random(options) => random::make(options, count, seed, exact_tokens),
            Self::Custom(options) => custom::load(options, count),
            Self::SharedPrefix(options) => shared_prefix::make(options, seed),
            Self::MultiTurn(options) => multi_turn::make(options, seed),
            Self::Trace(options) => trace::load(options, count, seed, exact_tokens),
        }?;
        if loaded.prompts.is_empty() {
            return Err(DatasetError::new(format!("dataset {}: no prompt is left to send", self.name())));
        }
        check_ids(&loaded.prompts)?;
        Ok(loaded)
    }
}

/// Ids become `x-request-id`: 1 to 128 visible ASCII characters, none twice.
fn check_ids(prompts: &[Prompt]) -> Result<(), DatasetError> {
    let mut seen = BTreeSet::new();
    for (row, id) in prompts.iter().enumerate().filter_map(|(row, p)| Some((row + 1, p.id.as_deref()?))) {
        if id.is_empty() || id.len() > 128 || !id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(DatasetError::new(format!(
                "prompt {row}: id {id:?} cannot be a request id: expected 1 to 128 visible ASCII characters without spaces"
            )));
        }
        if !seen.insert(id) {
            return Err(DatasetError::new(format!(
                "prompt {row}: id {id:?} is there twice; request ids must be unique in a run"
            )));
        }
    }
    Ok(())
}
