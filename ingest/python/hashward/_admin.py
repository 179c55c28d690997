"""Banks, files and URLs over the admin port."""

from __future__ import annotations

import enum
import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Union

from ._client import new_request_id

JSON = dict[str, Any]
_Lines = Union[bytes, IO[bytes], Iterable[bytes]]


class _Same(enum.Enum):
    SAME = enum.auto()


class AdminError(Exception):
    """The server says no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} ({status})")
        #: HTTP status.
        self.status = status


class Admin:
    """A server's admin port. Changes of banks are visible to the next lookup when a method returns.

    Every change has an id of its own (`request` sets it), so that one that is sent again is made once.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:7480", *, token: str | None = None, timeout: float = 60.0
    ) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._timeout = timeout
        # No proxy of the environment: hashes and media go to the server and nowhere else.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    # Banks

    def banks(self) -> list[JSON]:
        """All banks."""
        banks: list[JSON] = self._call("GET", "/api/v1/banks")
        return banks

    def bank(self, name: str) -> JSON:
        """One bank."""
        return self._object("GET", f"/api/v1/banks/{_segment(name)}")

    def create_bank(self, name: str, *, request: uuid.UUID | None = None) -> JSON:
        """Makes an empty bank: A-Z, 0-9 and _, not starting with a digit."""
        return self._object("POST", "/api/v1/banks", body={"name": name}, request=request or new_request_id())

    def update_bank(
        self,
        name: str,
        *,
        new_name: str | None = None,
        enabled_ratio: float | None = None,
        threshold: int | None | _Same = _Same.SAME,
        request: uuid.UUID | None = None,
    ) -> JSON:
        """Renames a bank, or changes in which share of sampled lookups it matches (0 to 1), or its threshold in bits
        (None for the usual one). What is not named stays."""
        path = f"/api/v1/banks/{_segment(name)}"
        changes: JSON = {}
        if new_name is not None:
            changes["name"] = new_name
        if enabled_ratio is not None:
            changes["enabled_ratio"] = enabled_ratio
        if not isinstance(threshold, _Same):
            changes["threshold"] = threshold
        return self._object("PUT", path, body=changes, request=request or new_request_id())

    def delete_bank(self, name: str, *, request: uuid.UUID | None = None) -> JSON:
        """Removes a bank with its contents; one that is not there is gone already."""
        return self._object("DELETE", f"/api/v1/banks/{_segment(name)}", request=request or new_request_id())

    def bank_history(self, name: str) -> list[JSON]:
        """What happened to the bank itself, oldest first."""
        events: list[JSON] = self._call("GET", f"/api/v1/banks/{_segment(name)}/history")
        return events

    # Contents

    def add_content(
        self,
        bank: str,
        signals: Mapping[str, str],
        *,
        note: str = "",
        metadata: Mapping[str, Any] | None = None,
        request: uuid.UUID | None = None,
    ) -> int:
        """Adds a content with a signal for each type; gives its id."""
        body: JSON = {"signals": dict(signals), "note": note}
        if metadata is not None:
            body["metadata"] = dict(metadata)
        path = f"/api/v1/banks/{_segment(bank)}/contents"
        answer = self._object("POST", path, body=body, request=request or new_request_id())
        return int(answer["first_content"])

    def remove_content(self, bank: str, content: int, *, request: uuid.UUID | None = None) -> bool:
        """Removes a content; says whether it was there."""
        path = f"/api/v1/banks/{_segment(bank)}/contents/{content}"
        return bool(self._object("DELETE", path, request=request or new_request_id())["contents"])

    def content(self, content: int) -> JSON:
        """One content, whichever bank it lies in."""
        return self._object("GET", f"/api/v1/contents/{content}")

    def content_history(self, content: int) -> list[JSON]:
        """What happened to a content, oldest first, also when it is gone."""
        events: list[JSON] = self._call("GET", f"/api/v1/contents/{content}/history")
        return events

    def contents(self, bank: str, **filters: Any) -> Iterator[JSON]:
        """A bank's contents; filters are those of the HTTP route (`signal_type`, `text`, `near`, `enabled`, …)."""
        after: int | None = None
        while True:
            query = {**filters, "after": after, "limit": 1000}
            page = self._object("GET", f"/api/v1/banks/{_segment(bank)}/contents", query=query)
            yield from page["entries"]
            after = page.get("next")
            if after is None:
                return

    def import_signals(
        self,
        bank: str,
        signal_type: str,
        lines: _Lines,
        *,
        format: str | None = None,
        strict: bool = False,
        request: uuid.UUID | None = None,
    ) -> JSON:
        """Adds a hash list (a signal a line, CSV or NDJSON), read as it is sent. Lines that are no signals are counted
        in `bad`; with `strict` the first one ends it."""
        query = {"signal_type": signal_type, "format": format, "strict": strict}
        path = f"/api/v1/banks/{_segment(bank)}/import"
        return self._object("POST", path, query=query, stream=lines, request=request or new_request_id())

    def export_signals(self, bank: str, *, restricted: bool = False) -> Iterator[JSON]:
        """A bank's signals. The server notes it, and refuses what members share unless `restricted` insists."""
        path = f"/api/v1/banks/{_segment(bank)}/export"
        with self._open("GET", path, query={"restricted": restricted}) as response:
            for line in response:
                yield json.loads(line)

    # Matching

    def match(self, items: Sequence[Mapping[str, Any]], **options: Any) -> JSON:
        """Hashes and matches items with `signals` or a `url`. An item that has an `error` is unknown, not clean."""
        return self._object("POST", "/api/v1/match", body={"items": [dict(item) for item in items], **options})

    def lookup(self, signal_type: str, signals: Sequence[str], **options: Any) -> JSON:
        """What matches signals of one type; for types that the binary port does not take (url, raw_text, vpdq)."""
        body = {"signal_type": signal_type, "signals": list(signals), **options}
        return self._object("POST", "/api/v1/lookup", body=body)

    def hash_file(self, file: bytes | IO[bytes], *, types: str | None = None, dihedral: bool = False) -> JSON:
        """Hashes a file."""
        data = file if isinstance(file, bytes) else file.read()
        query = {"types": types, "dihedral": dihedral}
        return self._object("POST", "/api/v1/hash", query=query, stream=data)

    def hash_url(self, url: str, *, types: str | None = None, dihedral: bool = False) -> JSON:
        """Hashes the file a URL names; the server fetches it."""
        return self._object("GET", "/api/v1/hash", query={"url": url, "types": types, "dihedral": dihedral})

    def recent(self, signal_type: str, signal: str, *, hours: float | None = None, **options: Any) -> JSON:
        """Earlier submissions that match a signal."""
        query = {"signal_type": signal_type, "signal": signal, "hours": hours, **options}
        return self._object("GET", "/api/v1/recent", query=query)

    def statistics(self) -> JSON:
        """Banks, signals, exchanges, lookups and queues in numbers."""
        return self._object("GET", "/api/v1/statistics")

    # HTTP

    def _object(self, method: str, path: str, **how: Any) -> JSON:
        answer: JSON = self._call(method, path, **how)
        return answer

    def _call(self, method: str, path: str, **how: Any) -> Any:
        with self._open(method, path, **how) as response:
            return json.load(response)

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        stream: _Lines | None = None,
        request: uuid.UUID | None = None,
    ) -> Any:
        given = {name: _word(value) for name, value in (query or {}).items() if value is not None}
        url = f"{self._url}{path}" + (f"?{urllib.parse.urlencode(given)}" if given else "")
        headers = {}
        data: Any = stream
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        elif stream is not None:
            headers["Content-Type"] = "application/octet-stream"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if request is not None:
            headers["Idempotency-Key"] = str(request)
        asked = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            return self._opener.open(asked, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace")
            try:
                text = json.loads(text)["message"]
            except (ValueError, KeyError, TypeError):
                pass
            raise AdminError(error.code, text) from None


def _segment(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
