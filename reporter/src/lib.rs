//! What happens to a hit, and to an item that a platform tells of.
//!
//! `reporter` reads the hit log and knows nothing of sockets, indexes or how a hit was found. What came in waits durably
//! (`desk::intake`) until rules can see it (`router`), and becomes jobs for people (`desk::job`), whose decisions are
//! durable records (`desk::decision`). Each stage commits its effect and what it has read in one batch, so that
//! everything takes effect once, whatever crashes. Time comes in as an argument; what must be found out in the world is
//! asked of who holds this.
//!
//! Who may do what, and sees what, is in `access`.
//!
//! Reading order: `desk` (what there is) → `router::rule`, `router::condition` (what an operator writes) →
//! `router::table` (rules and facts to outcomes; shards call it too) → `router::settle` (and all that follows) →
//! [`Cases`] (the one writer). Beside them `audit` remembers who did what, so that it cannot be changed unseen.

pub mod access;
pub mod audit;
mod cases;
mod census;
pub mod cyber_tipline;
pub mod desk;
mod error;
mod ids;
mod read;
pub mod router;
pub mod tip;
mod tx;

pub use cases::{Answer, Cases, Command, Done, Gate, Turn, command};
pub use census::{Census, census};
pub use desk::ncmec::renew_media_keys;
pub use desk::renew::{renew_items, renew_jobs};
pub use error::{DeskError, RouterError};
pub use ids::{JobId, OrgName};
pub use read::{At, FieldError};
pub use router::Gauges;
pub use tx::{Tx, key, read_row};
