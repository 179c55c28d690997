//! What the platform adds to a report when it is asked: the request, and its answer, checked whole.

use serde::{Deserialize, Serialize};

/// What the platform answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Info {}
