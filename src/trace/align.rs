//! Server stamps on the router's time axis.
//!
//! Rule: raw values are never changed; what cannot be compared stays absent, with the reason. Differences are taken only
//! inside one clock. Deliberately not here: I/O, and any guess about a remote monotonic clock.
