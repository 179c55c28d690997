//! The verbs that are not `serve`: clients of a running server, the local hasher, the check of a stopped server's data, and the demo.

pub mod admin;
pub mod bank;
pub mod check;
pub mod decode_helper;
pub mod demo;
pub mod embeddings;
pub mod hash;
mod http;
pub mod index;
pub mod lookup;
pub mod rekey;
pub mod scan;
