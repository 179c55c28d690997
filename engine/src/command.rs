//! The verbs that are not `serve`: clients of a running server, and the local hasher.

pub mod bank;
pub mod demo;
pub mod hash;
mod http;
pub mod lookup;
