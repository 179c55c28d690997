//! What a client asks, as the server sees it: verified views of a frame.

use flatbuffers::{ForwardsUOffset, Vector, VerifierOptions};
use index::store::request_digest;
use index::{Digest, Distance, Hash256, RequestId, SignalType, UploadContext};

use super::ErrorCode;
use super::generated::hashward::wire as fb;

/// Tables a message may hold besides one context per hash.
const TABLES_SPARE: usize = 16;

/// Why a frame is not a request. Becomes an Error answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// The frame's correlation; 0 where it could not be read.
    pub correlation: u64,
    /// What kind of fault.
    pub code: ErrorCode,
    /// The field that is wrong; empty where no single one is.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// A verified request; borrows the frame.
#[derive(Clone, Copy, Debug)]
pub enum RequestView<'a> {
    /// The first frame.
    Hello {
        /// The client's protocol version.
        version: u16,
        /// Its token; empty without one.
        token: &'a str,
    },
    /// Match, and answer.
    Lookup(QueryView<'a>),
    /// Match, log hits durably, and answer.
    Submit(SubmitView<'a>),
}

/// The hashes of a Lookup or Submit.
#[derive(Clone, Copy, Debug)]
pub struct QueryView<'a> {
    /// Their type.
    pub signal_type: SignalType,
    /// Bits that may differ; without, each bank's own threshold, or the type's.
    pub threshold: Option<Distance>,
    bytes: &'a [u8],
    /// Bytes of a hash.
    width: usize,
    upload_ids: Option<Vector<'a, u64>>,
}

impl<'a> QueryView<'a> {
    /// How many hashes.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.width
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends PDQ hashes to an aligned buffer. No allocation once it has grown.
    pub fn append_pdq(&self, into: &mut Vec<Hash256>) {
        into.extend(self.bytes.as_chunks::<32>().0.iter().map(|bytes| Hash256(*bytes)));
    }

    /// Copies digests into an aligned buffer (cleared first).
    pub fn copy_digests(&self, into: &mut Vec<Digest>) {
        into.clear();
        into.extend(self.bytes.chunks_exact(self.width).filter_map(Digest::new));
    }

    /// The uploader's number for a hash; 0 when it gave none.
    pub fn upload_id(&self, hash: usize) -> u64 {
        self.upload_ids.filter(|ids| hash < ids.len()).map_or(0, |ids| ids.get(hash))
    }
}

/// The fields a Lookup and a Submit share.
macro_rules! fields {
    ($table:expr) => {
        Fields {
            signal_type: $table.signal_type(),
            threshold: $table.threshold(),
            pdq: $table.pdq(),
            md5: $table.md5(),
            digests: $table.digests(),
            upload_ids: $table.upload_ids(),
        }
    };
}

/// A Submit.
#[derive(Clone, Copy, Debug)]
pub struct SubmitView<'a> {
    /// The client's id of the request.
    pub request: RequestId,
    /// Whether the client sent this id before.
    pub retry: bool,
    /// The hashes.
    pub query: QueryView<'a>,
    contexts: Option<Vector<'a, ForwardsUOffset<fb::Context<'a>>>>,
}

impl<'a> SubmitView<'a> {
    /// The item type the uploader told for a hash.
    pub fn item_type(&self, hash: u32) -> Option<&'a str> {
        self.told(hash)?.item_type()
    }

    /// The item's id that the uploader told for a hash.
    pub fn item_id(&self, hash: u32) -> Option<&'a str> {
        self.told(hash)?.item_id()
    }

    /// The user that the uploader told for a hash.
    pub fn creator(&self, hash: u32) -> Option<&'a str> {
        self.told(hash)?.creator()
    }

    /// What the uploader told about a hash.
    pub fn context(&self, hash: u32) -> UploadContext {
        let Some(told) = self.told(hash) else { return UploadContext::default() };
        let text = |text: Option<&str>| text.map(str::to_string);
        UploadContext {
            item_id: text(told.item_id()),
            item_type: text(told.item_type()),
            creator: text(told.creator()),
            url: text(told.url()),
            created_at_ms: (told.created_at_ms() > 0).then_some(told.created_at_ms()),
            ip: text(told.ip()),
            tenant: None,
            arrival: None,
        }
    }

    /// Tells this Submit from others under the same id: over the hashes, the threshold, the upload ids and whose items they
    /// are. What else a context says (a signed URL, an address) may change from a try to the next and is left out.
    pub fn digest(&self) -> u64 {
        let query = &self.query;
        let threshold = query.threshold.map_or(-1, |distance| i32::from(distance.bits())).to_le_bytes();
        let ids: Vec<u8> = query.upload_ids.into_iter().flatten().flat_map(u64::to_le_bytes).collect();
        let items: Vec<_> = self.contexts.into_iter().flatten().collect();
        let of: Vec<[u8; 4]> = items.iter().map(|told| told.hash().to_le_bytes()).collect();
        let items = items.iter().zip(&of).flat_map(|(told, of)| {
            let [id, kind] = [told.item_id(), told.item_type()].map(|text| text.unwrap_or("").as_bytes());
            [&of[..], id, kind]
        });
        let kind = [query.signal_type as u8];
        request_digest([&kind[..], &threshold, query.bytes, &ids].into_iter().chain(items))
    }

    /// Contexts ascend by hash (checked), so this is a binary search.
    fn told(&self, hash: u32) -> Option<fb::Context<'a>> {
        let contexts = self.contexts?;
        let (mut low, mut high) = (0, contexts.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if contexts.get(middle).hash() < hash { low = middle + 1 } else { high = middle }
        }
        (low < contexts.len()).then(|| contexts.get(low)).filter(|told| told.hash() == hash)
    }
}

