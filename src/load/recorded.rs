//! What a router's record tells, in a row.
//!
//! Rule: only what the record says; a client that is not known leaves its cells empty. Deliberately not here: the alignment of
//! server stamps ([`crate::trace::align`]), and what the client saw (`join`).

use super::failure::{Class, Failure};
use super::row::Row;
use super::target::host_port_of;
use crate::trace::align::{Aligned, align};
use crate::trace::axis::{ClockTrack, Offsets};
use crate::trace::record::{Outcome, RequestRecord};

/// A row of a record alone. Its request counts as due when it arrived; `shift_ns` added to the router's monotonic clock gives time
/// after the start of the rows.
pub fn row_of(record: &RequestRecord, clocks: &ClockTrack, offsets: &Offsets, shift_ns: i64) -> Row {
    let mut row = Row {
        req_id: record.request_id.clone(),
        status: record.status,
        has_generated_text: record.has_text.unwrap_or(false),
        max_new_tokens: record.max_new_tokens,
        prompt_tokens: record.tokens.prompt_tokens,
        completion_tokens: record.tokens.completion_tokens,
        cached_tokens: record.tokens.cached_tokens,
        scheduled_ns: ns_of(record.arrival_mono_ns) + shift_ns,
        streamed: record.stream,
        batch_size: record.prompts.map(|_| record.members()),
        ..Row::default()
    };
    from_router(&mut row, record, offsets);
    fill(&mut row, record, align(record, clocks, offsets), shift_ns);
    row
}

/// What the router did with the request.
pub(super) fn from_router(row: &mut Row, record: &RequestRecord, offsets: &Offsets) {
    row.in_trace = true;
    // A router behind is not the host: what its answer said of the engine, or nothing, stays in the cell.
    if !record.worker.as_deref().is_some_and(|worker| offsets.is_router(worker)) {
        row.host = record.worker.as_deref().map(host_port_of);
    }
    row.decision_ns = record.decision.as_ref().map(|d| ns_of(d.took_ns));
    row.router_wait_ns = Some(ns_of(record.body_read_ns.unwrap_or(0) + record.limit_wait_ns.unwrap_or(0)));
    row.phase.clone_from(&record.phase);
    row.attempts = Some(record.attempts);
    row.policy = record.policy.as_deref().map(str::to_owned);
    row.trace_completion_tokens = record.tokens.completion_tokens;
    if row.failure.is_none() && record.outcome != Outcome::Done {
        let text =
            record.error.clone().unwrap_or_else(|| format!("the router's record says {:?}", record.outcome));
        row.failure = Some(Failure::new(Class::Router, text));
    }
}

/// The aligned stamps of a record; `shift_ns` added to its host's monotonic clock gives time after the start of the run.
pub(super) fn fill(row: &mut Row, record: &RequestRecord, aligned: Aligned, shift_ns: i64) {
    let arrival_ns = ns_of(record.arrival_mono_ns) + shift_ns;
    let at = |after_ns: Option<i64>| after_ns.map(|ns| arrival_ns + ns);
    row.arrival_ns = Some(arrival_ns);
    row.decided_ns = at(record.decided_ns.map(ns_of));
    row.router_send_ns = at(record.router_send_ns.map(ns_of));
    row.created_ns = at(aligned.created_ns);
    row.queue_start_ns = at(aligned.queue_start_ns);
    row.queue_end_ns = at(aligned.queue_end_ns);
    row.server_first_token_ns = at(aligned.first_token_ns);
    row.finish_ns = at(aligned.finish_ns);
    row.ttft_ns = aligned.ttft_ns;
    row.ttft_source = aligned.ttft_source.as_str();
    row.ttft_router_ns = record.first_token_ns.map(ns_of);
    row.tokenize_ns = aligned.tokenize_ns;
    row.pure_queue_ns = aligned.pure_queue_ns;
    row.queue_in_server_ns = aligned.queue_in_server_ns;
    row.clock_bound_ns = aligned.clock_bound_ns;
    row.order_broken = aligned.order_broken;
    row.missing = aligned.missing;
}

/// Monotonic nanoseconds are far below 2^63: 292 years of uptime.
pub(super) fn ns_of(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::answer::Tokens;

    /// As `milepost report` reads a trace without a client's files.
    #[test]
    fn a_record_of_several_answers_has_no_time_a_token() {
        let record = |prompts, samples| RequestRecord {
            prompts,
            samples,
            outcome: Outcome::Done,
            first_token_ns: Some(10_000_000),
            last_byte_ns: Some(50_000_000),
            tokens: Tokens { completion_tokens: Some(5), ..Tokens::default() },
            ..RequestRecord::default()
        };
        for (prompts, samples, batch_size, tpot_ns) in [
            (None, None, None, Some(10e6)),
            (Some(1), None, Some(1), Some(10e6)),
            (Some(1), Some(2), Some(2), None),
            (Some(3), Some(2), Some(6), None),
        ] {
            let (clocks, offsets) = (ClockTrack::default(), Offsets::default());
            let row = row_of(&record(prompts, samples), &clocks, &offsets, 0);
            assert_eq!(
                (row.batch_size, row.tpot_ns(), row.decode_ns()),
                (batch_size, tpot_ns, Some(40_000_000))
            );
        }
    }
}
