//! The defence of the hash lists: what a key may ask, and when it has asked like somebody who reads a list out.
//!
//! Whoever has one picture near a listed one can find the listed hash by asking about altered hashes, a few hundred
//! times. Nobody who uploads pictures asks like that. Each key has a [`Warden`], shared by all shards and the admin
//! port; every frame of queries passes [`Warden::admit`] after its search and before anything of its answer is
//! released, so that a single frame full of altered hashes yields nothing either.
//!
//! What it does, where its numbers come from and what it cannot do: `docs/defence.md`. It knows no sockets, no
//! clock and no store: time comes in, refusals and alarms go out. Hashes are in memory only, never in words or logs.

mod alarm;
mod budget;
mod honeytokens;
mod region;
mod regions;
mod traces;
mod warden;

#[cfg(test)]
mod tests;

pub use alarm::{Alarm, AlarmKind, Alarms, KeyNumber};
pub use budget::{Allowance, Budget};
pub use honeytokens::{NoRandomness, random_hash};
pub use region::{Limits, Trip};
pub use warden::{Matched, Refused, Warden};
