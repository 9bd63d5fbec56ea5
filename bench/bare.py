"""The endpoint that only answers 200: what is left of a read when keyrelay does nothing.

It runs in keyrelay's own server, with everything that ``keyrelay serve`` sets; only the application is another.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from starlette.types import Receive, Scope, Send

from keyrelay import server, settings
from keyrelay.api.doors import Doors


class _Nothing:
    """It answers as an application does."""

    def answer(self, scope: Scope) -> None:
        """Not at once."""

    def expect(self, cycle: object) -> bool:  # noqa: ARG002 - of whatever request
        return False


class Answering:
    """An application that answers everything with this body."""

    def __init__(self, body: bytes) -> None:
        self.application = self
        self.doors = Doors(10_000)
        self.quick_reads = self.quick_submissions = _Nothing()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        self._start = {"type": "http.response.start", "status": 200, "headers": headers}
        self._rest = {"type": "http.response.body", "body": body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send(self._start)
        await send(self._rest)


if __name__ == "__main__":
    application = Answering(Path(sys.argv[1]).read_bytes())
    # Replaced, not copied: so the settings of both can never differ.
    server.Served = lambda *_: application  # type: ignore[assignment,misc]
    server.serve(settings.read(os.environ), lambda url, _: print(url, flush=True))
