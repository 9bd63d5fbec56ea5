"""A strict relay that counts connections and messages, and answers as a test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from relaying import PIPELINED, serving


class HangUp:
    """What a relay says that ends the connection without a word."""


@dataclass(frozen=True)
class Taken:
    """A message that was taken in whole. ``at`` is when, in seconds; ``visit`` counts connections."""

    at: float
    visit: int
    recipients: tuple[str, ...]
    content: bytes

    @property
    def message_id(self) -> str:
        (line,) = [line for line in self.content.split(b"\r\n") if line.lower().startswith(b"message-id:")]
        return line.split()[1].decode()


Say = Callable[
    [str, str], Any
]  # stage and subject -> a reply, None for the usual one, HangUp, or something to wait for


@dataclass
class CountingRelay:
    """A strict relay. ``say`` may give another answer than yes, take its time over it, or end the connection.

    ``open`` connections, ``peak`` is the most there ever were; ``whole``: every message that arrived to its final dot
    with a recipient, whatever was answered; ``taken``: those that were answered yes.
    """

    say: Say = lambda _stage, _subject: None
    extensions: tuple[str, ...] = PIPELINED
    now: Callable[[], float] = time.monotonic
    port: int = 0
    open: int = 0
    peak: int = 0
    visits: int = 0
    whole: list[Taken] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[CountingRelay]:
        async with serving(self._converse) as self.port:
            yield self
        assert not self.mistakes

    def most_within(self, seconds: float, load: Callable[[Taken], int] = lambda _: 1) -> int:
        """The most that arrived in any sliding window of that length."""
        return max(
            (sum(load(one) for one in self.whole if first.at <= one.at < first.at + seconds) for first in self.whole),
            default=0,
        )

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.visits += 1
        self.peak = max(self.peak, self.open)
        try:
            await _Visit(self, self.visits, reader, writer).run()
        finally:
            self.open -= 1


class _Visit:
    def __init__(
        self, relay: CountingRelay, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.relay, self.number, self.reader, self.writer = relay, number, reader, writer
        self.sender: str | None = None
        self.to: list[str] = []

    async def run(self) -> None:
        if not await self._answer("greeting", "", "220 counting.test ESMTP"):
            return
        while line := (await self.reader.readline()).decode():
            self.relay.commands.append(line.rstrip())
            verb, _, rest = line.rstrip().partition(" ")
            if not await getattr(self, f"_{verb.lower()}")(rest):
                return

    async def _answer(self, stage: str, subject: str, usual: str) -> int:
        """Say it, and give the code; 0 when the connection is over."""
        reply = self.relay.say(stage, subject)
        if reply is not None and not isinstance(reply, str | type):
            reply = await reply
        if reply is HangUp:
            return 0
        reply = reply if isinstance(reply, str) else usual
        self.writer.write(reply.encode() + b"\r\n")
        return 0 if reply.startswith("421") else int(reply[:3])

    async def _ehlo(self, _: str) -> int:
        lines = ("counting.test", *self.relay.extensions)
        usual = "\r\n".join(f"250{'-' if at + 1 < len(lines) else ' '}{line}" for at, line in enumerate(lines))
        return await self._answer("ehlo", "", usual)

    async def _mail(self, rest: str) -> int:
        if self.sender is not None:
            self.relay.mistakes.append("MAIL within a message")
        code = await self._answer("mail", rest, "250 2.1.0 ok")
        self.sender = rest if code == 250 else None
        self.to = []
        return code

    async def _rcpt(self, rest: str) -> int:
        address = rest.partition("<")[2].partition(">")[0]
        if self.sender is None:
            self.writer.write(b"503 5.5.1 MAIL first\r\n")
            return 503
        code = await self._answer("rcpt", address, "250 2.1.5 ok")
        if code == 250:
            self.to.append(address)
        return code

    async def _data(self, _: str) -> int:
        if not self.to:
            self.writer.write(b"554 5.5.1 nobody\r\n")
            return 554
        if (code := await self._answer("data", "", "354 go ahead")) != 354:
            return code
        octets = await self.reader.readuntil(b"\r\n.\r\n")
        octets = octets[:-3].replace(b"\r\n..", b"\r\n.")
        if "8BITMIME" not in self.relay.extensions and not octets.isascii():
            self.relay.mistakes.append("eight bits")
        whole = Taken(self.relay.now(), self.number, tuple(self.to), octets)
        self.relay.whole.append(whole)
        self.sender = None
        code = await self._answer("body", whole.message_id, "250 2.0.0 taken")
        if code == 250:
            self.relay.taken.append(whole)
        return code

    async def _rset(self, _: str) -> int:
        self.sender = None
        return await self._answer("rset", "", "250 2.0.0 ok")

    async def _quit(self, _: str) -> int:
        await self._answer("quit", "", "221 2.0.0 bye")
        return 0
