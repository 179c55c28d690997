//! The questions of a load generator, and what their answers must be: what `hashward-loadtest` and the soak share.

pub mod truth;
pub mod workload;
