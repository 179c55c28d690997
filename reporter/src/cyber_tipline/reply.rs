//! Reading what NCMEC answers: bounded, in either charset, without DTD or entities; by names of children, not by root.
/// STUB
pub const REPLY_BYTES_MAX: usize = 1 << 20;
/// STUB
#[derive(Clone, Debug, PartialEq)]
pub struct Reply { pub code: i64, pub description: Option<String>, pub report_id: Option<i64>, pub file_id: Option<String>, pub hash: Option<String>, pub files: Option<Vec<String>> }
/// STUB
#[derive(Debug, thiserror::Error)]
pub enum ReplyError { #[error("too long")] TooLong }
/// STUB
pub fn parse(_body: &[u8], _content_type: Option<&str>) -> Result<Reply, ReplyError> { Err(ReplyError::TooLong) }
