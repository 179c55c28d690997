//! The program: shards, hit log, router, admin HTTP, configuration, command line.
//!
//! The one place where things are wired together. The data's way: `shard` (frames in, answers out) →
//! `ledger` (hits durable) → `routing` (queues). Beside it `curator` and `merge` change the banks, `admin`
//! shows and steers, `boot` starts everything and `shutdown` ends it.

mod admin;
pub mod boot;
pub mod cli;
mod clock;
pub mod command;
mod config;
mod curator;
mod disk;
mod embeddings;
mod exchanges;
mod ledger;
mod merge;
mod metrics;
mod recent;
mod routing;
mod secrets;
mod shard;
mod shutdown;
mod submit;
