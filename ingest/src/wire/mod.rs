//! The binary protocol: `schema/hashward.fbs` in Rust, for both sides.
//!
//! Way of a frame: [`frame`] finds it in the bytes → `request` verifies and views it → the engine works →
//! `reply` writes the answer. `encode` and `client` are the other side. Nothing here touches a socket but the client.
//!
//! ```no_run
//! use index::{RequestId, Signal, SignalType, UploadContext};
//! use ingest::wire::{Client, ClientOptions, Query};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = Client::new("127.0.0.1:7400".parse()?, ClientOptions::default());
//! let text = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22";
//! let Signal::Pdq(hash) = Signal::parse(SignalType::Pdq, text)? else { return Ok(()) };
//!
//! // Which banked contents match? Hashes that are not listed matched nothing.
//! for hit in client.lookup(Query::pdq(vec![hash]))?.hits {
//!     println!("hash {} matches {:?}", hit.hash, hit.matches);
//! }
//!
//! // The same, and logged: when this returns, the hits are durable. It is sent again under its id until the outcome is
//! // known; keep the id, and an outcome that stayed unknown can be asked for later.
//! let context = UploadContext { item_id: Some("4711".into()), ..UploadContext::default() };
//! let (answer, receipt) = client.submit(RequestId::fresh(), Query::pdq(vec![hash]), vec![(0, context)])?;
//! println!("{} hits from position {}", answer.hits.len(), receipt.first_position);
//! # Ok(())
//! # }
//! ```

mod client;
mod connection;
mod encode;
pub mod frame;
#[rustfmt::skip]
mod generated;
pub mod probe;
mod reply;
mod request;

pub use client::{Client, ClientError, ClientOptions};
pub use connection::{Connection, ConnectionError, Receiver, Sender};
pub use encode::{Hashes, Query, Request, hello, lookup, submit};
pub use generated::hashward::wire::{ErrorCode, HitRef, Match};
pub use reply::{Answer, Hit, Matched, Receipt, Refusal, Replies, Reply, ReplyError, Rows, Welcome};
pub use request::{QueryView, RequestView, SubmitView, WireError, parse};

/// Version of the protocol this build speaks.
pub const VERSION: u16 = 1;
