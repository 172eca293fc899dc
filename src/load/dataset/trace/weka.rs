//! Sessions in the form of Weka's `kv-cache-tester`: the calls of coding tools, session by session, with hashes of their blocks.
//!
//! Rule: what a call waited for when it was recorded it waits for again: the answer before it, and then as long as its client
//! took. A sub-task begins after the answer before it; the call behind sub-tasks waits for the one of them that was answered
//! last in the recording, as a turn can wait for one answer only. Calls that overlapped come one after the other. When a session
//! began the trace does not tell, so each counts from its own beginning; nor does it tell of which text, so that sessions share
//! nothing unless it says that its ids are global. Deliberately not here: traces that are one request a line (`rows`).

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{Fate, TraceRow};
use crate::load::dataset::{DatasetError, file};

/// Tokens of a block where a session does not say.
const BLOCK_TOKENS: u32 = 64;
/// No model's cache has larger ones.
const MOST_BLOCK_TOKENS: u32 = 1 << 20;
/// Files of a folder at most.
const MOST_FILES: usize = 1_000_000;
/// Longest time in a session: 30 years.
const MOST_SECONDS: f64 = 1e9;
/// Keeps ids that all sessions share apart from those of one.
const GLOBAL: u64 = 1 << 63;

/// `--weka-*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WekaOptions {
    /// Sessions at most; none: all.
    pub sessions: Option<u32>,
    /// Longer think times are cut to this.
    pub most_think: Duration,
}

/// One object of a file.
#[derive(Deserialize)]
#[serde(expecting = "a session: an object with requests")]
struct Session {
    #[serde(alias = "trace_id", default)]
    id: String,
    #[serde(default = "usual_block_tokens")]
    block_size: u32,
    #[serde(default)]
    hash_id_scope: Scope,
    requests: Vec<Call>,
}

fn usual_block_tokens() -> u32 {
    BLOCK_TOKENS
}

/// Where two equal ids are one block.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    #[default]
    Local,
    Global,
}

/// A call, or a sub-task with calls of its own.
#[derive(Deserialize)]
#[serde(expecting = "a request: an object with t, in, out and hash_ids")]
struct Call {
    /// Seconds from the beginning of the session; of calls of a sub-task also from its own.
    t: f64,
    #[serde(rename = "type", default)]
    kind: Kind,
    #[serde(rename = "in", alias = "input_length")]
    input_tokens: Option<u64>,
    #[serde(rename = "out", alias = "output_length")]
    output_tokens: Option<u64>,
    #[serde(default)]
    hash_ids: Vec<u64>,
    /// Seconds to the end of the answer.
    api_time: Option<f64>,
    /// Seconds from the answer before.
    think_time: Option<f64>,
    /// Of a sub-task: `async_launched` where nobody waited for it.
    status: Option<String>,
    #[serde(default)]
    requests: Vec<Call>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum Kind {
    /// Streamed or not.
    #[default]
    #[serde(rename = "n", alias = "s")]
    Call,
    #[serde(rename = "subagent")]
    SubTask,
}

/// Reads a file of sessions (one, one a line or one after the other), or all `.json` and `.jsonl` files of a folder by name.
pub(super) fn read(
    path: &Path,
    options: WekaOptions,
    until: Option<Duration>,
    take: &mut dyn FnMut(TraceRow) -> Fate,
) -> Result<Read, DatasetError> {
    let mut walk = Walk {
        most_think_s: options.most_think.as_secs_f64(),
        until_s: until.map_or(f64::INFINITY, |until| until.as_secs_f64()),
        take,
        ids: Ids::default(),
        taken: 0,
        calls: 0,
        read: Read::default(),
    };
    for path in files(path)? {
        let fail =
            |what: &dyn Display| DatasetError::new(format!("--dataset-path {}: {what}", path.display()));
        let text = file::read(&path)?;
        if text.trim_start().starts_with('[') {
            return Err(fail(
                &"a list; expected one session after the other, such as jq -c '.[]' makes of it",
            ));
        }
        for session in serde_json::Deserializer::from_str(&text).into_iter::<Session>() {
            let session = session.map_err(|e| fail(&e))?;
            if options.sessions.is_some_and(|most| walk.read.sessions >= u64::from(most)) {
                return Ok(walk.read);
            }
            match walk.session(&session) {
                Ok(()) => {}
                Err(Stop::Enough) => return Ok(walk.read),
                Err(Stop::Wrong(what)) => {
                    let (id, call) = (&session.id, walk.calls);
                    return Err(fail(&format!("session {id:?}, request {call}: {what}")));
                }
            }
        }
    }
    Ok(walk.read)
}

/// What there is to say of what was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Sessions with a call that is sent.
    pub sessions: u64,
    /// Think times that were cut.
    pub cut: u64,
    /// No more were wanted in the middle of the last one.
    pub ended_inside: bool,
}

