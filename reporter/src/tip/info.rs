//! What the platform adds to a report when it is asked: the request, and its answer, checked whole.

use serde::{Deserialize, Serialize};

/// What the platform answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Info {}
/// STUB
pub const INFO_BYTES_MAX: usize = 8 << 20;
/// STUB
pub fn request(_: &[crate::desk::item::ItemKey], _: &[crate::desk::item::ItemKey]) -> serde_json::Value { serde_json::Value::Null }
/// STUB
pub fn read(_: &[u8], _: &[crate::desk::item::ItemKey], _: &[crate::desk::item::ItemKey]) -> Result<Info, String> { Err(String::new()) }
