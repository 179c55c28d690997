//! Decoders of pictures, which are helper processes: how many files may wait for them, what is counted, and the alarm.
//!
//! Everything in this process that turns bytes from outside into pixels goes through here; films go to ffmpeg, in the
//! same cage. A file whose decoder crashed or overran is answered as one that cannot be decoded. A file that finds no
//! helper is nobody's fault but ours: it is refused for now, and whoever sent it tries again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ingest::media::Limits;
use ingest::media::cage::{CageError, Counts, Decoded, Launcher, Pool};
use reporter::desk::alarm;
use serde_json::{Value, json};

use crate::clock::now_ms;
use crate::desk::Desk;

/// Files that may wait for a decoder; more are refused.
pub const WAITING_MAX: u64 = 512;
/// Files that are no pictures for the decoder's fault, in so long, before it is an alarm.
const ALARM_AT: u64 = 3;
const ALARM_SPAN: Duration = Duration::from_secs(600);
const ALARM_EVERY: Duration = Duration::from_secs(2);

/// What is counted of decoders; shown by `/metrics`.
#[derive(Debug, Default)]
pub struct DecoderCounts {
    /// The helpers'.
    pub helpers: Arc<Counts>,
    /// Files that wait for a decoder or are being decoded.
    pub waiting: AtomicU64,
    /// Files since start that were refused because too many waited.
    pub refused: AtomicU64,
}

/// The decoders.
pub struct Decoders {
    pool: Pool,
    counts: Arc<DecoderCounts>,
    time_max: Duration,
}

/// A file's place among those that wait.
pub struct Place(Arc<DecoderCounts>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Decoders {
    /// Starts as many helpers as files may be decoded at once.
    pub fn start(
        launcher: Launcher,
        at_once: usize,
        time_max: Duration,
        counts: Arc<DecoderCounts>,
    ) -> Result<Self, CageError> {
        let pool = Pool::start(launcher, at_once, counts.helpers.clone())?;
        for missing in pool.missing() {
            tracing::info!("decoders run without a part of their cage: {missing}");
        }
        Ok(Self { pool, counts, time_max })
    }

    /// Takes a place among the files that wait; none if too many do.
    pub fn place(&self) -> Option<Place> {
        let place = Place(self.counts.clone());
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX {
            return Some(place);
        }
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// PDQ hashes of a picture. Blocks.
    pub fn hash(&self, file: &[u8], dihedral: bool, frames_max: Option<usize>) -> Result<Decoded, CageError> {
        self.pool.hash(file, &Limits::default(), dihedral, frames_max, self.time_max).inspect_err(told)
    }

    /// A picture as a small JPEG. Blocks.
    pub fn shrink(&self, file: &[u8], pixels_max: u32) -> Result<Vec<u8>, CageError> {
        self.pool.shrink(file, &Limits::default(), pixels_max, self.time_max).inspect_err(told)
    }

    /// How they stand, for `/readyz`.
    pub fn shown(&self) -> Value {
        json!({
            "idle": self.pool.idle(),
            "missing": self.pool.missing(),
            "trouble": self.pool.trouble(),
        })
    }
}

/// Logs what decoders did not survive. Nothing of the file is named: its bytes are counted and no more.
fn told(error: &CageError) {
    match error {
        CageError::Refused(_) => {}
        CageError::Crashed { .. } | CageError::Overran { .. } => {
            tracing::warn!(%error, "a decoder did not survive a file: the file is answered as not decodable");
        }
        CageError::Unavailable(_) => tracing::error!(%error, "files are not decoded"),
    }
}

/// Raises an alarm when decoders crash or overrun again and again, or cannot be started.
pub async fn raise_alarms(counts: Arc<DecoderCounts>, desk: Desk) {
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let lost = || read(&counts.helpers.crashed) + read(&counts.helpers.overran);
    let (mut lost_before, mut since) = (lost(), tokio::time::Instant::now());
    let mut refused_before = read(&counts.helpers.helpers_refused);
    loop {
        tokio::time::sleep(ALARM_EVERY).await;
        let files = lost().saturating_sub(lost_before);
        if files >= ALARM_AT {
            let words = format!(
                "{files} files within {} minutes crashed their decoder or overran its time. They are answered as not \
                 decodable, never as clean. Somebody may be trying to break a decoder: look at who sends them, and \
                 update the server.",
                ALARM_SPAN.as_secs() / 60
            );
            raise(&desk, "decoders.lost", words).await;
        }
        if files >= ALARM_AT || since.elapsed() >= ALARM_SPAN {
            (lost_before, since) = (lost(), tokio::time::Instant::now());
        }
        let refused = read(&counts.helpers.helpers_refused);
        if refused > refused_before {
            let words = "decoders cannot be started, so no picture is hashed: the log and /readyz say why";
            raise(&desk, "decoders.unavailable", words.to_string()).await;
        }
        refused_before = refused;
    }
}

async fn raise(desk: &Desk, kind: &'static str, words: String) {
    let raised = desk
        .ask(move |turn| Ok(alarm::raise(&mut turn.tx, kind, "decoders", &words, false, now_ms())?))
        .await;
    if let Err(error) = raised {
        tracing::warn!(%error, kind, "an alarm of the decoders could not be raised");
    }
}
