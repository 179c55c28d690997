//! What a report says, built of the decision, the settings, the items and what the platform added. A pure function.
use crate::{desk::item::ItemKey, error::DeskError, tx::Tx};
use super::{filing::*, info::Info, organisation::Organisation};
/// STUB
pub enum BuildError { NotYet { words: String }, AllMediaMissing { words: String }, Desk(DeskError) }
/// STUB
pub fn asked(_: &Tx<'_>, _: &Tip) -> Result<(Vec<ItemKey>, Vec<ItemKey>), DeskError> { Ok(Default::default()) }
/// STUB
pub fn extras(_: &Tx<'_>, _: &Tip, _: Option<&Info>) -> Result<Vec<Extra>, DeskError> { Ok(Default::default()) }
/// STUB
pub fn draft(_: &Tx<'_>, _: &Tip, _: &Informed, _: &Organisation, _: &[i64], _: u64) -> Result<Draft, BuildError> { Err(BuildError::NotYet { words: String::new() }) }
