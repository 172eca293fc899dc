//! Requests that two readers might take in two ways, by kind.
//!
//! Deliberately not here: how they are sent (`stage`), what a worker may send back (`answers`).

mod both_framings;
mod chunks;
mod content_length;
mod hop_by_hop;
mod hosts;
mod lines;
mod request_line;
mod smuggler;
mod transfer_encoding;
mod unread_bodies;

pub use smuggler::families;

use crate::table::Class;

/// All of them, in the order of the page.
pub fn classes() -> Vec<Class> {
    vec![
        both_framings::class(),
        content_length::class(),
        transfer_encoding::class(),
        chunks::sizes(),
        chunks::lines(),
        chunks::trailers(),
        lines::class(),
        request_line::class(),
        hosts::class(),
        hop_by_hop::class(),
        unread_bodies::class(),
    ]
}
