//! What the server answers: encoders that reuse their memory, and owned values for the client.

use std::time::Duration;

use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};
use index::store::Durability;
use index::{BankId, ContentId, Distance, Generation, Position};

use super::generated::hashward::wire as fb;
use super::{ErrorCode, HitRef, Match, VERSION, WireError, frame};

/// Bytes of room that the builder keeps: a larger answer is the exception.
const KEPT: usize = 256 << 10;

/// The matches of one frame, as they go on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// State of the banks that was asked.
    pub generation: Generation,
    /// Ascending by hash.
    pub hits: &'a [HitRef],
    /// Their matches.
    pub matches: &'a [Match],
    /// The banks that occur in `matches`.
    pub banks: &'a [(BankId, &'a str)],
}

/// What a Submit's answer says beyond its matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What the acknowledgement is worth; absent where there was nothing to make durable.
    pub durability: Option<Durability>,
    /// Place of the first hit in the hit log; 0 without hits.
    pub first_position: Position,
    /// The stored answer of an earlier Submit with this id.
    pub replayed: bool,
}

/// Writes answers as frames. One per shard: its memory is reused.
#[derive(Default)]
pub struct Replies {
    builder: FlatBufferBuilder<'static>,
}

impl Replies {
    /// The answer to a Hello.
    pub fn welcome(&mut self, correlation: u64, welcome: &Welcome, out: &mut Vec<u8>) {
        let builder = &mut self.builder;
        builder.reset();
        let server = Some(builder.create_string(&welcome.server));
        let kernel = Some(builder.create_string(&welcome.kernel));
        let reactor = Some(builder.create_string(&welcome.reactor));
        let args = fb::WelcomeArgs {
            version: VERSION,
            shard: welcome.shard,
            shards: welcome.shards,
            window_frames: welcome.window_frames,
            frame_bytes_max: welcome.frame_bytes_max,
            hashes_max: welcome.hashes_max,
            server,
            kernel,
            reactor,
            hashes: welcome.hashes,
            rss_bytes: welcome.rss_bytes,
        };
        let body = fb::Welcome::create(builder, &args).as_union_value();
        self.finish(correlation, fb::Body::Welcome, body, out);
    }

    /// The answer to a Lookup.
    pub fn lookup(&mut self, correlation: u64, rows: Rows<'_>, out: &mut Vec<u8>) {
        let builder = &mut self.builder;
        builder.reset();
        let (hits, matches, banks) = vectors(builder, rows);
        let args = fb::LookupAnswerArgs { generation: rows.generation.0, hits, matches, banks };
        let body = fb::LookupAnswer::create(builder, &args).as_union_value();
        self.finish(correlation, fb::Body::LookupAnswer, body, out);
    }

    /// The answer to a Submit.
    pub fn submit(&mut self, correlation: u64, rows: Rows<'_>, receipt: Receipt, out: &mut Vec<u8>) {
        let builder = &mut self.builder;
        builder.reset();
        let (hits, matches, banks) = vectors(builder, rows);
        let args = fb::SubmitAnswerArgs {
            generation: rows.generation.0,
            hits,
            matches,
            banks,
            durability: receipt.durability.map_or(0, |durability| durability as u8),
            first_position: receipt.first_position.0,
            replayed: receipt.replayed,
        };
        let body = fb::SubmitAnswer::create(builder, &args).as_union_value();
        self.finish(correlation, fb::Body::SubmitAnswer, body, out);
    }

    /// 'Something is wrong with what you sent.'
    pub fn error(&mut self, error: &WireError, retryable: bool, out: &mut Vec<u8>) {
        let builder = &mut self.builder;
        builder.reset();
        let field = Some(builder.create_string(error.field));
        let message = Some(builder.create_string(&error.message));
        let args = fb::ErrorArgs { code: error.code, field, message, retryable };
        let body = fb::Error::create(builder, &args).as_union_value();
        self.finish(error.correlation, fb::Body::Error, body, out);
    }

