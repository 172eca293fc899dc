//! Rows → CSV, JSON, the console summary.
//!
//! Rule: pure functions; the same rows give the same bytes. Deliberately not here: reading or writing files, and the making
//! of rows ([`crate::load`]).

pub mod csv;
pub mod json;
pub mod metrics;
pub mod stats;
pub mod summary;
pub mod timeline;
pub mod warnings;

pub use metrics::Metrics;