/// Verifies a message and views it. Costs tens of nanoseconds whatever the number of hashes.
pub fn parse(message: &[u8], hashes_max: usize) -> Result<(u64, RequestView<'_>), WireError> {
    let options = VerifierOptions {
        max_depth: 8,
        max_tables: hashes_max + TABLES_SPARE,
        max_apparent_size: 1 << 30,
        ignore_missing_null_terminator: false,
    };
    let root = fb::root_as_message_with_opts(&options, message).map_err(|error| WireError {
        correlation: 0,
        code: ErrorCode::bad_frame,
        field: "",
        message: format!("the message is not a hashward.wire.Message: {}", clip(&error.to_string())),
    })?;
    let correlation = root.correlation();
    let view = if let Some(hello) = root.body_as_hello() {
        Ok(RequestView::Hello { version: hello.version(), token: hello.token().unwrap_or("") })
    } else if let Some(lookup) = root.body_as_lookup() {
        query(fields!(lookup), hashes_max).map(RequestView::Lookup)
    } else if let Some(submit) = root.body_as_submit() {
        view_submit(submit, hashes_max).map(RequestView::Submit)
    } else {
        Err(fault(ErrorCode::bad_frame, "body", "the body is not one a client sends in this version".into()))
    };
    view.map(|view| (correlation, view)).map_err(|error| WireError { correlation, ..error })
}

fn fault(code: ErrorCode, field: &'static str, message: String) -> WireError {
    WireError { correlation: 0, code, field, message }
}

struct Fields<'a> {
    signal_type: u8,
    threshold: i16,
    pdq: Option<Vector<'a, fb::Hash256>>,
    md5: Option<Vector<'a, fb::Hash128>>,
    digests: Option<Vector<'a, u8>>,
    upload_ids: Option<Vector<'a, u64>>,
}

fn query(fields: Fields<'_>, hashes_max: usize) -> Result<QueryView<'_>, WireError> {
    let Fields { signal_type: number, threshold, pdq, md5, digests, upload_ids } = fields;
    let signal_type = SignalType::from_number(number).ok_or_else(|| {
        let known = "known are 1 (pdq), 2 (video_md5), 3 (md5), 4 (sha1) and 5 (sha256)";
        fault(
            ErrorCode::unknown_signal_type,
            "signal_type",
            format!("signal type {number} is unknown: {known}"),
        )
    })?;
    let given = [
        ("pdq", pdq.map(|hashes| hashes.bytes())),
        ("md5", md5.map(|hashes| hashes.bytes())),
        ("digests", digests.map(|digests| digests.bytes())),
    ];
    let (own, width) = match (signal_type, signal_type.bytes()) {
        (SignalType::Pdq, Some(width)) => (0, width),
        (SignalType::VideoMd5 | SignalType::Md5 | SignalType::UrlMd5, Some(width)) => (1, width),
        (_, Some(width)) => (2, width),
        (_, None) => {
            return Err(fault(
                ErrorCode::unknown_signal_type,
                "signal_type",
                format!("{signal_type} signals differ in length: look them up by HTTP, POST /api/v1/lookup"),
            ));
        }
    };
    let (field, bytes) = given[own];
    if given.iter().enumerate().any(|(at, (_, bytes))| at != own && bytes.is_some()) {
        return Err(fault(
            ErrorCode::bad_field,
            field,
            format!("signal_type is {signal_type}, but hashes of the other type are there"),
        ));
    }
    let bytes = bytes.unwrap_or(&[]);
    let count = bytes.len() / width;
    if count * width != bytes.len() {
        return Err(fault(
            ErrorCode::bad_field,
            field,
            format!("{} bytes are not whole {signal_type} digests of {width} bytes", bytes.len()),
        ));
    }
    if count == 0 || count > hashes_max {
        return Err(fault(
            ErrorCode::bad_hash_count,
            field,
            format!("{count} hashes in one frame, allowed are 1 to {hashes_max}"),
        ));
    }
    if let Some(ids) = upload_ids
        && ids.len() != count
    {
        return Err(fault(
            ErrorCode::bad_field,
            "upload_ids",
            format!("{} upload_ids for {count} hashes: give one for each, or none", ids.len()),
        ));
    }
    let threshold = match threshold {
        -1 => None,
        bits => {
            let distance = u16::try_from(bits).ok().and_then(Distance::new);
            let allowed = signal_type.threshold_max();
            let distance = distance.filter(|distance| *distance <= allowed).ok_or_else(|| {
                let text = format!("threshold {bits}: {signal_type} takes 0 to {allowed}, or -1 for its own");
                fault(ErrorCode::bad_threshold, "threshold", text)
            })?;
            Some(distance)
        }
    };
    Ok(QueryView { signal_type, threshold, bytes, width, upload_ids })
}

fn view_submit(submit: fb::Submit<'_>, hashes_max: usize) -> Result<SubmitView<'_>, WireError> {
    let fields = fields!(submit);
    let query = query(fields, hashes_max)?;
    let request = RequestId::from_bytes(submit.request().bytes().into())
        .map_err(|error| fault(ErrorCode::bad_request_id, "request", error.to_string()))?;
    if let Some(contexts) = submit.contexts() {
        let mut last = None;
        for context in contexts {
            let hash = context.hash();
            if hash as usize >= query.len() || last.is_some_and(|last| hash <= last) {
                return Err(fault(
                    ErrorCode::bad_field,
                    "contexts",
                    format!(
                        "context of hash {hash}: give one for a hash at most, ascending, below {}",
                        query.len()
                    ),
                ));
            }
            last = Some(hash);
        }
    }
    Ok(SubmitView { request, retry: submit.retry(), query, contexts: submit.contexts() })
}

fn clip(text: &str) -> String {
    text.lines().next().unwrap_or("").chars().take(200).collect()
}
