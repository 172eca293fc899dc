//! Which objects of an answer are read, and what they add up to.
//!
//! `/generate` text is cumulative, so reading every event would be quadratic. Read are: events up to the first with tokens
//! and the first with text, events that look like errors, and the last ones before `[DONE]`, which are held as they pass
//! (OpenAI needs three: the finish reason may stand before usage and extension events; of `/v1/responses` the last has all). A
//! stream of several members is read whole, as its members interleave. Rule: a later count replaces an earlier one, an
//! unreadable one voids it. Deliberately not here: chunks, status codes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Endpoint;
use super::answer::{TokenTime, Tokens};
use super::meta_info::{Finish, MetaInfo};
use super::reply::{ErrorBody, Reply, worse};
use super::sse::{Event, KEPT_BYTES};

/// Members of one answer that are told apart.
const MAX_MEMBERS: usize = 65_536;
/// Token times kept.
const MAX_TOKEN_TIMES: usize = 1 << 20;
const COMPLETION_TOKENS: &[u8] = b"\"completion_tokens\":";

/// What the objects of one answer told so far.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each of one answer")]
pub(super) struct Gather {
    pub(super) endpoint: Endpoint,
    /// The answer interleaves several members.
    pub(super) multiple: bool,
    pub(super) events: u64,
    pub(super) overlong_events: u64,
    pub(super) first_event_ns: Option<u64>,
    pub(super) first_token_ns: Option<u64>,
    pub(super) done: bool,
    pub(super) has_text: bool,
    /// Some object had `choices`.
    pub(super) has_choices: bool,
    pub(super) error: Option<ErrorBody>,
    pub(super) token_times: Option<Vec<TokenTime>>,
    // The last events, the oldest first.
    held: VecDeque<Vec<u8>>,
    // Most answers have one member.
    first: Option<(u64, MetaInfo)>,
    others: BTreeMap<u64, MetaInfo>,
    usage: Tokens,
    finish: Option<Finish>,
    /// A count was lost with an event that could not be read.
    void: bool,
    text_events: u64,
    /// Members that have had a token, where token times are noted.
    started: BTreeSet<u64>,
    /// Numbers in the token times of several members, by their index.
    numbers: BTreeMap<u64, u32>,
}

impl Gather {
    pub(super) fn new(endpoint: Endpoint, multiple: bool) -> Self {
        Self { endpoint, multiple, ..Self::default() }
    }

    /// Takes one event that ended in a chunk read at `at_ns`.
    pub(super) fn event(&mut self, event: Event<'_>, at_ns: u64) {
        if event.data == b"[DONE]" {
            self.done = true;
            return;
        }
        self.events += 1;
        self.overlong_events += u64::from(event.overlong);
        self.first_event_ns.get_or_insert(at_ns);
        if !self.endpoint.generates() {
            return;
        }
        if event.overlong {
            self.settle();
            self.void = true;
        } else if self.must_read(event.data) {
            self.settle();
            self.read(event.data, Some(at_ns));
        } else {
            self.hold(event.data, at_ns);
        }
    }

    /// Reads the events that were held.
    pub(super) fn settle(&mut self) {
        while let Some(held) = self.held.pop_front() {
            self.read(&held, None);
        }
    }

    /// Adds one object.
    pub(super) fn add(&mut self, reply: Reply) {
        // Counts are cumulative, so a later one makes good what was lost; of several members it cannot be told whose it was.
        let counts = reply.meta.is_some() || reply.usage != Tokens::default();
        self.void &= self.multiple || !counts;
        self.has_text |= reply.text;
        self.has_choices |= reply.choices > 0;
        self.done |= reply.last;
        self.finish = worse(self.finish.take(), reply.finish);
        self.usage = self.usage.updated_by(reply.usage);
        if self.error.is_none() {
            self.error = reply.error;
        }
        let Some(meta) = reply.meta else { return };
        let index = reply.index.unwrap_or(0);
        let member = match &mut self.first {
            none @ None => {
                *none = Some((index, meta));
                return;
            }
            Some((first, member)) if *first == index => member,
            Some(_) if self.others.len() >= MAX_MEMBERS && !self.others.contains_key(&index) => {
                self.void = true;
                return;
            }
            Some(_) => self.others.entry(index).or_default(),
        };
        member.tokens = member.tokens.updated_by(meta.tokens);
        member.stamps = member.stamps.updated_by(&meta.stamps);
        member.finish = meta.finish.or(member.finish.take());
    }

    /// Counts, stamps and finish of all members together.
    pub(super) fn total(&mut self) -> (Tokens, MetaInfo) {
        let mut meta = match self.first.take() {
            Some((_, only)) if self.others.is_empty() => only,
            first => {
                self.others.extend(first);
                std::mem::take(&mut self.others).into_values().reduce(MetaInfo::merged).unwrap_or_default()
            }
        };
        meta.finish = worse(meta.finish, self.finish.take());
        let tokens = if self.void { Tokens::default() } else { meta.tokens.updated_by(self.usage) };
        (tokens, meta)
    }

    fn members(&self) -> impl Iterator<Item = &MetaInfo> {
        self.first.iter().map(|(_, meta)| meta).chain(self.others.values())
    }

