//! From a file's bytes to signals, within limits of memory and time; shared by HMA's routes and our own.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use index::signal::FRAMES_MAX;
use index::signal::text::normal_url;
use index::{Frame, Signal, SignalError, SignalType};
use ingest::media::cage::{CageError, Decoded};
use ingest::media::digest::{Digests, digest};
use ingest::media::pdq::{QUALITY_MIN, TURNS};
use ingest::media::video::{Video, VideoError, VideoOptions, hash_video};
use ingest::media::{is_picture, is_video};
use tokio::time::timeout;

use super::{Admin, Refusal};
use crate::decoders::{Decoders, WAITING_MAX};

/// What a decoder that was stopped at its limit may take to be reaped and replaced.
const GRACE: Duration = Duration::from_secs(2);

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
    Picture(#[from] CageError),
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
    /// Too many files wait.
    #[error("{WAITING_MAX} files wait to be decoded already; send it again later")]
    Full,
    /// The server is shutting down.
    #[error("the server is shutting down; send it again")]
    Stopped,
}

impl HashError {
    /// Whose fault it is.
    pub fn status(&self) -> StatusCode {
        match self {
            HashError::Video(VideoError::NoProgram { .. }) => StatusCode::NOT_IMPLEMENTED,
            _ if self.is_ours() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether the fault lies with this server and not with the file: another try may go better.
    fn is_ours(&self) -> bool {
        match self {
            HashError::Picture(error) => error.is_ours(),
            HashError::Video(VideoError::System(_)) | HashError::Full | HashError::Stopped => true,
            _ => false,
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
    let place = admin.decoders.place().ok_or(HashError::Full)?;
    let turn = admin.turns.machines().await.map_err(|_| HashError::Stopped)?;
    let (decoders, options) = (admin.decoders.clone(), admin.config.video.clone());
    let work = tokio::task::spawn_blocking(move || {
        let hashed = Making { bytes: &bytes, wanted: &wanted, decoders: &decoders, options: &options }.make();
        drop((place, turn)); // also where nobody waits for it any more
        hashed
    });
    match timeout(admin.config.hash_time + GRACE, work).await {
        Ok(Ok(hashed)) => hashed,
        Ok(Err(_)) => Err(HashError::Stopped),
        Err(_) => Err(HashError::Late { seconds: admin.config.hash_time.as_secs() }),
    }
}

/// A file of which something is made.
struct Making<'m> {
    bytes: &'m [u8],
    wanted: &'m Wanted,
    decoders: &'m Decoders,
    options: &'m VideoOptions,
}

impl Making<'_> {
    fn make(&self) -> Result<Hashed, HashError> {
        let mut hashed = Hashed::default();
        let mut digests = None;
        for kind in &self.wanted.kinds {
            match self.signal(*kind, &mut digests, &mut hashed) {
                Ok(signal) => {
                    hashed.signals.insert(*kind, signal);
                }
                Err(error) if self.wanted.partial && !error.is_ours() => {
                    hashed.no_program |= matches!(error, HashError::Video(VideoError::NoProgram { .. }));
                    hashed.failed.insert(*kind, error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(hashed)
    }

    /// The signal of one type.
    fn signal(
        &self,
        kind: SignalType,
        digests: &mut Option<Digests>,
        hashed: &mut Hashed,
    ) -> Result<Option<Signal>, HashError> {
        let bytes = self.bytes;
        Ok(match kind {
            SignalType::Pdq => self.picture(hashed)?,
            SignalType::Vpdq => {
                let Video { frames, damage } = hash_video(bytes, self.options)?;
                match damage {
                    Some(said) if !self.wanted.partial => return Err(VideoError::Unreadable { said }.into()),
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

    /// The picture's PDQ hash, and those of its frames.
    fn picture(&self, hashed: &mut Hashed) -> Result<Option<Signal>, HashError> {
        let Wanted { dihedral, frames, partial, .. } = *self.wanted;
        let Decoded { picture, frames } =
            self.decoders.hash(self.bytes, dihedral, frames.then_some(FRAMES_MAX))?;
        match frames {
            Ok(frames) => hashed.frames = frames,
            Err(error) if partial && !error.is_ours() => hashed.damage = Some(error.to_string()),
            Err(error) => return Err(error.into()),
        }
        let hashes: Vec<Signal> = picture.hashes.into_iter().map(Signal::Pdq).collect();
        let own = hashes.first().cloned();
        hashed.picture = own.clone().map(|own| (own, picture.quality));
        if dihedral {
            hashed.dihedral = TURNS.into_iter().zip(hashes).collect();
        }
        Ok(own.filter(|_| picture.quality >= QUALITY_MIN))
    }
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
