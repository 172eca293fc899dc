//! The simulated SGLang worker.
pub mod engine;
pub mod kv;
pub mod profile;
pub mod runner;
pub mod tokens;
