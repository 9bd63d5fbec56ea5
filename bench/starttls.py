"""What smtp-sink lacks: STARTTLS. Run as a program, it stands before a relay that speaks no TLS.

It answers the first EHLO and STARTTLS itself; from the handshake on it hands over what either side says, unread.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import uvloop

HOST = "127.0.0.1"


class _Client(asyncio.Protocol):
    """The side of the sender."""

    transport: asyncio.Transport

    def __init__(self, behind: int, context: ssl.SSLContext) -> None:
        self._behind = behind
        self._context = context
        self._work: asyncio.Task[None] | None = None
        self._relay: asyncio.Transport | None = None
        self._encrypted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._work = asyncio.create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        if self._encrypted:
            if self._relay is not None:
                self._relay.write(data)
        elif data.upper() == b"STARTTLS\r\n":
            self.transport.pause_reading()  # what comes next is the handshake
            self.transport.write(b"220 Ready\r\n")
            self._work = asyncio.create_task(self._encrypt())
        elif data[:5].upper() == b"EHLO ":
            self.transport.write(b"250-bench.example.org\r\n250 STARTTLS\r\n")
        else:
            self.transport.write(b"530 Must issue a STARTTLS command first\r\n")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        if self._relay is not None:
            self._relay.close()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._relay, _ = await loop.create_connection(lambda: _Relay(self), HOST, self._behind)
        if self.transport.is_closing():
            self._relay.close()

    async def _encrypt(self) -> None:
        self._encrypted = True
        encrypted = await asyncio.get_running_loop().start_tls(self.transport, self, self._context, server_side=True)
        if encrypted is None:
            raise ConnectionError("the sender left during the handshake")
        self.transport = encrypted


class _Relay(asyncio.Protocol):
    """The side of the relay."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        self._client.transport.close()


async def _serve(port: int, behind: int, chain: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    server = await asyncio.get_running_loop().create_server(lambda: _Client(behind, context), HOST, port, backlog=128)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
