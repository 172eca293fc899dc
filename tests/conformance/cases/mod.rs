//! The table of cases, one file a topic.

pub mod bodies;
pub mod breaker;
pub mod control;
pub mod drain;
pub mod endpoints;
pub mod errors;
pub mod flags;
pub mod headers;
pub mod health;
pub mod keys;
pub mod launch;
pub mod limits;
pub mod metrics;
pub mod policies;
pub mod retries;
pub mod streams;
pub mod workers;
