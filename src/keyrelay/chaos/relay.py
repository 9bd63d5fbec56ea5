"""The chaos relay: a mail server that misbehaves as a script says, and remembers what its clients did."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from keyrelay.chaos.certificates import Certificates
from keyrelay.chaos.memory import Memory, Received, Report
from keyrelay.chaos.script import Script
from keyrelay.chaos.session import Session

__all__ = ["ChaosRelay", "Received"]

_MOST_OPEN = 1000  # connections at once; each may hold a message in memory


class ChaosRelay:
    """Listens from ``start`` to ``stop``, or as an asynchronous context; on any event loop.

    ``messages``: what was taken. ``commands``: session (counted from 1) and line, also the responses of AUTH, for
    this is a test's memory. ``flights``: session and the commands that arrived in one read; the end of content is
    ``.``, a response of AUTH ``(credentials)``. ``mistakes``: session and how the client broke the protocol.
    ``sni``: the names asked for in TLS handshakes. Without ``keep_messages`` all of these stay empty, for benchmarks
    and long runs. ``report`` is told session and a line for people, in which no credentials are; ``take`` each message.
    """

    def __init__(  # noqa: PLR0913 - where and what, all of it optional
        self,
        script: Script | None = None,
        *,
        certificates: Certificates | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        keep_messages: bool = True,
        report: Report | None = None,
        take: Callable[[Received], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        first = script or Script()
        self._scripts = (first, *first.then)
        self._memory = Memory(keep_messages, report, take)
        self._certificates = certificates
        self._own_directory: tempfile.TemporaryDirectory[str] | None = None
        self._server: asyncio.Server | None = None
        self.messages = self._memory.messages
        self.commands = self._memory.commands
        self.flights = self._memory.flights
        self.mistakes = self._memory.mistakes
        self.sni = self._memory.sni

    @property
    def certificates(self) -> Certificates:
        """Those given, or some of its own in a directory that goes away with ``stop``."""
        if self._certificates is None:
            self._own_directory = tempfile.TemporaryDirectory(prefix="chaos-relay-")
            self._certificates = Certificates(Path(self._own_directory.name))
        return self._certificates

    @property
    def accepted(self) -> int:
        """Messages taken so far."""
        return self._memory.accepted

    @property
    def connections(self) -> int:
        """Connections ever opened."""
        return self._memory.connections

    @property
    def open(self) -> int:
        """Connections open now."""
        return len(self._memory.live)

    async def start(self) -> None:
        """Raises OSError when the address cannot be had, Unsuitable when no certificates can be written."""
        self._contexts = [self._context(script) for script in self._scripts]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._session, self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more, and cut every connection."""
        if self._server is not None:
            loop = asyncio.get_running_loop()
            for listener in self._server.sockets:
                loop.remove_reader(listener.fileno())
            for _ in range(3):  # a closed server would lose what it has just accepted
                await asyncio.sleep(0)
            self._server.close()
            for connection in list(self._memory.live):
                connection.transport.abort()
            await self._server.wait_closed()
            while self._memory.live:  # noqa: ASYNC110 - they end at the loop's next turn
                await asyncio.sleep(0)
            self._server = None
        if self._own_directory is not None:
            self._own_directory.cleanup()
            self._own_directory = None
            self._certificates = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _session(self) -> Session:
        place = min(self._memory.connections, len(self._scripts) - 1)
        script, context = self._scripts[place], self._contexts[place]
        if self.open >= _MOST_OPEN:
            script = Script(replies={"greeting": "421 4.3.2 too many connections"})
        return Session(script, context, self._memory)

    def _context(self, script: Script) -> ssl.SSLContext | None:
        if not script.uses_tls:
            return None
        return self.certificates.server_context(
            script.certificate,
            client_ca=script.client_ca,
            tls_version=script.tls_version,
            asked_for=self._memory.asked_for,
        )
