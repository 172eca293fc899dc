//! Pictures of numbers, as SVG and as PNG.
//!
//! Rule: numbers in, bytes out; the same numbers give the same bytes. Deliberately not here: which pictures a report
//! has ([`super::page`]).

pub mod bars;
pub mod palette;
pub mod picture;
pub mod plot;
#[cfg(feature = "png")]
pub mod png;
pub mod scale;
pub mod svg;
