//! The binary protocol: `schema/hashward.fbs` in Rust, for both sides.
//!
//! Way of a frame: [`frame`] finds it in the bytes → `request` verifies and views it → the engine works →
//! `reply` writes the answer. `client` is the other side. Nothing here touches a socket but the client.

mod client;
mod connection;
pub mod frame;
#[rustfmt::skip]
mod generated;
pub mod probe;
mod reply;
mod request;

pub use client::{Client, ClientError, ClientOptions};
pub use connection::{Connection, ConnectionError, Receiver, Sender};
pub use generated::hashward::wire::{ErrorCode, HitRef, Match};
pub use reply::{Answer, Hit, Matched, Receipt, Refusal, Replies, Reply, ReplyError, Rows, Welcome};
pub use request::{
    Hashes, Query, QueryView, Request, RequestView, SubmitView, WireError, hello, lookup, parse, submit,
};

/// Version of the protocol this build speaks.
pub const VERSION: u16 = 1;
