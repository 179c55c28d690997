//! Our side of `make bench-peers`: banks and questions, the right answers, our own figures, the machine's
//! limit. `benches/peers/` holds the peers' side and the driver; micro-benchmarks are in `benches/benches/`.
#![warn(clippy::print_stderr, clippy::print_stdout)] // `ingest::stdout` writes, without a panic

pub mod cage;
pub mod churn;
pub mod contender;
pub mod data;
pub mod nearest;
pub mod ours;
pub mod pictures;
pub mod process;
pub mod roofline;
pub mod truth;
