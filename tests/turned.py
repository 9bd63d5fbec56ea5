"""Nodes without a server, whose database shows the time that the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from keyrelay.server import Node
from keyrelay.settings import Settings

SECOND = 1_000_000


@dataclass
class DatabaseClock:
    """``seconds`` go on only when the test says so, on all nodes."""

    nodes: list[Node] = field(default_factory=list)
    seconds: float = 1_800_000_000.0

    def __call__(self) -> float:
        """For what measures durations in the process."""
        return self.seconds

    def turn(self, seconds: float) -> None:
        self.seconds += seconds
        for node in self.nodes:
            now = f"CAST({int(self.seconds * SECOND)} AS BIGINT)"
            node.store.dialect = replace(node.store.dialect, wall_clock=now)


@asynccontextmanager
async def turned_nodes(settings: Settings, number: int = 1) -> AsyncIterator[DatabaseClock]:
    clock = DatabaseClock()
    try:
        for _ in range(number):
            clock.nodes.append(await Node.open(settings))
        clock.turn(0)
        yield clock
    finally:
        for node in clock.nodes:
            await node.close()
