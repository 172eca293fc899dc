//! Rows → CSV, JSON, the console summary; records → the text of a decision.
//!
//! Rule: pure functions, the same rows give the same bytes; only `files` and `console` write. Deliberately not here: the
//! making of rows ([`crate::load`]).

pub mod console;
pub mod csv;
pub mod decision;
pub mod files;
pub mod json;
pub mod metrics;
pub mod stats;
pub mod summary;
pub mod timeline;
pub mod warnings;

pub use metrics::Metrics;
