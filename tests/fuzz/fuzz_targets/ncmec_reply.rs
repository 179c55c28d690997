//! Bytes as NCMEC, or something in its place, answers them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reporter::cyber_tipline::{reply, schema};

fuzz_target!(|bytes: &[u8]| {
    for content_type in [None, Some("application/xml;charset=ISO-8859-1")] {
        let _ = reply::parse(bytes, content_type);
    }
    let _ = schema::validate(bytes);
});
