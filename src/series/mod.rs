//! Several runs that belong together: sweeps, repeats, and the search for the highest rate that keeps a promise.
//!
//! Rule: each run is told by its line of JSON and by nothing else, whether it was made just now or is read back from the file
//! of an earlier call, so that a series that was cut goes on where it ended. Deliberately not here: making a run
//! ([`crate::load`]), its files ([`crate::report`]), flags (`cli::bench`).

pub mod find_rate;
pub mod lines;
pub mod slo;
pub mod sweep;
pub mod table;

pub use find_rate::{Answer, Limits, ended_early, find_rate, load_was_made};
pub use lines::{Lines, identity};
pub use slo::Slo;
pub use sweep::{Axis, Mode, Point, SWEPT, Setting, Sweep};
