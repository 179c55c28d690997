//! What becomes of a change.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hit::RequestId;
use crate::signal::{BankId, ContentId, Generation};
use crate::store::{Durability, StoreError};
use crate::tenant::Tenant;

/// What a change did. Stored for replays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BankAnswer {
    /// The state that first shows the change.
    pub generation: Generation,
    /// What the acknowledgement is worth.
    pub durability: Durability,
    /// The bank that was changed (of a deletion that found none: 0).
    pub bank: BankId,
    /// Contents added or removed.
    pub contents: u64,
    /// First id of the added contents (0 when none was added).
    pub first_content: ContentId,
    /// Whether this is the stored answer of an earlier request with the same id.
    #[serde(default)]
    pub replayed: bool,
}

/// Why a change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BankError {
    /// The name does not fit.
    #[error(
        "bank name '{name}' is not allowed: use A-Z, 0-9 and _, not starting with a digit, at most 255 characters; a tenant's begins with its name and a dot"
    )]
    Name {
        /// The name, clipped.
        name: String,
    },
    /// A tenant makes what would not be its own.
    #[error("a key of tenant {tenant} makes banks whose names begin with '{tenant}.'")]
    Foreign {
        /// Whose key.
        tenant: Tenant,
    },
    /// The name is taken.
    #[error("bank '{name}' already exists")]
    Exists {
        /// The name.
        name: String,
    },
    /// No such bank.
    #[error("bank '{name}' not found; `hashward bank list` shows the banks there are")]
    NotFound {
        /// The name asked for, clipped.
        name: String,
    },
    /// A content cannot be banked.
    #[error("content {index} of the request: {reason}")]
    Content {
        /// Zero-based place in the request.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The request id is older than the replay window.
    #[error(
        "request id {id} is older than the replay window, so its outcome is unknown: look whether the change is \
         there, then send it under a fresh id (and check this machine's clock)"
    )]
    TooOld {
        /// The id.
        id: RequestId,
    },
    /// The request id was born after the present.
    #[error(
        "request id {id} is {ahead_ms} ms in the future, so it was not recorded and nothing was changed: the clock of \
         whoever made it, or this machine's, is wrong; set it, and send the change under a fresh id"
    )]
    Future {
        /// The id.
        id: RequestId,
        /// How far ahead it is of this machine's clock.
        ahead_ms: u64,
    },
    /// The request id stands for another change.
    #[error(
        "request id {id} was used for another change: nothing was changed; send this one under a fresh id"
    )]
    Reused {
        /// The id.
        id: RequestId,
    },
    /// The tables would outgrow the memory they may take.
    #[error(
        "no memory for more: with these signals the tables and a merge of them would take {needed} bytes, \
         {allowed} are allowed: remove contents, or raise --memory-max-bytes on a machine that has more"
    )]
    Memory {
        /// What would be needed.
        needed: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// The store refused; whether the change was made is unknown until the same id is sent again.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
}