fn files(path: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let fail = |what: &dyn Display| DatasetError::new(format!("--dataset-path {}: {what}", path.display()));
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| fail(&e))? {
        let path = entry.map_err(|e| fail(&e))?.path();
        if path.extension().is_some_and(|e| e == "json" || e == "jsonl") {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            return Err(fail(&format!("more than {MOST_FILES} files")));
        }
    }
    if files.is_empty() {
        return Err(fail(&"the folder has no .json or .jsonl files; expected sessions of kv-cache-tester"));
    }
    files.sort();
    Ok(files)
}

/// Numbers blocks so that those of two sessions are two, though each session counts from 1.
#[derive(Default)]
struct Ids {
    of_session: HashMap<u64, u64>,
    next: u64,
}

impl Ids {
    fn number(&mut self, scope: Scope, id: u64) -> u64 {
        if scope == Scope::Global {
            return id | GLOBAL;
        }
        *self.of_session.entry(id).or_insert_with(|| {
            self.next += 1;
            self.next
        })
    }
}

/// Why a session is not read on.
enum Stop {
    Enough,
    Wrong(String),
}

/// An answer that may be waited for.
#[derive(Clone, Copy)]
struct Answer {
    /// Of the row.
    number: i64,
    begun_s: f64,
    ended_s: f64,
    /// When it ended is recorded.
    timed: bool,
}

/// The later one.
fn later(a: Option<Answer>, b: Option<Answer>) -> Option<Answer> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.ended_s > a.ended_s { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Goes through sessions and hands over their calls.
struct Walk<'a> {
    most_think_s: f64,
    until_s: f64,
    take: &'a mut dyn FnMut(TraceRow) -> Fate,
    ids: Ids,
    /// Rows handed over and kept.
    taken: i64,
    /// Calls of this session so far.
    calls: u64,
    read: Read,
}

