//! The program: shards, hit log, desk, admin HTTP, configuration, command line.
//!
//! The one place where things are wired together. The data's way: `shard` (frames in, answers out) →
//! `ledger` (hits durable) → `desk` (jobs). Items that platforms send come by `admin`, wait in the store, and are screened
//! by `intake`; what must be told goes out by `deliver`;
//! reports to NCMEC by `filer`; media of jobs are kept by `preserve`, and go by `retention`. Beside it `curator` and `merge` change the banks, `admin`
//! shows and steers, `audit` signs what was done, `boot` starts everything and `shutdown` ends it. `access` decides who
//! calls, `defence` whether a key may have its answer.
#![warn(clippy::print_stderr, clippy::print_stdout)] // `ingest::stdout` writes, without a panic

mod access;
mod admin;
mod alarm;
mod audit;
pub mod boot;
mod cgroup;
mod circuits;
pub mod cli;
mod clock;
mod clock_watch;
pub mod command;
mod config;
mod curator;
mod damage;
mod decoders;
pub mod defence;
mod deliver;
mod desk;
mod disk;
mod embeddings;
mod evidence;
mod exchanges;
mod failpoint;
mod filer;
mod hosts;
mod in_hand;
mod intake;
mod last_words;
mod ledger;
pub mod logging;
mod merge;
mod metrics;
mod nice;
mod outbound;
mod pace;
mod preserve;
pub mod private;
mod recent;
mod rekey;
mod retention;
mod safety;
mod sealed;
pub mod secrets;
mod shard;
mod shutdown;
mod sources;
mod submit;
pub mod vault;
