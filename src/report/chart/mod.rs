//! Pictures as SVG, drawn here by hand: no library, no script, no font of its own.
//!
//! Rule: numbers in, text out; the same numbers give the same bytes. Deliberately not here: which pictures a report has
//! ([`super::page`]).

pub mod bars;
pub mod plot;
pub mod scale;
pub mod svg;
