//! The parts of a request's time that no other topic has.
//!
//! Rule: with tokenising, queue, prefill and decode they are the whole way from the due time to the last byte at the client,
//! without gap or overlap. Deliberately not here: the table they are printed in, see [`crate::report::split`].

use super::{Place, Quantity, ms, time};
use crate::load::row::Row;

/// In the order of a request's way.
pub(super) const QUANTITIES: &[Quantity] = &[
    part(
        "client_queue",
        "Client queue",
        "dispatched_time - scheduled_time: for the pacer and for a place under --max-concurrency",
        |r| ms(r.client_queue_ns()),
    ),
    part(
        "client_connect",
        "Client connect",
        "write_begun_time - dispatched_time: for a connection to the target",
        |r| ms(r.client_connect_ns()),
    ),
    part(
        "to_router",
        "Client to router",
        "arrival_time - write_begun_time: the network, and until the router had read the head",
        |r| ms(r.to_router_ns()),
    ),
    part(
        "router_in",
        "Router in",
        "decided_time - arrival_time less decision_time: reading the body, waiting for a place, failed attempts",
        |r| ms(r.router_in_ns()),
    ),
    part(
        "decision",
        "Decision",
        "the router's policy: counts, choice and prefix index under their lock",
        |r| ms(r.decision_ns),
    ),
    part(
        "router_out",
        "Router out",
        "router_send_time - decided_time: for a connection to the worker",
        |r| ms(r.router_out_ns()),
    ),
    part(
        "network_time",
        "To the server",
        "server_created_time - router_send_time: the network, and until the server took the request",
        |r| ms(r.network_ns()),
    ),
    part(
        "tokenize_time",
        "Server tokenise",
        "queue_time_start - server_created_time: tokenising, and the way to the scheduler",
        |r| ms(r.tokenize_ns),
    ),
    part(
        "network_back",
        "Network back",
        "last byte at the client - finish_time: from the router to the client",
        |r| ms(r.network_back_ns()),
    ),
];

const fn part(
    name: &'static str,
    title: &'static str,
    definition: &'static str,
    value: fn(&Row) -> Option<f64>,
) -> Quantity {
    Quantity { place: Place::Part, ..time(name, title, definition, value) }
}
