//! The fields of what is packed.
//!
//! Rule: a value is taken apart by name, so that a field more does not compile until it is here. What a request holds only while
//! it is under way (the body of an answer) is not kept. Deliberately not here: how a field becomes bytes (`pack`).

use super::pack::{Pack, Packer, Unpacker};
use crate::load::arrivals::Seen;
use crate::load::client::{Exchange, Stamps};
use crate::load::failure::{Class, Failure};
use crate::load::row::{Gap, Row, Tried};
use crate::wire::answer::{Answer, AnswerError, TokenTime, Tokens};
use crate::wire::meta_info::ServerStamps;

macro_rules! fields {
    ($shape:ident { $($field:ident),* $(,)? } $(gone { $($gone:ident),* })?) => {
        impl Pack for $shape {
            fn pack(&self, to: &mut Packer) {
                let Self { $($field,)* $($($gone: _,)*)? } = self;
                $($field.pack(to);)*
            }

            fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
                Some(Self { $($field: from.value()?,)* $($($gone: None,)*)? })
            }
        }
    };
}

impl Pack for Class {
    fn pack(&self, to: &mut Packer) {
        self.name().pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Self::named(from.value::<&'static str>()?)
    }
}

fields!(Failure { class, text });
fields!(Gap { ns, tokens, member });
fields!(Tried { host, send_ns, failed_ns });
fields!(TokenTime { at_ns, tokens, member });
fields!(Tokens { prompt_tokens, completion_tokens, cached_tokens });
fields!(AnswerError { class, code, message });
fields!(Stamps { connected_ns, write_begun_ns, sent_ns, first_byte_ns, head_ns, last_byte_ns });
fields!(Seen { scheduled_ns, dispatched_ns, ended_ns, exchange, count_kept, said });
fields!(Exchange {
    stamps,
    status,
    simulated,
    worker_url,
    answer,
    failure,
    reused_connection,
    reconnects,
    same_host,
    body_bytes,
} gone { body });
fields!(Answer {
    looked,
    unread,
    events,
    overlong_events,
    first_event_ns,
    first_token_ns,
    done,
    partial_event,
    tokens,
    stamps,
    finish_reason,
    error,
    has_text,
    token_times,
});
fields!(ServerStamps {
    e2e_latency,
    server_created_time,
    server_first_token_time,
    queue_time_start,
    queue_time_end,
    queue_time,
    request_received_ts,
    request_sent_to_scheduler_ts,
    api_server_dispatch_finish_ts,
    forward_entry_time,
    prefill_finished_ts,
    prefill_finished_time,
    first_token_latency,
    response_sent_to_client_ts,
    decode_finished_ts,
    request_finished_ts,
    num_retractions,
});
fields!(Row {
    req_id,
    failure,
    status,
    host,
    has_generated_text,
    input_words,
    planned_tokens,
    max_new_tokens,
    prompt_tokens,
    completion_tokens,
    cached_tokens,
    trace_completion_tokens,
    counted_tokens,
    token_times_dropped,
    arrival_ns,
    decided_ns,
    decision_ns,
    router_wait_ns,
    router_send_ns,
    created_ns,
    queue_start_ns,
    queue_end_ns,
    server_first_token_ns,
    finish_ns,
    ttft_ns,
    ttft_source,
    ttft_router_ns,
    tokenize_ns,
    pure_queue_ns,
    queue_in_server_ns,
    clock_bound_ns,
    order_broken,
    missing,
    scheduled_ns,
    dispatched_ns,
    connected_ns,
    write_begun_ns,
    sent_ns,
    client_first_token_ns,
    client_end_ns,
    gaps_from_ns,
    gaps,
    streamed,
    attempts,
    tried,
    group,
    phase,
    batch_size,
    policy,
    reconnects,
    reused_connection,
    simulated,
    in_trace,
    turn,
});
