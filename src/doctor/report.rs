//! What an examination found, as values.
//!
//! Rule: this is what `--json` prints, so each field says what it is with its unit last; absent is what was not found out.
//! Deliberately not here: how it was found out, and the words for people (`text`).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::wire::meta_info::StampClock;

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The worst verdict, and `unusable` only where nobody is of use.
    pub verdict: Overall,
    /// The servers in the order in which they were named, then the router.
    pub targets: Vec<Examined>,
}

/// How it stands with all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// Nothing is missing anywhere.
    Well,
    /// All can be used, and something is missing.
    Lacking,
    /// Some cannot be used.
    SomeUnusable,
    /// None can be used.
    Unusable,
}

/// How it stands with one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is missing.
    #[default]
    Well,
    /// It can be used, and something is missing.
    Lacking,
    /// It cannot be used.
    Unusable,
}

/// As what a URL was named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// `--worker-urls`.
    #[default]
    Worker,
    /// `--router`.
    Router,
}

/// What answers at a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nobody.
    #[default]
    Nobody,
    /// Something that speaks no HTTP/1.1.
    NoHttp,
    /// An HTTP server that is no SGLang server.
    Http,
    /// An SGLang server.
    Sglang,
    /// A router.
    Router,
}

/// What was found at one URL.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Examined {
    /// Where.
    pub url: String,
    /// As what it was named.
    pub role: Role,
    /// How it stands.
    pub verdict: Verdict,
    /// What it is.
    pub what: Kind,
    /// Why nobody answered, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What it says it is.
    pub identity: Identity,
    /// Both ends of the connection are on one host, by their addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_host: Option<bool>,
    /// The streamed request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streamed: Option<Heard>,
    /// The plain one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain: Option<Heard>,
    /// Its wall clock against this host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_clock: Option<WallClock>,
    /// Its clocks are not those of this host, though its address is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_clocks: Option<OtherClocks>,
    /// What it says of its load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadTold>,
    /// How long it keeps an idle connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
    /// Whether a client that leaves ends its request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// What is wrong or missing, and what to know; the worst first.
    pub findings: Vec<Finding>,
}

/// What a server says it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Identity {
    /// SGLang's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Name under which the model is served, else its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `python` or `rust`, from 0.5.23 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front_end: Option<String>,
    /// It says that it is simulated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simulated: Option<bool>,
    /// Which router it is: `milepost`, `sglang-router`, or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<&'static str>,
    /// Flags of the engine that matter to a router, as it told them.
    pub engine: BTreeMap<&'static str, Value>,
    /// Most tokens that one request may have, prompt included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_tokens: Option<u64>,
    /// It asks for a key that it was not given, to generate: the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wants_key: Option<u16>,
    /// It does so only where it is asked what it is: the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hides_description: Option<u16>,
}

/// One request, as it was answered.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Heard {
    /// Status; absent without a head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What went wrong, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Events with data.
    pub events: u64,
    /// Prompt tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// Of these, found in the prefix cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    /// Generated tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// First token here, after it was sent; streams only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ns: Option<u64>,
    /// Last byte here, after it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_byte_ns: Option<u64>,
    /// The server's stamps as it sent them.
    pub stamps: Vec<StampFound>,
    /// The columns that are made of them.
    pub columns: Vec<Column>,
    /// Largest bound of a placed moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_bound_ns: Option<u64>,
    /// The placed moments are out of order by more than the bound.
    pub order_broken: bool,
    /// Headers that a router put on the answer.
    pub router_headers: Vec<&'static str>,
    /// The worker that a router says it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_url: Option<String>,
}

/// A stamp that was in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StampFound {
    /// The server's name for it.
    pub name: &'static str,
    /// Its clock.
    pub clock: StampClock,
    /// As it was sent, seconds.
    pub value_s: f64,
}

/// A column of the trace's CSV.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it is made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_of: Option<&'static str>,
    /// The moment, after the request was sent; of a duration its length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_ns: Option<i64>,
    /// Why it stays empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<&'static str>,
}

/// A server's wall clock against this host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WallClock {
    /// How far it is ahead; negative: behind.
    pub ahead_ns: i64,
    /// The truth is at most this far from that.
    pub bound_ns: u64,
}

/// Which clocks of a server are not this host's though its address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OtherClocks {
    /// Its monotonic stamps lie outside the request that they are of.
    Monotonic,
    /// Its wall clock is off by more than the bound.
    Wall,
}

/// What a server says of its load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadTold {
    /// Where it says so; absent: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<&'static str>,
    /// Requests in its batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<u32>,
    /// Requests that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
    /// Endpoints that were asked before in vain, with the reason.
    pub in_vain: Vec<String>,
}

/// How long an idle connection is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Idle {
    /// Closed after this time.
    ClosedAfterNs(u64),
    /// Still open after this time, when it was looked at no longer.
    OpenAfterNs(u64),
    /// The answer said that the connection ends with it.
    NotKept,
}

/// What becomes of the work when its client leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It is dropped.
    Ends {
        /// Time until it was seen to have ended.
        after_ns: u64,
        /// Where that was seen.
        seen_at: String,
    },
    /// It goes on.
    RunsOn {
        /// Time for which it was seen to go on; then it was aborted by name.
        for_ns: u64,
        /// Where that was seen.
        seen_at: String,
    },
    /// Nobody can tell.
    Untold {
        /// Why.
        why: String,
    },
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The server cannot be used.
    Fault,
    /// Something is missing.
    Lack,
    /// Good to know.
    Note,
}

impl Level {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Lack => "missing",
            Self::Note => "note",
        }
    }
}

/// Something that was found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What.
    pub what: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Report {
    /// Of these.
    pub(super) fn new(targets: Vec<Examined>) -> Self {
        let unusable = targets.iter().filter(|target| target.verdict == Verdict::Unusable).count();
        let verdict = match unusable {
            0 if targets.iter().all(|target| target.verdict == Verdict::Well) => Overall::Well,
            0 => Overall::Lacking,
            _ if unusable == targets.len() => Overall::Unusable,
            _ => Overall::SomeUnusable,
        };
        Self { verdict, targets }
    }

    /// How many have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.targets.iter().filter(|target| target.verdict == verdict).count()
    }
}