impl Walk<'_> {
    fn session(&mut self, session: &Session) -> Result<(), Stop> {
        self.calls = 0;
        self.ids.of_session.clear();
        if !(1..=MOST_BLOCK_TOKENS).contains(&session.block_size) {
            let what =
                format!("block_size: expected 1 to {MOST_BLOCK_TOKENS} tokens, got {}", session.block_size);
            return Err(Stop::Wrong(what));
        }
        let before = self.taken;
        let walked = self.chain(session, &session.requests, None, 0.0);
        self.read.sessions += u64::from(self.taken > before);
        self.read.ended_inside = self.taken > before && matches!(walked, Err(Stop::Enough));
        walked.map(|_| ())
    }

    /// Calls that come one after the other, the first after an answer; the last answer of theirs.
    fn chain(
        &mut self,
        session: &Session,
        calls: &[Call],
        after: Option<Answer>,
        base_s: f64,
    ) -> Result<Option<Answer>, Stop> {
        let (mut last, mut of_sub_tasks) = (after, None);
        for call in calls {
            if call.kind == Kind::Call {
                let waits = later(last, of_sub_tasks.take());
                last = self.call(session, call, waits, base_s)?.or(waits);
                continue;
            }
            seconds("t", call.t)?;
            // The format counts them from the sub-task's beginning; published files often from the session's.
            let own_time = call.requests.first().is_some_and(|first| first.t < call.t);
            let base_s = if own_time { base_s + call.t } else { base_s };
            let ended = self.chain(session, &call.requests, last, base_s)?;
            if call.status.as_deref() != Some("async_launched") {
                of_sub_tasks = later(of_sub_tasks, ended);
            }
        }
        Ok(later(last, of_sub_tasks))
    }

    /// Hands over one call; none where it is left out.
    fn call(
        &mut self,
        session: &Session,
        call: &Call,
        waits: Option<Answer>,
        base_s: f64,
    ) -> Result<Option<Answer>, Stop> {
        self.calls += 1;
        let begun_s = base_s + seconds("t", call.t)?;
        let took_s = call.api_time.map(|took_s| seconds("api_time", took_s)).transpose()?;
        let thought_s = call.think_time.map(|thought_s| seconds("think_time", thought_s)).transpose()?;
        let input_tokens = call.input_tokens.ok_or_else(|| Stop::Wrong("in is missing".to_owned()))?;
        let output_tokens = call.output_tokens.ok_or_else(|| Stop::Wrong("out is missing".to_owned()))?;
        if begun_s >= self.until_s {
            return Ok(None);
        }
        let think_s = waits.map_or(0.0, |answer| match thought_s {
            Some(thought_s) if !answer.timed => thought_s,
            _ => (begun_s - if answer.timed { answer.ended_s } else { answer.begun_s }).max(0.0),
        });
        let number = self.taken + 1;
        let ids = call.hash_ids.iter().map(|id| self.ids.number(session.hash_id_scope, *id)).collect();
        let row = TraceRow {
            at_ns: 0,
            input_tokens,
            output_tokens,
            ids,
            block_tokens: Some(session.block_size),
            chat: Some((number, waits.map_or(-1, |answer| answer.number))),
            think_ns: (think_s.min(self.most_think_s) * 1e9) as u64,
            ..TraceRow::default()
        };
        match (self.take)(row) {
            Fate::Enough => Err(Stop::Enough),
            Fate::LeftOut => Ok(None),
            Fate::Kept => {
                self.taken = number;
                self.read.cut += u64::from(think_s > self.most_think_s);
                let ended_s = begun_s + took_s.unwrap_or(0.0);
                Ok(Some(Answer { number, begun_s, ended_s, timed: took_s.is_some() }))
            }
        }
    }
}

