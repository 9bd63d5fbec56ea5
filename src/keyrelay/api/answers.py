"""An HTTP answer as a value, ready to be sent as often as one likes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from starlette.types import Send

Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json; charset=utf-8")
# What every answer says that depends on who asks.
PRIVATE: tuple[Header, ...] = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Answer(msgspec.Struct, frozen=True):
    """Status, body and headers; Content-Length is added here."""

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = ()

    def with_headers(self, *headers: Header) -> Answer:
        return msgspec.structs.replace(self, headers=(*self.headers, *headers))

    async def send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.whole_head})
        await send({"type": "http.response.body", "body": self.body})

    @property
    def encoded(self) -> bytes:
        """As it goes over the wire, after the status line."""
        head = b"".join(b"%s: %s\r\n" % header for header in self.whole_head)
        return b"%s\r\n%s" % (head, self.body)

    @property
    def whole_head(self) -> list[Header]:
        """The headers as they are sent."""
        if self.status in {204, 304}:
            return list(self.headers)
        return [*self.headers, (b"content-length", str(len(self.body)).encode())]


class Events(Answer, frozen=True):
    """What is sent in pieces as they come about, such as server-sent events (the HTML standard's text/event-stream)."""

    events: AsyncIterator[bytes] | None = None

    async def send(self, send: Send) -> None:
        assert self.events is not None  # noqa: S101 - whoever makes one gives them
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        async for event in self.events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
