"""What a chaos relay remembers of its clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

Report = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class Received:
    """A message that was taken. ``content`` has its dots as the client meant them; ``session`` counts from 1."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    session: int
    user: str | None
    tls: bool
    mail_parameters: str


class Open(Protocol):
    """A connection, as far as it can be ended from outside."""

    transport: asyncio.Transport


@dataclass(slots=True)
class Memory:
    """Everything that happened, in order; with ``keep`` off, only how often.

    ``report`` is called with the session and a line for people, in which no credentials are; ``take`` with each message
    that was taken, kept or not.
    """

    keep: bool
    report: Report | None
    take: Callable[[Received], None] | None = None
    messages: list[Received] = field(default_factory=list)
    commands: list[tuple[int, str]] = field(default_factory=list)
    flights: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    mistakes: list[tuple[int, str]] = field(default_factory=list)
    sni: list[str | None] = field(default_factory=list)
    accepted: int = 0
    connections: int = 0
    live: set[Open] = field(default_factory=set)

    def tell(self, session: int, text: str) -> None:
        if self.report is not None:
            self.report(session, text)

    def opened(self, connection: Open) -> int:
        self.connections += 1
        self.live.add(connection)
        return self.connections

    def closed(self, connection: Open) -> None:
        self.live.discard(connection)

    def command(self, session: int, line: str, shown: str) -> None:
        if self.keep:
            self.commands.append((session, line))
        self.tell(session, shown)

    def flight(self, session: int, verbs: list[str]) -> None:
        if self.keep:
            self.flights.append((session, tuple(verbs)))

    def mistake(self, session: int, shown: str, reply: str) -> None:
        if self.keep:
            self.mistakes.append((session, f"{shown}: {reply}"))
        self.tell(session, f"mistake of the client: {reply}")

    def asked_for(self, name: str | None) -> None:
        if self.keep:
            self.sni.append(name)

    def message(self, received: Received) -> None:
        self.accepted += 1
        if self.keep:
            self.messages.append(received)
        if self.take is not None:
            self.take(received)
        if self.report is not None:
            self.report(received.session, f"message accepted, {len(received.content)} bytes")
