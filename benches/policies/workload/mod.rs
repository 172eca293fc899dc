//! What is asked of the fleet: requests in the order in which they are listed, all drawn from one seed.
//!
//! Rule: the same for every arm. Arrivals are in units of the mean time between two requests, so that a load is a factor; what
//! follows an answer (the next turn of a chat) follows it by a time that does not scale. Deliberately not here: time, workers.

mod chat;
mod dice;
mod groups;
mod mooncake;
mod plain;

use std::collections::HashMap;

use milepost::sim::tokens::mix;
use milepost_policies::PromptHashes;

use crate::prompt::{self, Piece};

pub use dice::Dice;
pub use groups::OUTPUT_TOKENS;

/// A request before it has a time.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it says.
    pub pieces: Vec<Piece>,
    /// The same as the router sees it.
    pub hashes: PromptHashes,
    /// Length of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the prompt that a cache which never forgets would have.
    pub possible_tokens: u32,
    /// Tokens of its answer.
    pub output_tokens: u32,
    /// What it allows: a router cannot know the length of an answer.
    pub max_new_tokens: u32,
    /// Who it belongs to, a tenant or a conversation: what a client would send as routing key.
    pub key: String,
    /// Arrival in units of the mean time between two requests; `None` for one that follows another's answer.
    pub at: Option<f64>,
    /// What follows its answer.
    pub next: Option<Next>,
}

/// The next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Place in the list.
    pub request: usize,
    /// From the end of the answer to the arrival.
    pub think_ns: u64,
}

/// A request to be: what a workload draws.
struct Draft {
    pieces: Vec<Piece>,
    output_tokens: u32,
    max_new_tokens: u32,
    key: u64,
    at: Option<f64>,
    think_ns: Option<u64>,
}

/// Everything that is asked in one run.
#[derive(Clone, Debug)]
pub struct Workload {
    /// In order of arrival, save those that follow another.
    pub requests: Vec<Request>,
    /// Units from the start to the last arrival that follows nothing.
    pub span: f64,
}

/// A kind of workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Groups with a long common prefix, all asked for alike.
    Balanced,
    /// The same, some asked for far more than others.
    Zipf,
    /// The same; half-way new groups replace all old ones.
    ColdShift,
    /// A recorded conversation service.
    Mooncake,
    /// Chats of several turns.
    Chat,
    /// No two prompts alike.
    Plain,
}

impl Kind {
    /// In the order of the page.
    pub const ALL: [Self; 6] =
        [Self::Balanced, Self::Zipf, Self::ColdShift, Self::Mooncake, Self::Chat, Self::Plain];

    /// Its name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Zipf => "zipf",
            Self::ColdShift => "shift",
            Self::Mooncake => "mooncake",
            Self::Chat => "chat",
            Self::Plain => "plain",
        }
    }

    /// What it is, for the page.
    pub fn about(self) -> &'static str {
        match self {
            Self::Balanced => groups::ABOUT_BALANCED,
            Self::Zipf => groups::ABOUT_ZIPF,
            Self::ColdShift => groups::ABOUT_SHIFT,
            Self::Mooncake => mooncake::ABOUT,
            Self::Chat => chat::ABOUT,
            Self::Plain => plain::ABOUT,
        }
    }

    /// Whether prompts share anything.
    pub fn shares(self) -> bool {
        self != Self::Plain
    }

    /// About so many requests, drawn from `seed`.
    pub fn draw(self, seed: u64, requests: usize) -> Result<Workload, String> {
        let mut dice = Dice::new(seed);
        let drafts = match self {
            Self::Balanced | Self::Zipf | Self::ColdShift => groups::draw(self, &mut dice, requests),
            Self::Mooncake => mooncake::draw(&mut dice, requests)?,
            Self::Chat => chat::draw(&mut dice, requests),
            Self::Plain => plain::draw(&mut dice, requests),
        };
        Ok(Workload::of(drafts))
    }
}

impl Workload {
    /// Requests for the check beside the original router: short ones, of which half share a prefix with others.
    pub fn for_live_check(seed: u64, requests: usize) -> Self {
        Self::of(groups::draw_for_live_check(&mut Dice::new(seed), requests))
    }

    fn of(drafts: Vec<Draft>) -> Self {
        let span = drafts.iter().filter_map(|draft| draft.at).fold(0.0, f64::max);
        let (mut cache, mut text) = (Endless::default(), String::new());
        let requests = drafts.into_iter().enumerate().map(|(place, draft)| {
            let tokens = prompt::tokens(&draft.pieces);
            prompt::text(&tokens, &mut text);
            let possible = cache.ask(&draft.pieces, Piece::answer_of(place, draft.output_tokens));
            Request {
                hashes: PromptHashes::of(text.as_bytes()),
                prompt_tokens: tokens.len() as u32,
                possible_tokens: possible.min(tokens.len() as u32 - 1),
                output_tokens: draft.output_tokens,
                max_new_tokens: draft.max_new_tokens,
                key: format!("{:016x}", draft.key),
                at: draft.at,
                next: draft.think_ns.map(|think_ns| Next { request: place + 1, think_ns }),
                pieces: draft.pieces,
            }
        });
        Self { requests: requests.collect(), span }
    }
}

impl Piece {
    /// The answer to the request at this place of the list.
    pub fn answer_of(place: usize, tokens: u32) -> Self {
        Self::Answer { id: place as u64, tokens }
    }
}

/// A prefix cache that never forgets. It knows pieces, not tokens: no workload shares a part of one.
#[derive(Default)]
struct Endless {
    /// How much of a piece is there, by the chain of names up to it.
    held: HashMap<u64, u32>,
}

impl Endless {
    /// Tokens of a prompt that are there; then it and its answer are.
    fn ask(&mut self, prompt: &[Piece], answer: Piece) -> u32 {
        let (mut chain, mut found, mut is_known) = (0, 0, true);
        for piece in prompt {
            chain = mix(chain ^ piece.name());
            let held = self.held.insert(chain, piece.tokens()).filter(|_| is_known).unwrap_or(0);
            found += held.min(piece.tokens());
            is_known = held == piece.tokens();
        }
        // The last token of an answer was never computed.
        self.held.entry(mix(chain ^ answer.name())).or_insert(answer.tokens() - 1);
        found
    }
}