    /// 'Nothing was done; send it again later.'
    pub fn busy(&mut self, correlation: u64, retry_after: Duration, out: &mut Vec<u8>) {
        let builder = &mut self.builder;
        builder.reset();
        let args = fb::BusyArgs { retry_after_ms: retry_after.as_millis() as u32 };
        let body = fb::Busy::create(builder, &args).as_union_value();
        self.finish(correlation, fb::Body::Busy, body, out);
    }

    fn finish(
        &mut self,
        correlation: u64,
        body_type: fb::Body,
        body: WIPOffset<UnionWIPOffset>,
        out: &mut Vec<u8>,
    ) {
        let args = fb::MessageArgs { correlation, body_type, body: Some(body) };
        let root = fb::Message::create(&mut self.builder, &args);
        self.builder.finish(root, None);
        frame::append(self.builder.finished_data(), out);
        if self.builder.finished_data().len() > KEPT {
            self.builder = FlatBufferBuilder::new();
        }
    }
}

type RowVectors = (
    Option<WIPOffset<flatbuffers::Vector<'static, HitRef>>>,
    Option<WIPOffset<flatbuffers::Vector<'static, Match>>>,
    Option<WIPOffset<flatbuffers::Vector<'static, flatbuffers::ForwardsUOffset<fb::BankName<'static>>>>>,
);

fn vectors(builder: &mut FlatBufferBuilder<'static>, rows: Rows<'_>) -> RowVectors {
    if rows.hits.is_empty() {
        return (None, None, None);
    }
    let names: Vec<_> = rows
        .banks
        .iter()
        .map(|(id, name)| {
            let name = Some(builder.create_string(name));
            fb::BankName::create(builder, &fb::BankNameArgs { id: id.0, name })
        })
        .collect();
    let banks = Some(builder.create_vector(&names));
    let matches = Some(builder.create_vector(rows.matches));
    let hits = Some(builder.create_vector(rows.hits));
    (hits, matches, banks)
}

/// What the server says of itself and its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    /// Which shard serves the connection.
    pub shard: u16,
    /// Of how many.
    pub shards: u16,
    /// Submits that may wait for their answer.
    pub window_frames: u32,
    /// Largest message in bytes.
    pub frame_bytes_max: u32,
    /// Hashes in one frame.
    pub hashes_max: u32,
    /// Product version.
    pub server: String,
    /// Distance kernel in use.
    pub kernel: String,
    /// Reactor in use.
    pub reactor: String,
    /// Signals that lookups are matched against.
    pub hashes: u64,
    /// Resident memory of the server; 0 where it is not known.
    pub rss_bytes: u64,
}

/// An answer as the client holds it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To Hello.
    Welcome(Welcome),
    /// To Lookup.
    Lookup(Answer),
    /// To Submit.
    Submit(Answer, Receipt),
    /// To anything: it is wrong, or could not be done.
    Error(Refusal),
    /// To anything: nothing was done, later perhaps.
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
}

/// The server's 'no'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code:?}{})", if .field.is_empty() { String::new() } else { format!(", field {field}") })]
pub struct Refusal {
    /// What kind.
    pub code: ErrorCode,
    /// Which field; empty where no single one is wrong.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
    /// The same frame may succeed later.
    pub retryable: bool,
}

/// What matched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// State of the banks that was asked.
    pub generation: Generation,
    /// The hashes that matched, ascending.
    pub hits: Vec<Hit>,
}

/// One hash that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its index in the frame.
    pub hash: u32,
    /// What the rules say: 0 none, 1 log, 2 review, 3 block.
    pub verdict: u8,
    /// Contents that matched in all.
    pub total: u32,
    /// The nearest of them.
    pub matches: Vec<Matched>,
}

/// One banked content within the threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// Its bank.
    pub bank: BankId,
    /// The bank's name.
    pub bank_name: String,
    /// The content.
    pub content: ContentId,
    /// Bits that differ.
    pub distance: Distance,
}

/// Why bytes are not an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer does not read: {0}")]
pub struct ReplyError(pub String);

