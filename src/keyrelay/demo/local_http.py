"""HTTP servers beside each other in one event loop, on 127.0.0.1 and on nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

HOST = "127.0.0.1"
_GRACE_SECONDS = 2


def here_alone() -> list[Middleware]:
    """Answers those only who asked for this machine: a page elsewhere whose name leads here gets nothing."""
    return [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])]


def free_socket() -> socket.socket:
    """A socket on a free port of 127.0.0.1."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((HOST, 0))
    return found


def port_of(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])


@asynccontextmanager
async def serving(
    application: Starlette, listener: socket.socket, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Serve on this socket, over TLS where there is a context, until the end of the block."""
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_context_factory=None if context is None else lambda _, __: context,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="keyrelay-demo-http")
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        if task.done():
            task.result()
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for the demo as a whole."""
        yield
