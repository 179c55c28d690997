"""Frames of the binary protocol (ingest/schema/hashward.fbs), to and from plain values."""

from __future__ import annotations

import enum
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import flatbuffers

from . import _generated as fb

VERSION = 1

#: Types that the binary port takes: number, bytes of a hash, and the field they go in.
SIGNAL_TYPES: dict[str, tuple[int, int, str]] = {
    "pdq": (1, 32, "pdq"),
    "video_md5": (2, 16, "md5"),
    "md5": (3, 16, "md5"),
    "sha1": (4, 20, "digests"),
    "sha256": (5, 32, "digests"),
    "url_md5": (7, 16, "md5"),
}

#: A hash as hex text or as bytes.
Hash = Union[str, bytes]


class Verdict(enum.IntEnum):
    """What the server's rules say of a hit."""

    NONE = 0
    LOG = 1
    REVIEW = 2
    BLOCK = 3


@dataclass(frozen=True)
class Match:
    """A banked content that a hash matches."""

    bank: str
    content: int
    #: Bits that differ; 0 for types that are compared whole.
    distance: int


@dataclass(frozen=True)
class Hit:
    """A hash that matched; hashes without a hit matched nothing."""

    #: Place of the hash in the request.
    index: int
    verdict: Verdict
    #: Nearest first, up to the server's limit.
    matches: tuple[Match, ...]
    #: How many there are, listed or not.
    matches_total: int


@dataclass(frozen=True)
class Answer:
    """What matched, in the order of the request."""

    #: State of the banks that was asked.
    generation: int
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class Receipt(Answer):
    """What matched, and where it was logged."""

    #: `none` if there was nothing to make durable, else `mem`, `wal`, `sync` or `quorum`.
    durability: str
    #: Place of the first hit in the hit log; the others follow it.
    first_position: int
    #: Whether this is the stored answer of an earlier Submit with this id.
    replayed: bool


@dataclass(frozen=True)
class Context:
    """What an uploader tells about a content. Everything is optional."""

    item_id: str | None = None
    item_type: str | None = None
    creator: str | None = None
    url: str | None = None
    ip: str | None = None
    #: Milliseconds since 1970 (UTC).
    created_at_ms: int = 0


@dataclass(frozen=True)
class Welcome:
    """What the server says of itself."""

    server: str
    shard: int
    shards: int
    window_frames: int
    frame_bytes_max: int
    hashes_max: int
    hashes: int


@dataclass(frozen=True)
class Error:
    """The server's no."""

    code: int
    field: str
    message: str
    retryable: bool


@dataclass(frozen=True)
class Busy:
    """Nothing was done; ask again later."""

    retry_after_s: float


Reply = Union[Welcome, Answer, Receipt, Error, Busy]


def binary(hashes: Sequence[Hash], signal_type: str) -> list[bytes]:
    """The hashes as bytes, checked."""
    try:
        _, width, _ = SIGNAL_TYPES[signal_type]
    except KeyError:
        known = ", ".join(SIGNAL_TYPES)
        raise ValueError(f"signal type {signal_type!r} does not go over this port: {known} do") from None
    rows = []
    for index, given in enumerate(hashes):
        try:
            row = bytes.fromhex(given) if isinstance(given, str) else bytes(given)
        except ValueError:
            raise ValueError(f"hash {index} is no hex text: {given!r:.80}") from None
        if len(row) != width:
            raise ValueError(f"hash {index} has {len(row)} bytes, {signal_type} has {width}")
        rows.append(row)
    return rows


def hello(token: str | None) -> bytes:
    builder = flatbuffers.Builder(128)
    text = builder.CreateString(token) if token else None
    fb.HelloStart(builder)
    fb.HelloAddVersion(builder, VERSION)
    if text is not None:
        fb.HelloAddToken(builder, text)
    return _frame(builder, 0, fb.Body.Hello, fb.HelloEnd(builder))


def lookup(correlation: int, hashes: Sequence[bytes], signal_type: str, threshold: int | None) -> bytes:
    builder = flatbuffers.Builder(256 + 32 * len(hashes))
    number, field, rows = _hashes(builder, hashes, signal_type)
    fb.LookupStart(builder)
    fb.LookupAddSignalType(builder, number)
    fb.LookupAddThreshold(builder, -1 if threshold is None else threshold)
    _LOOKUP_FIELDS[field](builder, rows)
    return _frame(builder, correlation, fb.Body.Lookup, fb.LookupEnd(builder))


def submit(
    correlation: int,
    request: uuid.UUID,
    retry: bool,
    hashes: Sequence[bytes],
    signal_type: str,
    threshold: int | None,
    upload_ids: Sequence[int] | None,
    contexts: Mapping[int, Context],
) -> bytes:
    builder = flatbuffers.Builder(512 + 40 * len(hashes))
    told = [_context(builder, index, contexts[index]) for index in sorted(contexts)]
    number, field, rows = _hashes(builder, hashes, signal_type)
    ids = None
    if upload_ids is not None:
        ids = _raw_vector(builder, struct.pack(f"<{len(upload_ids)}Q", *upload_ids), 8, len(upload_ids), 8)
    context_rows = None
    if told:
        fb.SubmitStartContextsVector(builder, len(told))
        for offset in reversed(told):
            builder.PrependUOffsetTRelative(offset)
        context_rows = builder.EndVector()
    fb.SubmitStart(builder)
    fb.SubmitAddRequest(builder, _request_id(builder, request))
    fb.SubmitAddRetry(builder, retry)
    fb.SubmitAddSignalType(builder, number)
    fb.SubmitAddThreshold(builder, -1 if threshold is None else threshold)
    _SUBMIT_FIELDS[field](builder, rows)
    if ids is not None:
        fb.SubmitAddUploadIds(builder, ids)
    if context_rows is not None:
        fb.SubmitAddContexts(builder, context_rows)
    return _frame(builder, correlation, fb.Body.Submit, fb.SubmitEnd(builder))


