//! What people and platforms work with: items, what waits, jobs, decisions, and what must still be told.
//!
//! Every function here works on a transaction ([`crate::tx::Tx`]) and leaves committing to who holds it.

pub mod alarm;
pub mod child_safety;
pub mod decision;
mod due;
pub mod evidence;
pub mod incident;
pub mod intake;
pub mod item;
pub mod job;
pub mod kind;
pub mod lease;
pub mod ncmec;
pub mod outbox;
pub mod queue;
pub mod renew;
pub mod retention;
pub mod screening;
pub mod settings;
pub mod submission;
