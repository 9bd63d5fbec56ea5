"""Question and answer while a session is opened, each written down as it is said."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from keyrelay.network.failures import tls_kind
from keyrelay.relay.model import Reply, Stage, failed
from keyrelay.relay.transcript import Transcript
from keyrelay.relay.wire import ConnectionEnded, NotSmtp, Wire

CONTINUE = 334


class Dialogue:
    """What is said on one connection. All of it raises StageFailed when no answer comes, or one that is none."""

    def __init__(self, wire: Wire, transcript: Transcript) -> None:
        self.wire = wire
        self._transcript = transcript

    async def say(self, stage: Stage, line: str) -> Reply:
        """Say a line that holds nothing secret; what the relay says to it, as people may read it."""
        self._write(stage, line.encode())
        self._transcript.sent(line)
        return await self.listen(stage)

    async def say_hidden(self, line: bytes, what: str) -> Reply:
        """For signing in: a line that nobody may read. A 334 comes back as it is."""
        self._write("auth", line)
        self._transcript.hidden(what)
        return await self.listen("auth")

    async def listen(self, stage: Stage) -> Reply:
        with _as_failure_of(stage):
            reply = await self.wire.reply()
        if stage == "auth" and reply.code == CONTINUE:
            self._transcript.hidden(f"the relay's {reply.code}, with what it asks for")
            return reply  # its text is base64, for us alone
        return self._transcript.received(reply)

    def _write(self, stage: Stage, line: bytes) -> None:
        with _as_failure_of(stage):
            self.wire.write(line + b"\r\n")


@contextmanager
def _as_failure_of(stage: Stage) -> Iterator[None]:
    """What can happen to a question, as a failure of this stage."""
    try:
        yield
    except TimeoutError:
        raise failed(stage, "timeout") from None
    except ConnectionEnded as end:
        if isinstance(end.__cause__, ssl.SSLError):  # under TLS 1.3 the relay refuses our certificate only now
            kind, words = tls_kind(end.__cause__)
            raise failed("tls", kind, detail=words) from None
        raise failed(stage, "closed") from None
    except NotSmtp as problem:
        raise failed(stage, "not_smtp", detail=str(problem)) from None
