"""Lookups and submits over the binary protocol."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TypeVar

from . import _wire as wire
from ._wire import Answer, Context, Hash, Hit, Receipt, Welcome

_T = TypeVar("_T")

#: Frames of one lookup that are under way at once.
_AHEAD = 8
_FIRST_FRAME_MAX = 1 << 20


class Refused(Exception):
    """The server says no, and would say it again."""

    def __init__(self, error: wire.Error) -> None:
        where = f" (field {error.field})" if error.field else ""
        super().__init__(f"{error.message}{where}")
        #: The protocol's number for it.
        self.code = error.code
        #: Which field is wrong, where one is.
        self.field = error.field


class OutcomeUnknown(Exception):
    """No answer came in time. Send a Submit again with its `request`: it is logged once however often it is sent."""

    def __init__(self, last: Exception | str, request: uuid.UUID | None) -> None:
        super().__init__(f"no answer (last: {last}); the outcome is unknown")
        #: The Submit's id.
        self.request = request


def new_request_id() -> uuid.UUID:
    """A UUID of version 7: ids sort by the time they were made."""
    milliseconds = time.time_ns() // 1_000_000
    bits = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | (bits >> 66 & 0xFFF) << 64 | 0b10 << 62
    return uuid.UUID(int=value | bits & (1 << 62) - 1)


class Client:
    """A connection to a server's binary port. Connects when first used, and again when it must. Not for several
    threads at once: give each its own.

    :param timeout: seconds for the connect, and for each read and write.
    :param patience: seconds after which a request is given up.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 7400,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        patience: float = 30.0,
    ) -> None:
        self._address = (host, port)
        self._token = token
        self._timeout = timeout
        self._patience = patience
        self._socket: socket.socket | None = None
        self._welcome: Welcome | None = None
        self._correlation = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def welcome(self) -> Welcome:
        """What the server says of itself."""
        return self._persist(lambda _retry: self._connect()[1], None)

    def lookup(
        self, hashes: Sequence[Hash], *, signal_type: str = "pdq", threshold: int | None = None
    ) -> Answer:
        """Which banked contents match, of any number of hashes (hex text or bytes)."""
        rows = wire.binary(hashes, signal_type)
        if not rows:
            return Answer(0, ())

        def attempt(_retry: bool) -> Answer:
            connection, welcome = self._connect()
            size = _frame_hashes(welcome)
            parts = [rows[at : at + size] for at in range(0, len(rows), size)]
            first = self._correlation + 1
            answers: dict[int, Answer] = {}
            sent = 0
            while len(answers) < len(parts):
                while sent < len(parts) and sent - len(answers) < _AHEAD:
                    connection.sendall(wire.lookup(first + sent, parts[sent], signal_type, threshold))
                    sent += 1
                    self._correlation += 1
                correlation, reply = self._receive(connection, welcome.frame_bytes_max)
                if not isinstance(reply, Answer):
                    raise _NotNow(reply)
                answers[correlation] = reply
            hits: list[Hit] = []
            for number in range(len(parts)):
                of_part = answers[first + number].hits
                hits.extend(replace(hit, index=hit.index + number * size) for hit in of_part)
            # Of several states the oldest: every hash was asked of that one or of a younger.
            return Answer(min(answer.generation for answer in answers.values()), tuple(hits))

        return self._persist(attempt, None)

    def submit(
        self,
        hashes: Sequence[Hash],
        *,
        signal_type: str = "pdq",
        threshold: int | None = None,
        upload_ids: Sequence[int] | None = None,
        contexts: Mapping[int, Context] | None = None,
        request: uuid.UUID | None = None,
    ) -> Receipt:
        """The same, and hits are logged; returns when they are durable.

        One Submit holds as many hashes as a frame (`welcome().hashes_max`). `request` is its id: the same one again
        gives the first answer again.
        """
        rows = wire.binary(hashes, signal_type)
        if upload_ids is not None and len(upload_ids) != len(rows):
            raise ValueError(f"{len(upload_ids)} upload_ids for {len(rows)} hashes: give one for each, or none")
        if contexts and not all(0 <= index < len(rows) for index in contexts):
            raise ValueError("contexts are by the index of a hash")
        identity = request or new_request_id()

        def attempt(retry: bool) -> Receipt:
            connection, welcome = self._connect()
            if not 1 <= len(rows) <= _frame_hashes(welcome):
                raise ValueError(f"{len(rows)} hashes in one Submit, allowed are 1 to {_frame_hashes(welcome)}: split it")
            self._correlation += 1
            frame = wire.submit(
                self._correlation, identity, retry, rows, signal_type, threshold, upload_ids, contexts or {}
            )
            connection.sendall(frame)
            correlation, reply = self._receive(connection, welcome.frame_bytes_max)
            if isinstance(reply, Receipt) and correlation == self._correlation:
                return reply
            raise _NotNow(reply)

        return self._persist(attempt, identity, retry=request is not None)

    def _persist(
        self, attempt: Callable[[bool], _T], request: uuid.UUID | None, retry: bool = False
    ) -> _T:
        """Tries until there is an outcome or patience ends. What was sent once is sent again as a retry."""
        deadline = time.monotonic() + self._patience
        wait = 0.02
        while True:
            last: Exception | str
            try:
                return attempt(retry)
            except _NotNow as busy:
                # Answers of frames behind it may still come: a new connection has none.
                self.close()
                last, wait = busy.why, max(wait, busy.retry_after_s)
            except (OSError, ValueError) as error:
                if isinstance(error, ValueError) and not isinstance(error, _Garbled):
                    raise
                self.close()
                last, retry = error, True
            if time.monotonic() + wait > deadline:
                raise OutcomeUnknown(last, request)
            time.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, 2.0)

    def _connect(self) -> tuple[socket.socket, Welcome]:
        if self._socket is not None and self._welcome is not None:
            return self._socket, self._welcome
        connection = socket.create_connection(self._address, self._timeout)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(wire.hello(self._token))
            _, reply = self._receive(connection, _FIRST_FRAME_MAX)
            if not isinstance(reply, Welcome):
                raise _NotNow(reply)
        except BaseException:
            connection.close()
            raise
        self._socket, self._welcome = connection, reply
        return connection, reply

    def _receive(self, connection: socket.socket, frame_max: int) -> tuple[int, wire.Reply]:
        (length,) = struct.unpack("<I", _exactly(connection, 4))
        if length > max(frame_max, _FIRST_FRAME_MAX) * 4:
            raise _Garbled(f"a frame of {length} bytes was announced")
        try:
            correlation, reply = wire.parse(_exactly(connection, length))
        except (struct.error, IndexError, TypeError, ValueError) as error:
            raise _Garbled(f"the server's answer does not read: {error}") from error
        if isinstance(reply, wire.Error) and not reply.retryable:
            # Frames behind the refused one are answered as well: nobody asks for them any more.
            self.close()
            raise Refused(reply)
        return correlation, reply


class _NotNow(Exception):
    """Busy, or an error that passes."""

    def __init__(self, reply: wire.Reply) -> None:
        self.retry_after_s = reply.retry_after_s if isinstance(reply, wire.Busy) else 0.02
        self.why = reply.message if isinstance(reply, wire.Error) else "the server is busy"
        super().__init__(self.why)


class _Garbled(ValueError):
    """What came is no answer."""


def _frame_hashes(welcome: Welcome) -> int:
    # A hash takes 40 bytes at most with its upload id; contexts are few.
    return max(1, min(welcome.hashes_max, (welcome.frame_bytes_max - 4096) // 40))


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        got = connection.recv_into(view)
        if got == 0:
            raise ConnectionError("the server closed the connection")
        view = view[got:]
    return bytes(data)
