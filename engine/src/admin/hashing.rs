//! From a file's bytes to signals, within limits of memory and time; shared by HMA's routes and our own.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::body::Bytes;
use axum::http::StatusCode;
use index::signal::FRAMES_MAX;
use index::signal::text::normal_url;
use index::{Frame, Signal, SignalError, SignalType};
use ingest::media::digest::{Digests, digest};
use ingest::media::pdq::{self, QUALITY_MIN, TURNS};
use ingest::media::video::{Video, VideoError, VideoOptions, hash_video};
use ingest::media::{Limits, MediaError, decode, hash_frames, is_picture, is_video};
use tokio::time::timeout;

use super::{Admin, Refusal};

/// What is to be made of a file.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Signals of these types.
    pub kinds: Vec<SignalType>,
    /// The PDQ hashes of the picture turned and mirrored.
    pub dihedral: bool,
    /// The hashes of all frames of an animated picture.
    pub frames: bool,
    /// Whatever can be had: of a damaged video what can be read, and the other types where one fails.
    pub partial: bool,
}

/// What was made of it.
#[derive(Clone, Debug, Default)]
pub struct Hashed {
    /// A signal of each type asked for; `None` where there is too little to be matched by.
    pub signals: BTreeMap<SignalType, Option<Signal>>,
    /// The picture's PDQ hash, whatever its quality, and that quality.
    pub picture: Option<(Signal, u8)>,
    /// The PDQ hashes of the picture turned and mirrored, by the names of [`TURNS`].
    pub dihedral: Vec<(&'static str, Signal)>,
    /// The frames of an animated picture.
    pub frames: Option<Vec<Frame>>,
    /// Why a video is not whole.
    pub damage: Option<String>,
    /// Why there is no signal of a type, where the others were wanted all the same.
    pub failed: BTreeMap<SignalType, String>,
    /// Whether videos are not looked into here, for want of the program.
    pub no_program: bool,
}

/// Why nothing was made of it.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// It is no picture that is read.
    #[error("the photo cannot be hashed: {0}")]
    Picture(#[from] MediaError),
    /// It is no video that is read.
    #[error("the video cannot be hashed: {0}")]
    Video(#[from] VideoError),
    /// It is no text of this kind.
    #[error("{0}")]
    Text(#[from] SignalError),
    /// It took too long.
    #[error("the file was not hashed within {seconds} s")]
    Late {
        /// The limit.
        seconds: u64,
    },
    /// The server is shutting down.
    #[error("the server is shutting down; send it again")]
    Stopped,
}

impl HashError {
    /// Whose fault it is.
    pub fn status(&self) -> StatusCode {
        match self {
            HashError::Video(VideoError::NoProgram { .. }) => StatusCode::NOT_IMPLEMENTED,
            HashError::Video(VideoError::System(_)) | HashError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<HashError> for Refusal {
    fn from(error: HashError) -> Self {
        Refusal::new(error.status(), error.to_string())
    }
}

/// The types that fit a file: what its first bytes say counts before what a header says.
pub fn kinds_of(bytes: &[u8], content_type: &str) -> Vec<SignalType> {
    let own: &[SignalType] = if is_picture(bytes) {
        &[SignalType::Pdq]
    } else if is_video(bytes) || content_type.to_ascii_lowercase().starts_with("video/") {
        &[SignalType::VideoMd5, SignalType::Vpdq]
    } else {
        &[]
    };
    own.iter().chain(&[SignalType::Md5, SignalType::Sha1, SignalType::Sha256]).copied().collect()
}

/// Makes of a file what is wanted. Decoding takes memory and time: not more files at once than there are CPUs.
pub async fn hash(admin: &Admin, bytes: Bytes, wanted: Wanted) -> Result<Hashed, HashError> {
    let turn = admin.turns.machines().await.map_err(|_| HashError::Stopped)?;
    let options = admin.config.video.clone();
    let work = tokio::task::spawn_blocking(move || {
        let hashed = make(&bytes, &wanted, &options);
        drop(turn); // also where nobody waits for it any more
        hashed
    });
    match timeout(admin.config.hash_time, work).await {
        Ok(Ok(hashed)) => hashed,
        Ok(Err(_)) => Err(HashError::Stopped),
        Err(_) => Err(HashError::Late { seconds: admin.config.hash_time.as_secs() }),
    }
}

fn make(bytes: &[u8], wanted: &Wanted, options: &VideoOptions) -> Result<Hashed, HashError> {
    let started = Instant::now();
    let mut hashed = Hashed::default();
    let mut digests = None;
    for kind in &wanted.kinds {
        match signal(*kind, bytes, wanted, options, &mut digests, &mut hashed) {
            Ok(signal) => {
                hashed.signals.insert(*kind, signal);
            }
            Err(error) if wanted.partial => {
                hashed.no_program |= matches!(error, HashError::Video(VideoError::NoProgram { .. }));
                hashed.failed.insert(*kind, error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    if wanted.frames && hashed.picture.is_some() {
        match hash_frames(bytes, &Limits::default(), FRAMES_MAX, started + options.time_max) {
            Ok(frames) => hashed.frames = frames,
            Err(error) if wanted.partial => hashed.damage = Some(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(hashed)
}

/// The signal of one type.
fn signal(
    kind: SignalType,
    bytes: &[u8],
    wanted: &Wanted,
    options: &VideoOptions,
    digests: &mut Option<Digests>,
    hashed: &mut Hashed,
) -> Result<Option<Signal>, HashError> {
    Ok(match kind {
        SignalType::Pdq => {
            let picture = decode(bytes, &Limits::default())?;
            let (pixels, width, height) =
                (picture.as_raw(), picture.width() as usize, picture.height() as usize);
            let quality = if wanted.dihedral {
                let (hashes, quality) = pdq::dihedral(pixels, width, height);
                hashed.dihedral = TURNS.into_iter().zip(hashes.map(Signal::Pdq)).collect();
                hashed.picture = Some((Signal::Pdq(hashes[0]), quality));
                quality
            } else {
                let pdq::Pdq { hash, quality } = pdq::hash(pixels, width, height);
                hashed.picture = Some((Signal::Pdq(hash), quality));
                quality
            };
            let signal = hashed.picture.as_ref().map(|(signal, _)| signal.clone());
            signal.filter(|_| quality >= QUALITY_MIN)
        }
        SignalType::Vpdq => {
            let Video { frames, damage } = hash_video(bytes, options)?;
            match damage {
                Some(said) if !wanted.partial => return Err(VideoError::Unreadable { said }.into()),
                damage => hashed.damage = damage,
            }
            Some(Signal::Video(frames.into()))
        }
        SignalType::Url | SignalType::RawText => Some(Signal::from_bytes(kind, bytes)?),
        SignalType::UrlMd5 => {
            let url = Signal::from_bytes(SignalType::Url, bytes)?.to_string();
            Some(of_digest(kind, &digests_of(normal_url(&url).as_bytes()))?)
        }
        kind => {
            let digests = digests.get_or_insert_with(|| digests_of(bytes));
            Some(of_digest(kind, digests)?)
        }
    })
}

fn digests_of(bytes: &[u8]) -> Digests {
    digest(bytes).expect("memory is read without errors")
}

fn of_digest(kind: SignalType, digests: &Digests) -> Result<Signal, SignalError> {
    let text = match kind {
        SignalType::Sha1 => &digests.sha1,
        SignalType::Sha256 => &digests.sha256,
        _ => &digests.md5,
    };
    Signal::parse(kind, text)
}
