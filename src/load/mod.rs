//! The load generator: paced arrivals, one row of what client, router and server saw for each request.
//!
//! Rule: arrivals follow an absolute schedule whatever the answers do; what could not be sent is a row, not a silence.
//! [`run::run`] is the whole walk: dataset → plan → warm-up → probe → pacer → client → join. Deliberately not here:
//! statistics and files, see [`crate::report`].

mod ahead;
mod arrivals;
pub mod backend;
pub mod body;
pub mod client;
pub mod config;
pub mod connections;
pub mod dataset;
mod descriptors;
pub mod failure;
pub mod faults;
mod follow;
mod join;
mod live;
mod offset;
pub mod outputs;
pub mod pace_check;
mod pacer;
mod paged;
mod plan;
pub mod probe;
pub mod progress;
pub mod recorded;
pub mod row;
pub mod rows;
pub mod run;
pub mod schedule;
mod spool;
pub mod static_batch;
pub mod target;
pub mod traced;
mod turns;

pub use config::{LoadConfig, TraceSource};
pub use rows::Rows;
pub use run::{LoadError, RunContext, RunReport, run};
pub use spool::Keeping;
