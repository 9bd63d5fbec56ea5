"""SMTP replies and commands on a connection: the bytes, and nothing of what they mean."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque

from keyrelay.relay.model import Reply

_LONGEST_LINE = 4096  # RFC 5321 section 4.5.3.1.5 asks for 512
_MOST_LINES = 256
_LONGEST_REPLY = 32 * 1024
_SPARE_REPLIES = 8
_CODES = {b"%d" % code: code for code in range(200, 600)}
_PIECE = 256 * 1024
_CLOSING = 421
_GOODBYE_SECONDS = 1.0

# What other services say first.
_STRANGERS = (
    (b"\x16\x03", "TLS"),
    (b"\x15\x03", "TLS"),
    (b"HTTP/", "HTTP"),
    (b"<", "HTTP"),
    (b"SSH-", "SSH"),
    (b"+OK", "POP3"),
    (b"* OK", "IMAP"),
    (b"* PREAUTH", "IMAP"),
    (b"RFB ", "VNC"),
)


class ConnectionEnded(Exception):
    """The other side has closed the connection, or the network has."""


class NotSmtp(Exception):
    """What arrived cannot be read as a reply; the text says what it looks like."""


class Unasked(NotSmtp):
    """A reply is there that nobody has asked for, so which one answers what is not known any more."""

    def __init__(self) -> None:
        super().__init__("an answer that nobody asked for")


_GO_AHEAD = 354


class Wire(asyncio.Protocol):
    """One connection. ``seconds`` is how long an answer, or room to write, may take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # from connection_made on
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._lines: list[str] = []
        self._length = 0  # of those lines, in bytes
        self._most = _SPARE_REPLIES
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._end: Exception | None = None
        self._deadline = self._alarm = 0.0
        self._clock: asyncio.TimerHandle | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()

    # --- What asyncio calls ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream's, asyncio's or uvloop's

    def data_received(self, data: bytes) -> None:
        if self._end is not None:
            return
        try:
            self._read(self._rest + data if self._rest else data)
        except NotSmtp as problem:
            self._ended(problem)
            self.transport.abort()
        else:
            if self._replies:
                self._wake()

    def _read(self, data: bytes) -> None:
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            self._line(line.rstrip(b"\r"))
        if len(self._rest) > _LONGEST_LINE or data[:2] in {b"\x16\x03", b"\x15\x03"}:
            raise NotSmtp(_looks_like(data))

    def _line(self, line: bytes) -> None:
        code, mark = _CODES.get(line[:3]), line[3:4]
        if code is None or mark not in b" -" or len(line) > _LONGEST_LINE or len(self._lines) >= _MOST_LINES:
            raise NotSmtp(_looks_like(line))
        text = line[4:].decode("utf-8", "replace").rstrip()
        if mark == b"-":
            self._length = len(line) + (self._length if self._lines else 0)
            if self._length > _LONGEST_REPLY:
                raise NotSmtp("a reply that does not end")
            self._lines.append(text)
        elif len(self._replies) >= self._most:
            raise Unasked
        else:
            self._replies.append(Reply(code, (*self._lines, text)))
            self._lines = []

    def eof_received(self) -> None:
        self._ended(ConnectionEnded())

    def connection_lost(self, exc: Exception | None) -> None:
        ended = ConnectionEnded()
        ended.__cause__ = exc
        self._ended(ended)
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    def _ended(self, reason: Exception) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if self._end is None or (self._end.__cause__ is None and reason.__cause__ is not None):
            self._end = reason
        self._wake()
        self.resume_writing()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- What a session calls --------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether the connection is open and the relay has said nothing that nobody asked for."""
        return self._end is None and not self.unread and not self.transport.is_closing()

    @property
    def unread(self) -> bool:
        """Whether anything has arrived that was not taken as a reply, be it complete or not."""
        return bool(self._replies or self._lines or self._rest)

    @property
    def unasked(self) -> bool:
        """The same once every reply was taken, but for a 421, which may come at any time (RFC 5321 section 3.8)."""
        return self.unread and not (self._replies and self._replies[0].code == _CLOSING)

    @property
    def ended(self) -> Exception | None:
        return self._end

    async def reply(self) -> Reply:
        """The next reply. Raises TimeoutError, ConnectionEnded, or NotSmtp."""
        if not self._replies:
            if self._end is not None:
                raise self._end
            self._waiter = self._loop.create_future()
            self._deadline = self._loop.time() + self.seconds
            if self._clock is None or self._deadline < self._alarm:
                self._set_clock()
            try:
                await self._waiter
            finally:
                self._waiter = None
            if not self._replies:
                assert self._end is not None  # noqa: S101 - nothing else wakes
                raise self._end
        return self._replies.popleft()

    def ready(self, *, go_ahead: bool = False) -> Reply | None:
        """The next reply, if it has arrived already and is a yes; with ``go_ahead``, if it asks for the content."""
        if self._replies and (self._replies[0].code == _GO_AHEAD if go_ahead else self._replies[0].positive):
            return self._replies.popleft()
        return None

    def _tick(self) -> None:
        # One timer for a connection, and not one for each reply: most are here long before.
        self._clock = None
        if self._waiter is None or self._waiter.done():
            return
        if self._deadline <= self._loop.time():
            self._waiter.set_exception(TimeoutError())
        else:
            self._set_clock()

    def _set_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._alarm = self._deadline
        self._clock = self._loop.call_at(self._deadline, self._tick)

    def write(self, data: bytes, answers: int = 1) -> None:
        """Send a few hundred bytes, which so many replies will answer.

        What cannot be sent shows when the reply is waited for. Raises Unasked when one is there before the question;
        a 421 is the answer to it, and nothing is sent.
        """
        if self._replies or self._rest or self._lines:
            if self.unasked:
                raise Unasked
            return
        self._most = answers + _SPARE_REPLIES
        if self._end is None:
            self.transport.write(data)

    async def write_much(self, data: bytes) -> None:
        """Send a whole message, no faster than it is taken.

        Raises Unasked as ``write`` does, TimeoutError when nothing of it is taken, and ConnectionEnded or NotSmtp
        when its end was never sent.
        """
        if len(data) <= _PIECE or self.unread:
            self.write(data)
            return
        for start in range(0, len(data), _PIECE):
            if self._end is None:
                self.transport.write(data[start : start + _PIECE])
            if self._room is not None:
                async with asyncio.timeout(self.seconds):
                    await self._room
            if self._end is not None:
                raise self._end

    async def start_tls(self, context: ssl.SSLContext, name: str) -> ssl.SSLObject:
        """Speak TLS from here on, with a server of this name.

        Raises what the handshake raises, TimeoutError, or ConnectionEnded.
        """
        if self._end is not None or self.transport.is_closing():
            raise self._end or ConnectionEnded
        async with asyncio.timeout(self.seconds):
            upgraded = await self._loop.start_tls(self.transport, self, context, server_hostname=name)
        found: ssl.SSLObject | None = None if upgraded is None else upgraded.get_extra_info("ssl_object")
        if upgraded is None or found is None:  # it ended within the handshake
            raise ConnectionEnded
        self.transport = upgraded
        return found

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    async def close(self) -> None:
        """Close the connection, with TLS's own goodbye; whoever does not answer that is cut off."""
        self.transport.close()
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._gone
        except TimeoutError:
            self.transport.abort()


def _looks_like(data: bytes) -> str:
    return next((name for beginning, name in _STRANGERS if data.startswith(beginning)), "no service that is known")