_LOOKUP_FIELDS = {"pdq": fb.LookupAddPdq, "md5": fb.LookupAddMd5, "digests": fb.LookupAddDigests}
_SUBMIT_FIELDS = {"pdq": fb.SubmitAddPdq, "md5": fb.SubmitAddMd5, "digests": fb.SubmitAddDigests}


def _request_id(builder: Any, request: uuid.UUID) -> Any:
    create: Any = fb.CreateRequestId
    return create(builder, list(request.bytes))


def _hashes(builder: Any, hashes: Sequence[bytes], signal_type: str) -> tuple[int, str, int]:
    number, width, field = SIGNAL_TYPES[signal_type]
    data = b"".join(hashes)
    # `digests` is a vector of bytes; the others are vectors of structs.
    size, count = (1, len(data)) if field == "digests" else (width, len(hashes))
    return number, field, _raw_vector(builder, data, size, count, 1)


def _raw_vector(builder: Any, data: bytes, size: int, count: int, alignment: int) -> int:
    """A vector whose bytes are there already: one copy instead of a call for each byte."""
    builder.StartVector(size, count, alignment)
    head = builder.head - len(data)
    builder.head = head
    builder.Bytes[head : head + len(data)] = data
    offset: int = builder.EndVector()
    return offset


def _context(builder: Any, index: int, context: Context) -> int:
    def text(value: str | None) -> Any:
        return builder.CreateString(value) if value is not None else None

    fields = [
        (fb.ContextAddItemId, text(context.item_id)),
        (fb.ContextAddItemType, text(context.item_type)),
        (fb.ContextAddCreator, text(context.creator)),
        (fb.ContextAddUrl, text(context.url)),
        (fb.ContextAddIp, text(context.ip)),
    ]
    fb.ContextStart(builder)
    fb.ContextAddHash(builder, index)
    for add, offset in fields:
        if offset is not None:
            add(builder, offset)
    fb.ContextAddCreatedAtMs(builder, context.created_at_ms)
    offset_of_context: int = fb.ContextEnd(builder)
    return offset_of_context


def _frame(builder: Any, correlation: int, kind: int, body: int) -> bytes:
    fb.MessageStart(builder)
    fb.MessageAddCorrelation(builder, correlation)
    fb.MessageAddBodyType(builder, kind)
    fb.MessageAddBody(builder, body)
    builder.Finish(fb.MessageEnd(builder))
    message = bytes(builder.Output())
    return struct.pack("<I", len(message)) + message


def parse(message: bytes) -> tuple[int, Reply]:
    """An answer and whose it is."""
    root = fb.Message.GetRootAs(message, 0)
    kind, table = root.BodyType(), root.Body()
    if table is None:
        raise ValueError("the server's message has no body")

    def body(of: Any) -> Any:
        view = of()
        view.Init(table.Bytes, table.Pos)
        return view

    reply: Reply
    if kind == fb.Body.LookupAnswer:
        answer = body(fb.LookupAnswer)
        reply = Answer(answer.Generation(), _hits(answer))
    elif kind == fb.Body.SubmitAnswer:
        answer = body(fb.SubmitAnswer)
        words = ("none", "mem", "wal", "sync", "quorum")
        reply = Receipt(
            answer.Generation(), _hits(answer), words[answer.Durability()], answer.FirstPosition(), answer.Replayed()
        )
    elif kind == fb.Body.Busy:
        reply = Busy(body(fb.Busy).RetryAfterMs() / 1000)
    elif kind == fb.Body.Error:
        error = body(fb.Error)
        reply = Error(error.Code(), _text(error.Field()), _text(error.Message()), error.Retryable())
    elif kind == fb.Body.Welcome:
        said = body(fb.Welcome)
        reply = Welcome(
            _text(said.Server()),
            said.Shard(),
            said.Shards(),
            said.WindowFrames(),
            said.FrameBytesMax(),
            said.HashesMax(),
            said.Hashes(),
        )
    else:
        raise ValueError(f"the server's message is of kind {kind}, which this client does not know")
    return root.Correlation(), reply


def _text(value: bytes | None) -> str:
    return value.decode("utf-8", "replace") if value is not None else ""


def _hits(answer: Any) -> tuple[Hit, ...]:
    banks = {}
    for at in range(answer.BanksLength()):
        bank = answer.Banks(at)
        banks[bank.Id()] = _text(bank.Name())
    matches = []
    for at in range(answer.MatchesLength()):
        match = answer.Matches(at)
        matches.append(Match(banks.get(match.Bank(), ""), match.Content(), match.Distance()))
    hits = []
    for at in range(answer.HitsLength()):
        hit = answer.Hits(at)
        first = hit.FirstMatch()
        found = tuple(matches[first : first + hit.MatchCount()])
        hits.append(Hit(hit.Hash(), Verdict(hit.Verdict()), found, hit.MatchesTotal()))
    return tuple(hits)
