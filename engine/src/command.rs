//! The verbs that are not `serve`: clients of a running server, and the local hasher.

pub mod bank;
mod http;
pub mod lookup;
