//! Matching and the store it lives on.
//!
//! `index` knows nothing of sockets, rules or people. It parses signals, answers "which banked contents
//! lie within this distance" exactly, keeps banks durable, and publishes every change as one immutable
//! snapshot that readers load with a single pointer read.
//!
//! Reading order: [`signal`] (what is matched) → `kernel` (distance on this CPU) → `mih` (tables) →
//! `snapshot` (what a reader sees; `nearest` for what is kept of many matches; `topk` for the nearest of all; `texts` and `videos`, which are matched otherwise) →
//! [`store`] (what survives) → [`bank`] (how a change becomes both) → `find` (one signal of any type).

pub mod bank;
mod faults;
mod find;
pub mod hit;
mod kernel;
mod memory;
mod mih;
mod nearest;
mod rows;
mod segment;
pub mod signal;
mod slices;
mod snapshot;
pub mod store;
mod tenant;
mod texts;
mod topk;
mod videos;

pub use faults::Faults;
pub use find::{FindRule, FindScratch, Match, Nearness};
pub use hit::{Hit, HitMatch, Position, RequestId, UploadContext};
pub use kernel::{Kernel, KernelError};
pub use mih::cost::Costs;
pub use nearest::{Nearest, Ranked, Row};
pub use signal::{
    BankId, ContentId, Digest, Distance, Frame, Generation, Hash256, Signal, SignalError, SignalType,
};
pub use snapshot::{
    BulkRow, Entry, ExactSnapshot, Found, MergeJob, Merged, PdqSnapshot, Scratch, SegmentPlan, ShapeOption,
    Snapshot, Stats,
};
pub use tenant::{NoTenant, Tenant};
pub use topk::NearestScratch;
#[cfg(feature = "embeddings")]
pub use topk::{embeddings, graph};
pub use videos::VideoRule;

/// Memory, prefetch and lines as the tables use them: `make bench-peers` measures the machine's limit with them,
/// `cargo bench` the probe loop alone.
#[cfg(feature = "bench")]
pub mod bench {
    pub use crate::kernel::{AHEAD_MAX, Group, Line, Probes, Scanned, prefetch};
    pub use crate::memory::Huge;
}
