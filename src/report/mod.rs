//! Rows → CSV, JSON, the console summary, a page with charts; files → rows; records → the text of a decision.
//!
//! Rule: pure functions, the same rows give the same bytes; only `files` and `console` write, only `read` reads. Deliberately not here: the
//! making of rows ([`crate::load`]).

pub mod breakdown;
pub mod cache_hits;
pub mod cell;
pub mod chart;
pub mod column;
pub mod console;
pub mod csv;
pub mod decision;
pub mod explain;
pub mod faults;
pub mod files;
pub mod folder;
pub mod gather;
pub mod goodput;
pub mod hdr;
pub mod interval;
pub mod json;
pub mod lines;
pub mod manifest;
pub mod marks;
pub mod metrics;
pub mod outputs;
pub mod page;
pub mod peers;
pub mod phases;
pub mod quantity;
pub mod read;
pub mod recount;
pub mod split;
pub mod static_batch;
pub mod stats;
pub mod summary;
pub mod survey;
pub mod timeline;
pub mod tokens;
pub mod verdict;
pub mod warnings;

pub use metrics::Metrics;
pub use survey::Survey;
pub use verdict::{Rating, Verdict};