fn seconds(name: &str, value: f64) -> Result<f64, Stop> {
    if (0.0..=MOST_SECONDS).contains(&value) {
        Ok(value)
    } else {
        Err(Stop::Wrong(format!("{name}: expected 0 to {MOST_SECONDS} seconds, got {value}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, text: &str, until: Option<Duration>) -> Result<(Vec<TraceRow>, Read), String> {
        let path = std::env::temp_dir().join(format!("milepost-weka-{}-{name}.json", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let options = WekaOptions { sessions: None, most_think: Duration::from_secs(60) };
        let mut rows = Vec::new();
        // What has no output is left out, as of every trace.
        let read = read(&path, options, until, &mut |row| {
            if row.output_tokens == 0 {
                return Fate::LeftOut;
            }
            rows.push(row);
            Fate::Kept
        });
        std::fs::remove_file(&path).unwrap();
        read.map(|read| (rows, read)).map_err(|e| e.to_string())
    }

    fn chats(rows: &[TraceRow]) -> Vec<(i64, i64, u64)> {
        let each = rows.iter().map(|row| (row.chat.unwrap(), row.think_ns / 1_000_000));
        each.map(|((number, parent), think_ms)| (number, parent, think_ms)).collect()
    }

    #[test]
    fn a_call_behind_sub_tasks_waits_for_the_one_that_was_answered_last() {
        let text = r#"{"id":"a","requests":[
            {"t":0,"type":"s","in":70,"out":1,"hash_ids":[1],"api_time":2},
            {"t":5,"type":"subagent","status":"completed","requests":[
                {"t":0,"type":"n","in":70,"out":1,"hash_ids":[8],"api_time":1},
                {"t":3,"type":"n","in":70,"out":1,"hash_ids":[8],"api_time":1}]},
            {"t":5.5,"type":"subagent","status":"completed","requests":[
                {"t":6,"type":"n","in":70,"out":1,"hash_ids":[8],"api_time":1}]},
            {"t":5.5,"type":"subagent","status":"async_launched","requests":[
                {"t":6,"type":"n","in":70,"out":1,"hash_ids":[8],"api_time":99}]},
            {"t":10,"type":"n","in":70,"out":1,"hash_ids":[1],"api_time":2}]}"#;
        let (rows, read) = read_text("sub", text, None).unwrap();
        assert_eq!(
            chats(&rows),
            [(1, -1, 0), (2, 1, 3000), (3, 2, 2000), (4, 1, 4000), (5, 1, 4000), (6, 3, 1000)]
        );
        assert_eq!(read, Read { sessions: 1, cut: 0, ended_inside: false });
    }

    #[test]
    fn what_is_left_out_is_not_waited_for() {
        let text = r#"{"id":"a","requests":[{"t":0,"in":70,"out":1,"api_time":2},{"t":4,"in":70,"out":0,"api_time":1},
            {"t":9,"in":70,"out":1},{"t":10,"in":70,"out":1,"think_time":0.5},{"t":99,"in":70,"out":1}]}"#;
        let (rows, read) = read_text("left", text, None).unwrap();
        assert_eq!(chats(&rows), [(1, -1, 0), (2, 1, 7000), (3, 2, 500), (4, 3, 60_000)]);
        assert_eq!(read.cut, 1);
        let until = Some(Duration::from_secs(10));
        assert_eq!(read_text("until", text, until).unwrap().0.len(), 2);
    }

    #[test]
    fn ids_are_of_their_session_unless_it_says_otherwise() {
        let session = |scope: &str| {
            format!(r#"{{"hash_id_scope":"{scope}","requests":[{{"t":0,"in":9,"out":1,"hash_ids":[1,7]}}]}}"#)
        };
        let ids = |scope: &str| {
            let text = format!("{}\n{}\n", session(scope), session(scope));
            read_text(scope, &text, None).unwrap().0.into_iter().map(|row| row.ids).collect::<Vec<_>>()
        };
        assert_eq!(ids("local"), [[1, 2], [3, 4]]);
        assert_eq!(ids("global")[0], ids("global")[1]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (name, text, word) in [
            ("array", "[{}]", "a list; expected one session after the other"),
            ("text", "\"a\"", "expected a session"),
            ("none", "{\"id\":\"a\"}", "missing field `requests`"),
            ("half", "{\"id\":\"a\",\n\"requests\":[{\"t\":0", "line 2"),
            ("size", r#"{"block_size":0,"requests":[]}"#, "block_size: expected 1"),
            ("kind", r#"{"requests":[{"t":0,"type":"x"}]}"#, "unknown variant `x`"),
            ("id", r#"{"requests":[{"t":0,"in":1,"out":1,"hash_ids":[-1]}]}"#, "`-1`"),
            (
                "in",
                r#"{"id":"z","requests":[{"t":0,"in":1,"out":1},{"t":1,"out":1}]}"#,
                "session \"z\", request 2: in is missing",
            ),
            ("time", r#"{"requests":[{"t":-1,"in":1,"out":1}]}"#, "t: expected 0 to"),
            ("think", r#"{"requests":[{"t":1,"in":1,"out":1,"think_time":-3}]}"#, "think_time: expected"),
        ] {
            let told = read_text(name, text, None).unwrap_err();
            assert!(told.contains(word) && told.contains(name), "{name}: {told}");
        }
    }
}
