//! Every way in: the binary protocol, media hashing, hash lists; and how programs write what they were asked for.
//!
//! `ingest` turns what comes from outside into `index`'s types, and knows nothing of what happens to a hit.

pub mod exchange;
pub mod import;
pub mod media;
#[cfg(feature = "s3")]
pub mod s3;
pub mod stdout;
pub mod wire;
