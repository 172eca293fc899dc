//! `meta_info`: the server's own stamps and counts, read by presence of a field, never by version.
//!
//! Rule: values stay as they were sent, in the server's unit and clock; the table of names is `facts` of SGLang 0.4.8 to
//! 0.5.23. Deliberately not here: alignment to the router's clock, see [`crate::trace::align`].

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::answer::Tokens;
use super::json::{Cursor, Malformed};

/// Timing fields of `meta_info`, raw. Each is absent unless the server sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerStamps {
    /// Seconds from created to finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e2e_latency: Option<f64>,
    /// Patched 0.4.9: accepted by the HTTP process, Unix seconds (`time.time()`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_created_time: Option<f64>,
    /// Patched 0.4.9: first output seen by the HTTP process, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_first_token_time: Option<f64>,
    /// Patched 0.4.9: entered the waiting queue, seconds of the server host's `CLOCK_MONOTONIC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_time_start: Option<f64>,
    /// Patched 0.4.9: left the waiting queue, seconds of the server host's `CLOCK_MONOTONIC`; null without `--enable-metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_time_end: Option<f64>,
    /// 0.5.5+: seconds in the waiting queue, a duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_time: Option<f64>,
    /// 0.5.5+: accepted by the HTTP process, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_received_ts: Option<f64>,
    /// 0.5.6 to 0.5.9: sent to the scheduler, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_sent_to_scheduler_ts: Option<f64>,
    /// 0.5.10+: sent to the scheduler, Unix seconds (taken after the send).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_server_dispatch_finish_ts: Option<f64>,
    /// 0.5.10+: first forward pass, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_entry_time: Option<f64>,
    /// 0.5.5 to 0.5.9: prefill finished, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_finished_ts: Option<f64>,
    /// 0.5.10+: prefill finished, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_finished_time: Option<f64>,
    /// 0.5.23: seconds from created to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_latency: Option<f64>,
    /// 0.5.6+: first byte out (stream, in the first event) or end (plain), Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_sent_to_client_ts: Option<f64>,
    /// 0.5.5 to 0.5.9: decode finished, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_finished_ts: Option<f64>,
    /// 0.5.10+: finished, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_finished_ts: Option<f64>,
    /// Times the scheduler threw the request out of the batch again (`num_retractions`, earlier `total_retractions`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_retractions: Option<u64>,
}

/// In which clock a stamp was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StampClock {
    /// The server host's wall clock, Unix seconds.
    Wall,
    /// The server host's `CLOCK_MONOTONIC`, seconds.
    Monotonic,
    /// In none: seconds between two moments.
    Duration,
}

impl StampClock {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wall => "wall",
            Self::Monotonic => "monotonic",
            Self::Duration => "duration",
        }
    }
}

impl ServerStamps {
    /// Every timing field that was sent: its name, its clock and its seconds, in the order in which a request passes them.
    pub fn sent(&self) -> impl Iterator<Item = (&'static str, StampClock, f64)> {
        use StampClock::{Duration, Monotonic, Wall};
        let all = [
            ("server_created_time", Wall, self.server_created_time),
            ("request_received_ts", Wall, self.request_received_ts),
            ("request_sent_to_scheduler_ts", Wall, self.request_sent_to_scheduler_ts),
            ("api_server_dispatch_finish_ts", Wall, self.api_server_dispatch_finish_ts),
            ("queue_time_start", Monotonic, self.queue_time_start),
            ("queue_time_end", Monotonic, self.queue_time_end),
            ("queue_time", Duration, self.queue_time),
            ("forward_entry_time", Wall, self.forward_entry_time),
            ("prefill_finished_ts", Wall, self.prefill_finished_ts),
            ("prefill_finished_time", Wall, self.prefill_finished_time),
            ("server_first_token_time", Wall, self.server_first_token_time),
            ("first_token_latency", Duration, self.first_token_latency),
            ("decode_finished_ts", Wall, self.decode_finished_ts),
            ("request_finished_ts", Wall, self.request_finished_ts),
            ("response_sent_to_client_ts", Wall, self.response_sent_to_client_ts),
            ("e2e_latency", Duration, self.e2e_latency),
        ];
        all.into_iter().filter_map(|(name, clock, seconds)| Some((name, clock, seconds?)))
    }

    /// True if the server sent none of them.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each stamp of `later`, and those that only this one has: in a stream some stamps are in the first event alone
    /// (`response_sent_to_client_ts`), some in the last.
    #[must_use]
    pub fn updated_by(&self, later: &Self) -> Self {
        self.combine(later, |_, later| later, |_, later| later, |_, later| later)
    }

    /// The stamps of a batch or of several samples as those of one request: the earliest created and queued, the latest of
    /// everything after, the longest of each duration, retractions summed.
    #[must_use]
    pub fn spanning(&self, other: &Self) -> Self {
        self.combine(other, f64::min, f64::max, u64::saturating_add)
    }

