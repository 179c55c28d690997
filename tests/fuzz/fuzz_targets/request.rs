//! Bytes as a server receives them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ingest::wire::probe::requests(bytes));
