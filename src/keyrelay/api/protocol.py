"""HTTP/1.1 as uvicorn speaks it, with a bound on the head of a request, and our own words for what is no HTTP."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from keyrelay.api.answers import Answer
from keyrelay.api.problems import keyfactor_answer
from keyrelay.errors import HeadTooLarge, KeyrelayError, NotHttp

_HEAD_LIMIT = 64 * 1024
_REASONS = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}


class BoundedProtocol(HttpToolsProtocol):
    """Keeps nobody's request line and headers beyond 64 KiB, give or take one read from the socket."""

    _head = 0

    def data_received(self, data: bytes) -> None:
        went_on = self._in_head()
        super().data_received(data)
        if not self._in_head():
            return
        self._head = self._head + len(data) if went_on else 0
        if self._head > _HEAD_LIMIT and not self.transport.is_closing():
            self._refuse(HeadTooLarge(f"The head of the request has more than {_HEAD_LIMIT} bytes."))

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        self._refuse(NotHttp("What was sent is no HTTP/1.1."))

    def _in_head(self) -> bool:
        # uvicorn adds the method when the head is complete.
        return bool(self.scope) and "method" not in self.scope

    def _refuse(self, error: KeyrelayError) -> None:
        self.transport.write(_bytes(keyfactor_answer(error, str).with_headers((b"connection", b"close"))))
        self.transport.close()


def _bytes(answer: Answer) -> bytes:
    start, body = answer.messages
    head = b"".join(b"%s: %s\r\n" % header for header in start["headers"])
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (answer.status, _REASONS[answer.status], head, body["body"])
