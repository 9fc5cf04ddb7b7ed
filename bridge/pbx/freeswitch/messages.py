"""What an event socket says, read from its bytes: no socket in here. Any bytes give messages or RemoteProtocolError, nothing else.

Framing comes first, decoding last: a line ends where FreeSWITCH ended it, never where a caller wrote `%0A` into a name.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from bridge.errors import RemoteProtocolError

HEAD_LIMIT: Final = 1 << 16
"""Bytes of the headers of one message; an event's own headers are in its body."""

BODY_LIMIT: Final = 1 << 24
"""Bytes of a body: some thousand channels in one answer."""

_LENGTH: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its Content-Type, its headers as they came, and as many bytes of body as it said."""

    kind: str
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class Event:
    """One event, or what `uuid_dump` says of a channel: headers decoded, each once. One that is not there is empty."""

    __slots__ = ("_headers", "body", "name")

    def __init__(self, headers: Mapping[str, str], body: str = "") -> None:
        self._headers = headers
        self.body = body
        self.name = headers.get("Event-Name", "")

    def __getitem__(self, header: str) -> str:
        return self._headers.get(header, "")

    def beginning(self, prefix: str) -> Iterator[tuple[str, str]]:
        """The rest of the name, and the value, of each header whose name begins so."""
        return ((name[len(prefix) :], value) for name, value in self._headers.items() if name.startswith(prefix))


class Reader:
    """Cuts what arrives into messages. After an error it is of no more use."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._headers: dict[str, str] | None = None
        self._missing = 0

    def receive(self, data: bytes) -> Iterator[Message]:
        """The messages that are whole by now. Raises RemoteProtocolError."""
        self._bytes += data
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        if self._headers is None and not self._read_head():
            return None
        if self._headers is None or len(self._bytes) < self._missing:
            return None
        headers, self._headers = self._headers, None
        body = bytes(self._bytes[: self._missing])
        del self._bytes[: self._missing]
        return Message(headers["Content-Type"], headers, body)

    def _read_head(self) -> bool:
        # Some answers (bgapi's) are followed by blank lines of their own.
        blank = len(self._bytes) - len(self._bytes.lstrip(b"\r\n"))
        del self._bytes[:blank]
        end = self._bytes.find(b"\n\n")
        if end < 0:
            if len(self._bytes) > HEAD_LIMIT:
                raise RemoteProtocolError("headers without an end")
            return False
        headers = read_headers(bytes(self._bytes[:end]).decode("utf-8", "replace"))
        del self._bytes[: end + 2]
        if not headers.get("Content-Type"):
            raise RemoteProtocolError("this is no event socket: a message without a Content-Type")
        self._missing = _length(headers)
        self._headers = headers
        return True


def read_headers(text: str) -> dict[str, str]:
    """Headers as they stand there. Of one that comes twice the first counts: a channel's variables come behind what FreeSWITCH itself says
    of it."""
    headers: dict[str, str] = {}
    for line in text.split("\n"):
        name, colon, value = line.removesuffix("\r").partition(":")
        if colon and name:
            headers.setdefault(name, value.removeprefix(" "))
    return headers


def read_event(text: str) -> Event:
    """An event in FreeSWITCH's plain form. Raises RemoteProtocolError."""
    head, _, body = text.partition("\n\n")
    raw = read_headers(head)
    inner = _length(raw)
    # A body is counted in bytes, and nobody else's lines stand behind it.
    return Event({name: unquote(value, errors="replace") for name, value in raw.items()}, body.encode()[:inner].decode("utf-8", "replace"))


def _length(headers: Mapping[str, str]) -> int:
    length = headers.get("Content-Length", "0").strip()
    if _LENGTH.fullmatch(length) is None or int(length) > BODY_LIMIT:
        raise RemoteProtocolError("a message with a length that is none, or too much")
    return int(length)
