//! What a client asks, as it writes it.

use flatbuffers::{FlatBufferBuilder, Vector, WIPOffset};
use index::{Digest, Hash256, RequestId, SignalType, UploadContext};

use super::generated::hashward::wire as fb;
use super::{VERSION, frame};

/// The hashes a client sends; owned.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The hashes.
    pub hashes: Hashes,
    /// Bits that may differ; the type's own if absent.
    pub threshold: Option<u16>,
    /// The uploader's numbers: none, or one for each hash.
    pub upload_ids: Vec<u64>,
}

/// Hashes of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum Hashes {
    /// PDQ.
    Pdq(Vec<Hash256>),
    /// Digests of this type.
    Exact(SignalType, Vec<Digest>),
}

impl Query {
    /// PDQ hashes with the default threshold.
    pub fn pdq(hashes: Vec<Hash256>) -> Self {
        Self { hashes: Hashes::Pdq(hashes), threshold: None, upload_ids: Vec::new() }
    }

    /// Digests of an exact type.
    pub fn exact(kind: SignalType, digests: Vec<Digest>) -> Self {
        Self { hashes: Hashes::Exact(kind, digests), threshold: None, upload_ids: Vec::new() }
    }
}

/// A request a client sends; owned.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Match, and answer.
    Lookup(Query),
    /// Match, log hits durably, and answer.
    Submit {
        /// The client's id of the request.
        request: RequestId,
        /// Whether this id was sent before.
        retry: bool,
        /// The hashes.
        query: Query,
        /// What is told about some of them, ascending by index.
        contexts: Vec<(u32, UploadContext)>,
    },
}

impl Request {
    /// Appends the request as a frame.
    pub fn encode(&self, correlation: u64, out: &mut Vec<u8>) {
        match self {
            Request::Lookup(query) => lookup(correlation, query, out),
            Request::Submit { request, retry, query, contexts } => {
                submit(correlation, *request, *retry, query, contexts, out);
            }
        }
    }
}

/// Appends a Hello frame.
pub fn hello(correlation: u64, token: Option<&str>, out: &mut Vec<u8>) {
    let mut builder = FlatBufferBuilder::new();
    let token = token.map(|token| builder.create_string(token));
    let body = fb::Hello::create(&mut builder, &fb::HelloArgs { version: VERSION, token });
    finish(builder, correlation, fb::Body::Hello, body.as_union_value(), out);
}

/// Appends a Lookup frame.
pub fn lookup(correlation: u64, query: &Query, out: &mut Vec<u8>) {
    let mut builder = FlatBufferBuilder::with_capacity(128 + 40 * query.hashes.len());
    let parts = vectors(&mut builder, query);
    let args = fb::LookupArgs {
        signal_type: query.hashes.kind() as u8,
        threshold: threshold(query),
        pdq: parts.pdq,
        md5: parts.md5,
        digests: parts.digests,
        upload_ids: parts.upload_ids,
    };
    let body = fb::Lookup::create(&mut builder, &args);
    finish(builder, correlation, fb::Body::Lookup, body.as_union_value(), out);
}

/// Appends a Submit frame.
pub fn submit(
    correlation: u64,
    request: RequestId,
    retry: bool,
    query: &Query,
    contexts: &[(u32, UploadContext)],
    out: &mut Vec<u8>,
) {
    let mut builder = FlatBufferBuilder::with_capacity(256 + 40 * query.hashes.len());
    let parts = vectors(&mut builder, query);
    let contexts: Vec<_> = contexts.iter().map(|(hash, told)| context(&mut builder, *hash, told)).collect();
    let contexts = (!contexts.is_empty()).then(|| builder.create_vector(&contexts));
    let args = fb::SubmitArgs {
        request: Some(&fb::RequestId::new(request.as_bytes())),
        retry,
        signal_type: query.hashes.kind() as u8,
        threshold: threshold(query),
        pdq: parts.pdq,
        md5: parts.md5,
        digests: parts.digests,
        upload_ids: parts.upload_ids,
        contexts,
    };
    let body = fb::Submit::create(&mut builder, &args);
    finish(builder, correlation, fb::Body::Submit, body.as_union_value(), out);
}

impl Hashes {
    /// Their type.
    pub fn kind(&self) -> SignalType {
        match self {
            Hashes::Pdq(_) => SignalType::Pdq,
            Hashes::Exact(kind, _) => *kind,
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Hashes::Pdq(hashes) => hashes.len(),
            Hashes::Exact(_, digests) => digests.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn threshold(query: &Query) -> i16 {
    query.threshold.map_or(-1, |bits| i16::try_from(bits).unwrap_or(i16::MAX))
}

struct Vectors<'a> {
    pdq: Option<WIPOffset<Vector<'a, fb::Hash256>>>,
    md5: Option<WIPOffset<Vector<'a, fb::Hash128>>>,
    digests: Option<WIPOffset<Vector<'a, u8>>>,
    upload_ids: Option<WIPOffset<Vector<'a, u64>>>,
}

fn vectors<'a>(builder: &mut FlatBufferBuilder<'a>, query: &Query) -> Vectors<'a> {
    let (mut pdq, mut md5, mut digests) = (None, None, None);
    match &query.hashes {
        Hashes::Pdq(hashes) => {
            pdq = Some(builder.create_vector_from_iter(hashes.iter().map(|h| fb::Hash256::new(&h.0))))
        }
        Hashes::Exact(SignalType::VideoMd5 | SignalType::Md5 | SignalType::UrlMd5, hashes) => {
            let first = |digest: &Digest| fb::Hash128::new(digest.bytes().first_chunk().unwrap_or(&[0; 16]));
            md5 = Some(builder.create_vector_from_iter(hashes.iter().map(first)))
        }
        Hashes::Exact(kind, hashes) => {
            let bytes: Vec<u8> = hashes
                .iter()
                .flat_map(|digest| &digest.bytes()[..kind.bytes().unwrap_or(32)])
                .copied()
                .collect();
            digests = Some(builder.create_vector(&bytes))
        }
    }
    let upload_ids = (!query.upload_ids.is_empty()).then(|| builder.create_vector(&query.upload_ids));
    Vectors { pdq, md5, digests, upload_ids }
}

fn context<'a>(
    builder: &mut FlatBufferBuilder<'a>,
    hash: u32,
    told: &UploadContext,
) -> WIPOffset<fb::Context<'a>> {
    let mut text = |text: &Option<String>| text.as_deref().map(|text| builder.create_string(text));
    let args = fb::ContextArgs {
        hash,
        item_id: text(&told.item_id),
        item_type: text(&told.item_type),
        creator: text(&told.creator),
        url: text(&told.url),
        ip: text(&told.ip),
        created_at_ms: told.created_at_ms.unwrap_or(0),
    };
    fb::Context::create(builder, &args)
}

pub(super) fn finish(
    mut builder: FlatBufferBuilder<'_>,
    correlation: u64,
    body_type: fb::Body,
    body: WIPOffset<flatbuffers::UnionWIPOffset>,
    out: &mut Vec<u8>,
) {
    let root =
        fb::Message::create(&mut builder, &fb::MessageArgs { correlation, body_type, body: Some(body) });
    builder.finish(root, None);
    frame::append(builder.finished_data(), out);
}
