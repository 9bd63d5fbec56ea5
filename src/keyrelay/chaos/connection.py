"""One connection's bytes: sent and received with the delays, the TLS and the endings that the script asks for.

TLS runs here, on the bytes, and not in the event loop's transport: so the handshake too can be delayed or never
answered, clear text can be sent right before it, and it is the same on asyncio and uvloop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import cast

from keyrelay.chaos.memory import Memory
from keyrelay.chaos.script import HANDSHAKE, Script

_MOST_UNREAD = 16 << 20  # bytes received and still delayed, after which reading pauses
_MOST_UNSENT = 1 << 20  # bytes of replies that are not on their way yet, likewise


class _Later:
    """Does things in the order they were asked for, each when its time has come."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[float, int, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self.size = 0

    def after(self, delay: float, act: Callable[[], None], size: int = 0, *, gap: float = 0.0) -> None:
        """Act ``delay`` seconds from now, and ``gap`` seconds after what was asked for last, at the earliest."""
        self._last = due = max(self._loop.time() + delay, self._last + gap)
        self._waiting.append((due, size, act))
        self.size += size
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._run)

    def cancel(self) -> None:
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        now = self._loop.time() + 0.001  # a loop's clock may tick in milliseconds
        while self._waiting and self._waiting[0][0] <= now:
            _, size, act = self._waiting.popleft()
            self.size -= size
            act()
        self._timer = self._loop.call_at(self._waiting[0][0], self._run) if self._waiting else None


class _Tls:
    """The server's side of TLS between bytes received and bytes to send. Raises ssl.SSLError."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._received, self._to_send, server_side=True)
        self.version: str | None = None  # None until the handshake is done
        self.ended = False

    def decrypted(self, data: bytes) -> bytes:
        self._received.write(data)
        parts = []
        try:
            if self.version is None:
                self._object.do_handshake()
                self.version = self._object.version() or "TLS"
            while part := self._object.read(1 << 16):
                parts.append(part)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        return b"".join(parts)

    def encrypted(self, data: bytes) -> bytes:
        self._object.write(data)
        return self._to_send.read()

    def said(self) -> bytes:
        """What TLS itself has to say: handshake messages and alerts."""
        return self._to_send.read()

    def farewell(self) -> bytes:
        with contextlib.suppress(ssl.SSLError):  # the other side's has not come yet
            self._object.unwrap()
        return self._to_send.read()


class Connection(asyncio.Protocol):
    """Bytes to and from one client. A subclass says what they mean."""

    def __init__(self, script: Script, context: ssl.SSLContext | None, memory: Memory) -> None:
        self.script = script
        self.memory = memory
        self.number = 0
        self.tls = False
        self.over = False  # nothing that arrives is looked at any more
        self._context = context
        self._tls: _Tls | None = None
        self._said: list[bytes] = []
        self._clogged = False
        loop = asyncio.get_running_loop()
        self._inward, self._dripping, self._outward = _Later(loop), _Later(loop), _Later(loop)

    # --- What a subclass says and is told ----------------------------------------------------------------------

    def connected(self) -> None:
        raise NotImplementedError

    def received(self, data: bytes) -> None:
        raise NotImplementedError

    def secured(self) -> None:
        """TLS is on."""
        raise NotImplementedError

    def say(self, data: bytes) -> None:
        """Send this with all else that is said before the next read."""
        self._said.append(data)

    def flush(self) -> None:
        if not self._said:
            return
        data = b"".join(self._said)
        self._said.clear()
        drip = self.script.drip
        if not drip:
            self._send(data)
            return
        for place in range(len(data)):
            self._dripping.after(0, partial(self._send, data[place : place + 1]), 1, gap=drip)

    def hang_up(self, *, politely: bool = False) -> None:
        """End the connection when all that was said is sent; politely means with TLS's own farewell."""
        self.over = True
        self.flush()
        self._when_said(partial(self._end, politely=politely))

    def begin_tls(self) -> None:
        """What follows on this connection is TLS; what was said before still goes out in the clear."""
        self.flush()
        if self.script.stall == HANDSHAKE:
            self.over = True
            return
        self._when_said(self._switch_to_tls)

    def _when_said(self, act: Callable[[], None]) -> None:
        if self.script.drip:
            self._dripping.after(0, act)
        else:
            act()

    # --- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        self.number = self.memory.opened(self)
        self.memory.tell(self.number, f"connected from {_place(transport.get_extra_info('peername'))}")
        if self.script.silent:
            self.over = True
            self.transport.pause_reading()
        elif self.script.implicit_tls:
            self.begin_tls()
        else:
            self.connected()
            self.flush()

    def data_received(self, data: bytes) -> None:
        delay = self.script.delay
        if delay:
            self._inward.after(delay, partial(self._arrived, data), len(data))
            self._throttle()
        else:
            self._arrived(data)

    def eof_received(self) -> bool:
        self._inward.after(self.script.delay, self.hang_up)
        return True  # replies may still be on their way

    def pause_writing(self) -> None:
        self._clogged = True
        self._throttle()

    def resume_writing(self) -> None:
        self._clogged = False
        self._throttle()

    def connection_lost(self, _: Exception | None) -> None:
        self.over = True
        for later in (self._inward, self._dripping, self._outward):
            later.cancel()
        self.memory.closed(self)
        self.memory.tell(self.number, "closed")

    # --- Bytes -------------------------------------------------------------------------------------------------

    def _arrived(self, data: bytes) -> None:
        if self.over:
            return
        if self._tls is not None:
            data = self._decrypted(self._tls, data)
        if data and not self.over:
            self.received(data)
            self.flush()
        if self._tls is not None and self._tls.ended and not self.over:
            self.hang_up()
        self._throttle()

    def _decrypted(self, tls: _Tls, data: bytes) -> bytes:
        if self.script.close == HANDSHAKE:
            self.hang_up()
            return b""
        secured = self.tls
        try:
            plain = tls.decrypted(data)
        except ssl.SSLError as problem:
            self._put(tls.said())
            self.memory.tell(self.number, f"TLS failed: {problem.reason or 'cut short'}")
            self.hang_up()
            return b""
        self._put(tls.said())
        if tls.version is not None and not secured:
            self.tls = True
            self.memory.tell(self.number, f"{tls.version} is on")
            self.secured()
            self.flush()
        return plain

    def _send(self, data: bytes) -> None:
        self._put(data if self._tls is None else self._tls.encrypted(data))
        self._throttle()

    def _put(self, data: bytes) -> None:
        if not data:
            return
        if self.script.delay:
            self._outward.after(self.script.delay, partial(self.transport.write, data), len(data))
        else:
            self.transport.write(data)

    def _switch_to_tls(self) -> None:
        assert self._context is not None  # noqa: S101 - the relay makes one for every script that uses TLS
        self._tls = _Tls(self._context)

    def _end(self, *, politely: bool) -> None:
        if politely and self._tls is not None:
            self._put(self._tls.farewell())
        if self.script.delay:
            self._outward.after(self.script.delay, self.transport.close)
        else:
            self.transport.close()

    def _throttle(self) -> None:
        """Read no more from a client that sends faster than it, or the script, lets us answer."""
        if self.script.silent or self.transport.is_closing():
            return
        full = (
            self._clogged or self._inward.size > _MOST_UNREAD or self._dripping.size + self._outward.size > _MOST_UNSENT
        )
        if full and self.transport.is_reading():
            self.transport.pause_reading()
        elif not full and not self.transport.is_reading():
            self.transport.resume_reading()


def _place(peer: object) -> str:
    return f"{peer[0]} port {peer[1]}" if isinstance(peer, tuple) else "somewhere"
