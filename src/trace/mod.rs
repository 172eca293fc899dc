//! The product: trace records, how they get to the file without holding up a request, and how they are read back.
//!
//! `record` (the schema) → `sink` (bounded, per thread) → `writer` (one thread, one file) → `reader` → `align`.
//! Rule: no request waits for the trace; what cannot be taken is counted in the file itself.

pub mod align;
pub mod axis;
pub mod reader;
pub mod record;
pub mod schema;
