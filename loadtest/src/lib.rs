//! The questions of a load generator, and what their answers must be: what `hashward-loadtest` and the soak share.
#![warn(clippy::print_stderr, clippy::print_stdout)] // `ingest::stdout` writes, without a panic

pub mod truth;
pub mod workload;
