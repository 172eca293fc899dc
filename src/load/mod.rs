//! The load generator: paced arrivals, one record of what the client saw for each request, joined with the router's trace.
//!
//! Rule: arrivals follow an absolute schedule whatever the answers do; what could not be sent is a row, not a silence.
//! Deliberately not here: statistics and files, see [`crate::report`].

pub mod dataset;
pub mod pacer;
pub mod schedule;
