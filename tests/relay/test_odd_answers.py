"""A relay that answers with the credentials where nobody asked: whatever the code, they are not kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from keyrelay.relay.extensions import Extensions
from keyrelay.relay.model import Envelope, StageFailed
from keyrelay.relay.session import Session
from keyrelay.relay.transcript import Redactor
from keyrelay.relay.wire import Wire
from keyrelay.secrets.model import SecretText

PASSWORD = "Zw9-canary-password"
CONTENT = b"Subject: x\r\n\r\nhello\r\n"


@asynccontextmanager
async def session(answers: dict[bytes, bytes], *, pipelining: bool) -> AsyncIterator[Session]:
    """A session with a relay that gives these answers to commands, and 250 to everything else."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers_to = {b"DATA": b"354 go on"} | answers
        with suppress(ConnectionError, asyncio.CancelledError):
            while line := await reader.readline():
                said = answers_to.get(line[:4].upper(), b"250 ok")
                writer.write(said + b"\r\n")
                if line[:4].upper() == b"DATA" and said.startswith(b"354"):
                    while await reader.readline() != b".\r\n":
                        pass
                    writer.write(b"250 taken\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(lambda: Wire(5.0), *server.sockets[0].getsockname()[:2])
    try:
        yield Session(wire, Extensions(pipelining=pipelining), Redactor([SecretText(PASSWORD)]))
    finally:
        wire.abort()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("verb", [b"MAIL", b"RCPT", b"DATA"])
@pytest.mark.parametrize("code", [b"354", b"399", b"450", b"554"])
def test_what_a_relay_repeats_in_an_answer_that_is_no_yes_is_blackened(verb, code, pipelining):
    async def main() -> str:
        async with session({verb: code + b" you said " + PASSWORD.encode()}, pipelining=pipelining) as opened:
            try:
                delivery = await opened.send(Envelope("a@example.org", ("b@example.org",)), CONTENT)
            except StageFailed as failure:
                return repr(failure.evidence)
            return repr(delivery)

    said = asyncio.run(main())
    assert "canary" not in said
    assert ("you said" in said) == ((verb, code) != (b"DATA", b"354"))  # there it is the word to go on
