//! Routing policies: pure decisions. No tokio, no clock, no I/O; same seed, config and events give the same decisions.