    fn combine(
        &self,
        b: &Self,
        begin: impl Fn(f64, f64) -> f64,
        end: impl Fn(f64, f64) -> f64,
        count: impl Fn(u64, u64) -> u64,
    ) -> Self {
        let a = self;
        Self {
            e2e_latency: either(a.e2e_latency, b.e2e_latency, &end),
            server_created_time: either(a.server_created_time, b.server_created_time, &begin),
            server_first_token_time: either(a.server_first_token_time, b.server_first_token_time, &end),
            queue_time_start: either(a.queue_time_start, b.queue_time_start, &begin),
            queue_time_end: either(a.queue_time_end, b.queue_time_end, &end),
            queue_time: either(a.queue_time, b.queue_time, &end),
            request_received_ts: either(a.request_received_ts, b.request_received_ts, &begin),
            request_sent_to_scheduler_ts: either(
                a.request_sent_to_scheduler_ts,
                b.request_sent_to_scheduler_ts,
                &end,
            ),
            api_server_dispatch_finish_ts: either(
                a.api_server_dispatch_finish_ts,
                b.api_server_dispatch_finish_ts,
                &end,
            ),
            forward_entry_time: either(a.forward_entry_time, b.forward_entry_time, &end),
            prefill_finished_ts: either(a.prefill_finished_ts, b.prefill_finished_ts, &end),
            prefill_finished_time: either(a.prefill_finished_time, b.prefill_finished_time, &end),
            first_token_latency: either(a.first_token_latency, b.first_token_latency, &end),
            response_sent_to_client_ts: either(
                a.response_sent_to_client_ts,
                b.response_sent_to_client_ts,
                &end,
            ),
            decode_finished_ts: either(a.decode_finished_ts, b.decode_finished_ts, &end),
            request_finished_ts: either(a.request_finished_ts, b.request_finished_ts, &end),
            num_retractions: either(a.num_retractions, b.num_retractions, &count),
        }
    }

    fn read_field(&mut self, key: &[u8], json: &mut Cursor<'_>) -> Result<(), Malformed> {
        let slot = match key {
            b"e2e_latency" => &mut self.e2e_latency,
            b"server_created_time" => &mut self.server_created_time,
            b"server_first_token_time" => &mut self.server_first_token_time,
            b"queue_time_start" => &mut self.queue_time_start,
            b"queue_time_end" => &mut self.queue_time_end,
            b"queue_time" => &mut self.queue_time,
            b"request_received_ts" => &mut self.request_received_ts,
            b"request_sent_to_scheduler_ts" => &mut self.request_sent_to_scheduler_ts,
            b"api_server_dispatch_finish_ts" => &mut self.api_server_dispatch_finish_ts,
            b"forward_entry_time" => &mut self.forward_entry_time,
            b"prefill_finished_ts" => &mut self.prefill_finished_ts,
            b"prefill_finished_time" => &mut self.prefill_finished_time,
            b"first_token_latency" => &mut self.first_token_latency,
            b"response_sent_to_client_ts" => &mut self.response_sent_to_client_ts,
            b"decode_finished_ts" => &mut self.decode_finished_ts,
            b"request_finished_ts" => &mut self.request_finished_ts,
            b"num_retractions" | b"total_retractions" => {
                self.num_retractions = json.u64()?;
                return Ok(());
            }
            _ => return json.skip().map(drop),
        };
        *slot = json.f64()?;
        Ok(())
    }
}

fn either<T>(a: Option<T>, b: Option<T>, both: impl Fn(T, T) -> T) -> Option<T>
where
    T: Copy,
{
    match (a, b) {
        (Some(a), Some(b)) => Some(both(a, b)),
        (a, b) => a.or(b),
    }
}

/// Why generation ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// `length`, `stop`, `abort`.
    pub kind: Cow<'static, str>,
    /// The HTTP status that an abort would have had.
    pub status_code: Option<u16>,
    /// An abort's message.
    pub message: Option<String>,
}

/// `meta_info` of one answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetaInfo {
    /// Absent while generation goes on.
    pub finish: Option<Finish>,
    /// Counts so far.
    pub tokens: Tokens,
    /// Stamps so far.
    pub stamps: ServerStamps,
}

impl MetaInfo {
    /// Reads a `meta_info` object; `None` if it is no JSON. Nulls and wrong types are absent fields.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Self::read(&mut Cursor::new(bytes)).ok()
    }

    pub(super) fn read(json: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let mut meta = Self::default();
        json.object(|key, json| {
            match key {
                b"finish_reason" => meta.finish = Finish::read(json)?,
                b"prompt_tokens" => meta.tokens.prompt_tokens = json.u64()?,
                b"completion_tokens" => meta.tokens.completion_tokens = json.u64()?,
                b"cached_tokens" => meta.tokens.cached_tokens = json.u64()?,
                _ => meta.stamps.read_field(key, json)?,
            }
            Ok(())
        })?;
        Ok(meta)
    }

    /// One `meta_info` for a batch or several samples: tokens summed, stamps as [`ServerStamps::spanning`], an abort before
    /// any other finish.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let aborted = other.finish.as_ref().is_some_and(|f| f.kind == "abort");
        Self {
            finish: if aborted { other.finish } else { self.finish.or(other.finish) },
            tokens: self.tokens.plus(other.tokens),
            stamps: self.stamps.spanning(&other.stamps),
        }
    }
}