impl Reply {
    /// Verifies and reads a message of the server: its correlation and content.
    pub fn decode(message: &[u8]) -> Result<(u64, Reply), ReplyError> {
        let options = flatbuffers::VerifierOptions {
            max_depth: 8,
            max_tables: 1 << 16,
            max_apparent_size: 1 << 30,
            ignore_missing_null_terminator: false,
        };
        let root = fb::root_as_message_with_opts(&options, message)
            .map_err(|error| ReplyError(error.to_string()))?;
        let reply = if let Some(welcome) = root.body_as_welcome() {
            let text = |text: Option<&str>| text.unwrap_or("").to_string();
            Reply::Welcome(Welcome {
                shard: welcome.shard(),
                shards: welcome.shards(),
                window_frames: welcome.window_frames(),
                frame_bytes_max: welcome.frame_bytes_max(),
                hashes_max: welcome.hashes_max(),
                server: text(welcome.server()),
                kernel: text(welcome.kernel()),
                reactor: text(welcome.reactor()),
                hashes: welcome.hashes(),
                rss_bytes: welcome.rss_bytes(),
            })
        } else if let Some(answer) = root.body_as_lookup_answer() {
            Reply::Lookup(read(answer.generation(), answer.hits(), answer.matches(), answer.banks())?)
        } else if let Some(answer) = root.body_as_submit_answer() {
            let receipt = Receipt {
                durability: read_durability(answer.durability())?,
                first_position: Position(answer.first_position()),
                replayed: answer.replayed(),
            };
            Reply::Submit(
                read(answer.generation(), answer.hits(), answer.matches(), answer.banks())?,
                receipt,
            )
        } else if let Some(error) = root.body_as_error() {
            Reply::Error(Refusal {
                code: error.code(),
                field: error.field().unwrap_or("").to_string(),
                message: error.message().unwrap_or("").to_string(),
                retryable: error.retryable(),
            })
        } else if let Some(busy) = root.body_as_busy() {
            Reply::Busy { retry_after: Duration::from_millis(u64::from(busy.retry_after_ms())) }
        } else {
            return Err(ReplyError("its body is of an unknown kind".into()));
        };
        Ok((root.correlation(), reply))
    }
}

fn read_durability(number: u8) -> Result<Option<Durability>, ReplyError> {
    match number {
        0 => Ok(None),
        1 => Ok(Some(Durability::Mem)),
        2 => Ok(Some(Durability::Wal)),
        3 => Ok(Some(Durability::Sync)),
        other => Err(ReplyError(format!("durability {other} is unknown"))),
    }
}

fn read(
    generation: u64,
    hits: Option<flatbuffers::Vector<'_, HitRef>>,
    matches: Option<flatbuffers::Vector<'_, Match>>,
    banks: Option<flatbuffers::Vector<'_, flatbuffers::ForwardsUOffset<fb::BankName<'_>>>>,
) -> Result<Answer, ReplyError> {
    let name = |id: u32| {
        let found =
            banks.and_then(|banks| banks.iter().find(|bank| bank.id() == id)).and_then(|bank| bank.name());
        found.map(str::to_string).ok_or_else(|| ReplyError(format!("bank {id} has no name")))
    };
    let listed = matches.map_or(0, |matches| matches.len());
    let mut answer = Answer { generation: Generation(generation), hits: Vec::new() };
    for hit in hits.into_iter().flatten() {
        let (first, count) = (hit.first_match() as usize, hit.match_count() as usize);
        if first.checked_add(count).is_none_or(|end| end > listed) {
            return Err(ReplyError("a hit names matches that are not there".into()));
        }
        let mut found = Vec::with_capacity(count);
        for row in matches.iter().flat_map(|matches| (first..first + count).map(|at| matches.get(at))) {
            found.push(Matched {
                bank: BankId(row.bank()),
                bank_name: name(row.bank())?,
                content: ContentId(row.content()),
                distance: Distance::new(row.distance())
                    .ok_or_else(|| ReplyError(format!("distance {} is out of range", row.distance())))?,
            });
        }
        answer.hits.push(Hit {
            hash: hit.hash(),
            verdict: hit.verdict(),
            total: hit.matches_total(),
            matches: found,
        });
    }
    Ok(answer)
}
