//! A request's place in a distributed trace: the ids of its spans, and the `traceparent` that a worker gets.
//!
//! Rule: only where spans are sent (`--enable-trace`) is anything read or made; otherwise both headers pass as they came. The
//! request is a `SERVER` span under the client's, and each attempt a `CLIENT` span under that, whose id is what its worker is told:
//! what the engine records hangs below the attempt that it answered. A reused connection that is replaced is the same attempt.
//! A client's sampled flag goes on unchanged, as it has decided for the whole trace; a trace that begins here is sampled as the
//! file is (`--trace-sample`). A `traceparent` that is none is as good as absent, and its `tracestate` goes with it. Deliberately not
//! here: sending spans (`export::otlp`), the syntax (`wire::traceparent`).

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::headers::ClientHeaders;
use crate::export::otlp::outbox::Outbox;
use crate::trace::record::RequestRecord;
use crate::trace::sample::Sampling;
use crate::wire::traceparent::{SpanId, TRACEPARENT, TRACESTATE, TraceId, Traceparent};

/// What requests need where spans are sent.
#[derive(Debug)]
pub struct Spans {
    /// Makes their ids.
    pub ids: SpanIds,
    /// Where they wait for the collector.
    pub outbox: Arc<Outbox>,
}

/// Makes the ids of this run: hashes (`SipHash`) of a request's number under a key that was drawn at the start, so that no two
/// routers make the same and no request asks the system for chance.
#[derive(Debug)]
pub struct SpanIds {
    key: RandomState,
    sampling: Sampling,
}

/// What an id is of.
#[derive(Hash)]
enum Of {
    TraceHigh,
    TraceLow,
    Request,
    Attempt(u32),
}

impl SpanIds {
    /// Ids of their own.
    pub fn drawn(sampling: Sampling) -> Self {
        Self { key: RandomState::new(), sampling }
    }

    /// Puts the request into the client's trace, or into a new one.
    pub fn begin(&self, record: &mut RequestRecord, known: &ClientHeaders<'_>) {
        let client = known.traceparent();
        record.trace_id = client.map(|client| client.trace_id).or_else(|| Some(self.trace_id(record.seq)));
        record.parent_span_id = client.map(|client| client.span_id);
        record.span_id = Some(self.span_id(record.seq, Of::Request));
        let sampled = client.map(|client| client.sampled);
        record.trace_sampled = sampled.or_else(|| Some(self.sampling.has(&record.request_id)));
    }

    /// The next attempt begins.
    pub fn attempt(&self, record: &mut RequestRecord) {
        record.worker_span_id = Some(self.span_id(record.seq, Of::Attempt(record.attempts)));
    }

    fn trace_id(&self, seq: u64) -> TraceId {
        let half = |of: Of| u128::from(self.key.hash_one((seq, of)));
        TraceId::of((half(Of::TraceHigh) << 64) | half(Of::TraceLow))
    }

    fn span_id(&self, seq: u64, of: Of) -> SpanId {
        SpanId::of(self.key.hash_one((seq, of)))
    }
}

/// What the worker of the attempt is told, where spans are sent; workers that are all asked are told the request's own span.
pub fn for_worker(record: &RequestRecord) -> Option<Traceparent> {
    let span_id = record.worker_span_id.or(record.span_id)?;
    Some(Traceparent { trace_id: record.trace_id?, span_id, sampled: record.trace_sampled? })
}

/// A client's header that does not go to the worker where spans are sent: the one that the router writes, and what vendors added
/// to one that was none.
pub fn is_replaced(name: &[u8], record: &RequestRecord) -> bool {
    name == TRACEPARENT.as_bytes() || (name == TRACESTATE.as_bytes() && record.parent_span_id.is_none())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PARENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn begun(ids: &SpanIds, seq: u64, headers: &[(&[u8], &[u8])]) -> RequestRecord {
        let known = ClientHeaders::scan(headers.iter().copied(), "me");
        let mut record = RequestRecord { seq, request_id: format!("r{seq}"), ..RequestRecord::default() };
        ids.begin(&mut record, &known);
        record
    }

    #[test]
    fn a_clients_trace_goes_on_and_what_is_none_begins_another() {
        let ids = SpanIds::drawn(Sampling::default());
        let continued = begun(&ids, 1, &[(b"traceparent", PARENT)]);
        let client = Traceparent::parse(PARENT).unwrap();
        assert_eq!(
            (continued.trace_id, continued.parent_span_id),
            (Some(client.trace_id), Some(client.span_id))
        );
        assert_eq!(continued.trace_sampled, Some(false), "the client has decided");
        assert!(!is_replaced(b"tracestate", &continued) && is_replaced(b"traceparent", &continued));
        let name = &b"traceparent"[..];
        for headers in [&[(name, &b"00-x"[..])][..], &[(name, PARENT); 2], &[]] {
            let begun = begun(&ids, 1, headers);
            assert!(begun.trace_id.is_some() && begun.trace_id != continued.trace_id);
            assert_eq!((begun.parent_span_id, begun.trace_sampled), (None, Some(true)));
            assert!(is_replaced(b"tracestate", &begun) && !is_replaced(b"x-request-id", &begun));
        }
    }

    #[test]
    fn no_two_spans_have_one_id_and_each_attempt_has_its_own() {
        let ids = [SpanIds::drawn(Sampling::default()), SpanIds::drawn(Sampling::default())];
        let mut spans = BTreeSet::new();
        for (ids, seq) in ids.iter().flat_map(|ids| (1..=200).map(move |seq| (ids, seq))) {
            let mut record = begun(ids, seq, &[(b"traceparent", PARENT)]);
            assert!(spans.insert(record.span_id.unwrap().bits()));
            assert_eq!(for_worker(&record).map(|told| told.span_id), record.span_id, "all workers are asked");
            for attempts in 1..=3 {
                record.attempts = attempts;
                ids.attempt(&mut record);
                let told = for_worker(&record).unwrap();
                assert_eq!(
                    (Some(told.trace_id), Some(told.span_id)),
                    (record.trace_id, record.worker_span_id)
                );
                assert!(spans.insert(told.span_id.bits()));
            }
        }
    }

    #[test]
    fn a_trace_that_begins_here_is_sampled_as_the_file_is() {
        let sampling = Sampling { share: 0.25, ..Sampling::default() };
        let ids = SpanIds::drawn(sampling);
        let sampled: Vec<bool> = (1..=400).map(|seq| begun(&ids, seq, &[]).trace_sampled.unwrap()).collect();
        let expected: Vec<bool> = (1..=400).map(|seq| sampling.has(&format!("r{seq}"))).collect();
        assert_eq!(sampled, expected);
        assert!((60..140).contains(&sampled.iter().filter(|s| **s).count()));
    }
}