impl Finish {
    /// `{"type":..}` as in `meta_info`, or a bare word as in a choice.
    pub(super) fn read(json: &mut Cursor<'_>) -> Result<Option<Self>, Malformed> {
        if json.peek()? == super::json::Kind::String {
            return Ok(json.str()?.map(|kind| Self { kind: kind_name(&kind.text()), ..Self::default() }));
        }
        let mut kind = None;
        let mut finish = Self::default();
        json.object(|key, json| {
            match key {
                b"type" => kind = json.str()?,
                b"status_code" => {
                    finish.status_code = json.u64()?.and_then(|n| u16::try_from(n).ok());
                }
                b"message" => finish.message = json.str()?.map(|s| s.string().into_owned()),
                _ => drop(json.skip()?),
            }
            Ok(())
        })?;
        Ok(kind.map(|kind| Self { kind: kind_name(&kind.text()), ..finish }))
    }
}

/// The usual kinds without a copy.
fn kind_name(kind: &[u8]) -> Cow<'static, str> {
    match kind {
        b"stop" => "stop".into(),
        b"length" => "length".into(),
        b"abort" => "abort".into(),
        other => String::from_utf8_lossy(other).into_owned().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timing_field_has_a_clock() {
        let field = |line: &'static str| line.trim().strip_prefix("pub ")?.strip_suffix(": Option<f64>,");
        let mut fields: Vec<&str> = include_str!("meta_info.rs").lines().filter_map(field).collect();
        let one_each: serde_json::Map<_, _> =
            fields.iter().map(|name| ((*name).into(), 1.5.into())).collect();
        let stamps: ServerStamps = serde_json::from_value(one_each.into()).unwrap();
        let mut sent: Vec<&str> = stamps.sent().map(|(name, ..)| name).collect();
        fields.sort_unstable();
        sent.sort_unstable();
        assert_eq!(sent, fields);
    }

    #[test]
    fn read_by_presence_whatever_the_type() {
        let m = MetaInfo::parse(
            br#"{"id":"r","finish_reason":{"type":"abort","message":"Aborted","status_code":null,"err_type":null},
            "prompt_tokens":6.0,"completion_tokens":"8","cached_tokens":null,"queue_time_start":4111,"queue_time_end":null,
            "e2e_latency":"x","total_retractions":2,"forward_entry_time":1795299930.9172406,"unknown":[{"a":1}]}"#,
        )
        .unwrap();
        assert_eq!(
            m.finish,
            Some(Finish { kind: "abort".into(), status_code: None, message: Some("Aborted".into()) })
        );
        assert_eq!(m.tokens, Tokens { prompt_tokens: Some(6), completion_tokens: None, cached_tokens: None });
        let stamps = ServerStamps {
            queue_time_start: Some(4111.0),
            num_retractions: Some(2),
            forward_entry_time: Some(1_795_299_930.917_240_6),
            ..ServerStamps::default()
        };
        assert_eq!(m.stamps, stamps);
        assert_eq!(MetaInfo::parse(b"null"), Some(MetaInfo::default()));
        assert_eq!(MetaInfo::parse(b"{"), None);
    }

    #[test]
    fn a_batch_spans_its_members() {
        let one = MetaInfo::parse(br#"{"id":"a","finish_reason":{"type":"stop"},"completion_tokens":3,"server_created_time":10.5,"queue_time_start":1.0,"queue_time_end":2.0,"num_retractions":1}"#).unwrap();
        let two = MetaInfo::parse(br#"{"id":"b","finish_reason":{"type":"abort"},"completion_tokens":4,"prompt_tokens":1,"server_created_time":10.25,"queue_time_start":1.5,"queue_time_end":3.0,"num_retractions":2}"#).unwrap();
        let both = one.merged(two);
        assert_eq!(both.finish.unwrap().kind, "abort");
        assert_eq!(
            both.tokens,
            Tokens { prompt_tokens: Some(1), completion_tokens: Some(7), cached_tokens: None }
        );
        assert_eq!((both.stamps.server_created_time, both.stamps.queue_time_start), (Some(10.25), Some(1.0)));
        assert_eq!((both.stamps.queue_time_end, both.stamps.num_retractions), (Some(3.0), Some(3)));
    }

    #[test]
    fn counts_that_no_number_holds_are_the_largest_one() {
        let most = ServerStamps { num_retractions: Some(u64::MAX), ..ServerStamps::default() };
        assert_eq!(most.spanning(&most).num_retractions, Some(u64::MAX));
    }

    #[test]
    fn the_first_event_keeps_what_the_last_does_not_say() {
        let first = ServerStamps {
            response_sent_to_client_ts: Some(5.0),
            queue_time: Some(0.1),
            ..ServerStamps::default()
        };
        let last = ServerStamps { queue_time: Some(0.2), e2e_latency: Some(1.0), ..ServerStamps::default() };
        let both = first.updated_by(&last);
        assert_eq!(
            (both.response_sent_to_client_ts, both.queue_time, both.e2e_latency),
            (Some(5.0), Some(0.2), Some(1.0))
        );
    }
}
