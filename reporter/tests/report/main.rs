//! What a report to NCMEC says of what is known, by the acceptance checks of specs/cybertipline.md.

#![allow(clippy::unwrap_used, clippy::panic)] // clippy takes these files' helpers for code outside tests

mod files;
mod missing;
mod property;
mod said;
mod threads;
mod who;
mod world;
