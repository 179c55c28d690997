//! Samples of the decoders.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Kind, Sample};
use crate::decoders::DecoderCounts;

/// Returns their samples.
pub(super) fn samples(decoders: &DecoderCounts) -> [Sample; 8] {
    let sample = |name, help, kind, value: &AtomicU64| Sample {
        name,
        help,
        kind,
        rows: vec![(Vec::new(), value.load(Ordering::Relaxed) as f64)],
    };
    let helpers = &decoders.helpers;
    [
        sample(
            "hashward_decoders_waiting",
            "Files that wait for a decoder or are being decoded",
            Kind::Gauge,
            &decoders.waiting,
        ),
        sample(
            "hashward_decoders_refused",
            "Files since start that were refused because too many waited for a decoder",
            Kind::Counter,
            &decoders.refused,
        ),
        sample(
            "hashward_decoder_files",
            "Files since start that were given to a decoder",
            Kind::Counter,
            &helpers.files,
        ),
        sample(
            "hashward_decoder_crashes",
            "Files since start whose decoder crashed, also when it was tried again",
            Kind::Counter,
            &helpers.crashed,
        ),
        sample(
            "hashward_decoder_overruns",
            "Files since start whose decoder did not end in time and was killed",
            Kind::Counter,
            &helpers.overran,
        ),
        sample(
            "hashward_decode_helpers_lost",
            "Helper processes that ended in the middle of their work since start",
            Kind::Counter,
            &helpers.helpers_lost,
        ),
        sample(
            "hashward_decode_helpers_started",
            "Helper processes started since start",
            Kind::Counter,
            &helpers.helpers_started,
        ),
        sample(
            "hashward_decode_helpers_refused",
            "Helper processes that could not be started since start",
            Kind::Counter,
            &helpers.helpers_refused,
        ),
    ]
}