    fn must_read(&self, data: &[u8]) -> bool {
        self.multiple
            || self.first_token_ns.is_none()
            || (!self.has_text && !shows_text(data))
            || data.starts_with(b"{\"error\"")
            || data.starts_with(b"{\"object\":\"error\"")
            || (self.token_times.is_some() && self.endpoint != Endpoint::Generate)
    }

    fn hold(&mut self, data: &[u8], at_ns: u64) {
        self.has_text = true;
        if self.token_times.is_some() {
            self.note_tokens(last_count(data), 0, at_ns);
        }
        let most = if self.endpoint == Endpoint::Generate { 1 } else { 3 };
        let mut room =
            if self.held.len() < most { Vec::new() } else { self.held.pop_front().unwrap_or_default() };
        room.clear();
        // Of a long one before; one of this length has room to grow.
        room.shrink_to(KEPT_BYTES.max(2 * data.len()));
        room.extend_from_slice(data);
        self.held.push_back(room);
    }

    fn read(&mut self, data: &[u8], at_ns: Option<u64>) {
        let Ok(reply) = Reply::parse(self.endpoint, data) else {
            self.void = true;
            return;
        };
        let counted = reply.meta.as_ref().and_then(|m| m.tokens.completion_tokens).is_some_and(|n| n > 0);
        let tokens = if self.endpoint == Endpoint::Generate { counted } else { reply.choices > 0 };
        self.text_events += u64::from(reply.text);
        let index = reply.choice_index.or(reply.index).unwrap_or(0);
        self.add(reply);
        let Some(at_ns) = at_ns else { return };
        if tokens {
            self.first_token(index, at_ns);
        }
        // Of several members a sum at the end is no token of one.
        if self.token_times.is_some() && (tokens || !self.multiple) {
            let so_far = if self.endpoint == Endpoint::Generate {
                self.members().filter_map(|m| m.tokens.completion_tokens).fold(0, u64::saturating_add)
            } else {
                // A running count is of one member.
                self.usage.completion_tokens.filter(|_| !self.multiple).unwrap_or(self.text_events)
            };
            self.note_tokens(Some(so_far), index, at_ns);
        }
    }

    /// Of a load's request with several members all must have begun: its first token is that of the member whose first came last.
    fn first_token(&mut self, index: u64, at_ns: u64) {
        let is_batch = self.multiple && self.token_times.is_some() && self.started.len() < MAX_MEMBERS;
        if is_batch && self.started.insert(index) {
            self.first_token_ns = Some(at_ns);
        }
        self.first_token_ns.get_or_insert(at_ns);
    }

    fn note_tokens(&mut self, so_far: Option<u64>, index: u64, at_ns: u64) {
        let (Some(times), Some(tokens)) = (&mut self.token_times, so_far) else {
            return;
        };
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let before = times.last().map_or(0, |t| t.tokens);
        if tokens <= before || times.len() >= MAX_TOKEN_TIMES {
            return;
        }
        // Most answers have one member, and no look-up.
        let known = if self.multiple { self.numbers.len() } else { 0 };
        let member = if self.multiple { *self.numbers.entry(index).or_insert(known as u32) } else { 0 };
        times.push(TokenTime { at_ns, tokens, member });
    }
}

/// A cheap yes for `/generate`, where every SGLang writes `text` first.
fn shows_text(data: &[u8]) -> bool {
    data.strip_prefix(b"{\"text\":\"").is_some_and(|rest| rest.first() != Some(&b'"'))
}

/// The last `completion_tokens` of an event. The bytes looked for cannot stand inside a JSON string, where the second quote
/// would be escaped; searched from the end, as the text comes first.
fn last_count(data: &[u8]) -> Option<u64> {
    let at = data.windows(COMPLETION_TOKENS.len()).rposition(|w| w == COMPLETION_TOKENS)?;
    let rest = data[at + COMPLETION_TOKENS.len()..].trim_ascii_start();
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_count_is_not_fooled_by_text() {
        let event = br#"{"text":"\"completion_tokens\":9 \"completion_tokens\": 9","meta_info":{"completion_tokens": 3,"x":1}}"#;
        assert_eq!(last_count(event), Some(3));
        assert_eq!(last_count(br#"{"completion_tokens":null}"#), None);
        assert_eq!(last_count(br#"{"text":"completion_tokens"}"#), None);
    }

    #[test]
    fn text_is_seen_cheaply() {
        assert!(shows_text(br#"{"text":"a"#));
        assert!(!shows_text(br#"{"text":"","meta"#));
        assert!(!shows_text(br#"{"meta_info":{},"text":"a"}"#));
    }

    #[test]
    fn the_room_of_a_long_event_is_not_kept_for_short_ones() {
        let mut gather = Gather::new(Endpoint::Generate, false);
        let mut event = |text: &str| {
            let data = format!(r#"{{"text":"{text}","meta_info":{{"completion_tokens":1}}}}"#);
            gather.event(Event { data: data.as_bytes(), overlong: false }, 1);
            gather.held.iter().map(Vec::capacity).sum::<usize>()
        };
        event("a");
        assert!(event(&"a".repeat(1 << 20)) >= 1 << 20);
        assert!(event("b") <= 2 * KEPT_BYTES);
    }
}
