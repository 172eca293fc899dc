//! `meta_info`: the server's own stamps and counts, read by presence of a field, never by version.
//!
//! Rule: values stay as they were sent, in the server's unit and clock; the table of names is `facts` of SGLang 0.4.8 to
//! 0.5.23. Deliberately not here: alignment to the router's clock, see [`crate::trace::align`].

use serde::{Deserialize, Serialize};

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

impl ServerStamps {
    /// True if the server sent none of them.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
