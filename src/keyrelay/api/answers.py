"""An HTTP answer as a value, ready to be sent as often as one likes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from starlette.types import Message, Send

Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json; charset=utf-8")
# What every answer says that depends on who asks.
PRIVATE: tuple[Header, ...] = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


@dataclass(frozen=True)
class Answer:
    """Status, body and headers; Content-Length is added here."""

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = ()

    def with_headers(self, *headers: Header) -> Answer:
        return Answer(self.status, self.body, (*self.headers, *headers))

    @cached_property
    def messages(self) -> tuple[Message, Message]:
        headers = list(self.headers)
        if self.status not in {204, 304}:
            headers.append((b"content-length", str(len(self.body)).encode()))
        start: Message = {"type": "http.response.start", "status": self.status, "headers": headers}
        return start, {"type": "http.response.body", "body": self.body}

    async def send(self, send: Send) -> None:
        start, body = self.messages
        await send(start)
        await send(body)
