//! milepost: an instrumented reverse-proxy router for SGLang fleets, and the load generator that reads its trace.
//!
//! The modules, in the order in which they may depend on each other (a later one may use an earlier one, never the reverse):
//!
//! | module | what it is |
//! |---|---|
//! | [`clock`], [`units`], [`buffer`], [`naming`] | the only reader of time; how times are printed; bytes that are being written; names that differ |
//! | [`stdio`], [`log`], [`net`] | what commands print; one line an event on standard error; sockets, pipes and TLS as values |
//! | [`http1`] | the HTTP/1.1 codec: heads, bodies, both sides of a connection, the pool of idle ones |
//! | [`wire`] | SGLang and `OpenAI` wire formats: bytes in, facts out, no I/O |
//! | [`trace`] | the product: records, the bounded sink, the writer, the reader, alignment of server stamps |
//! | [`export`] | a trace as the files and messages that other tools read |
//! | [`config`] | what was asked for, as values that cannot be wrong |
//! | [`fleet`] | the workers: registry, pools, leases, health; the only shared mutable state |
//! | [`proxy`] | the request path, one file a phase |
//! | [`admin`] | the router's own endpoints |
//! | [`sim`] | the simulated SGLang worker |
//! | [`load`] | the load generator |
//! | [`report`] | from rows to CSV, JSON, the console summary and a page with charts, and from those files back to rows |
//! | [`replay`] | a trace decided again: exactly by its journal, or by other policies on simulated workers |
//! | [`series`] | several runs that belong together: sweeps, repeats, the search for a rate |
//! | [`demo`] | workers, router and load in one process: each policy on the same schedule |
//! | [`doctor`] | what each server is, what it tells and what is missing |
//! | [`cli`] | one file a command |

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
pub mod buffer;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod export;
pub mod fleet;
pub mod http1;
pub mod load;
pub mod log;
pub mod naming;
pub mod net;
pub mod proxy;
pub mod replay;
pub mod report;
pub mod series;
pub mod sim;
pub mod stdio;
pub mod trace;
pub mod units;
pub mod wire;
