//! The real program from outside. Each module is a theme; a test's name is its claim.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

mod access;
mod audit;
mod badinput;
mod banks;
mod cli;
mod crash;
mod curation;
mod defence;
mod disk;
mod embeddings;
mod evidence;
mod filing;
mod filing_killed;
mod hma;
mod items;
mod killed;
mod loadtest;
mod matching;
mod media;
mod ncmec_stand_in;
mod openapi;
mod organisations;
mod outbound;
mod powercut;
mod reactor;
mod reporting;
mod retention;
mod review;
mod rules;
mod s3;
mod sealed;
mod startup;
mod tables;
