//! The harness: the real binary in a folder of its own, on ports it picks itself, ended by its own pid.
//!
//! Nothing here reaches into the program: sockets, HTTP, signals and files only.

#![allow(clippy::panic)] // a harness fails the test by panicking

mod browser;
mod clips;
mod files;
mod hma;
mod http;
pub mod ncmec;
pub mod parsers;
mod platform;
mod s3;
mod server;
mod skip;
pub mod soak;
pub mod transcript;
mod wire;

pub use browser::Browser;
pub use clips::Clips;
pub use files::Files;
pub use hma::Hma;
pub use http::{Http, Unanswered};
pub use ncmec::Ncmec;
pub use platform::{Asked, Misinformed, Platform, film};
pub use s3::S3;
pub use server::{Server, Setup, Stopped, program, refusal};
pub use skip::skipped;

use index::Hash256;
use index::store::keys::FORMAT;

/// Format number of the data directories this build writes.
pub const DATA_FORMAT: u32 = FORMAT;

/// A hash with `bits` of its bits flipped, the same ones for the same `seed`.
pub fn flipped(hash: &Hash256, bits: usize, seed: u64) -> Hash256 {
    let mut order: Vec<usize> = (0..256).collect();
    let mut state = seed | 1;
    for at in (1..256).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
    let mut flipped = *hash;
    for bit in &order[..bits] {
        flipped.0[bit / 8] ^= 1 << (bit % 8);
    }
    flipped
}

/// Text form of a hash.
pub fn hex(hash: &Hash256) -> String {
    index::Signal::Pdq(*hash).to_string()
}
