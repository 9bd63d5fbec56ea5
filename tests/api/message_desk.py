"""A server that takes messages in and sends none by itself: a test says what comes of each."""

from __future__ import annotations

from typing import Any

import httpx2

from keyrelay.relay.model import Reply
from live import ANONYMOUS, LiveServer
from outboxes import UNKNOWN, ByHand, said
from submissions import JSON, MESSAGES, hand_in, taken_in


class Desk:
    """A server that sends nothing by itself, and whose rounds a test makes."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        server.put_v2(ANONYMOUS).raise_for_status()
        self.node: ByHand | None = None

    def hand_in(self, *to: str, **more: Any) -> str:
        return taken_in(hand_in(self.server, JSON | {"to": list(to or ("ops@example.org",))} | more))

    def answer(self, replies: dict[str, Reply] | None = None, *, how: Any = None) -> None:
        """Let everything be tried that is due, with these replies to some addresses; the others are accepted."""

        async def go_round(node: Any) -> None:
            self.node = self.node or ByHand(node.outbox.office)
            for claim in (await self.node.round()).claims:
                self.node.settle(claim, UNKNOWN if how else said(claim, replies), how or "attempted")
            await self.node.round(0)

        self.server.run(go_round)

    def begin(self) -> None:
        """Let everything be claimed that is due."""

        async def claim(node: Any) -> None:
            self.node = self.node or ByHand(node.outbox.office)
            await self.node.round()

        self.server.run(claim)

    def shown(self, name: str) -> dict[str, Any]:
        return self.server.get(f"{MESSAGES}/{name}").raise_for_status().json()

    def listed(self, **query: Any) -> list[str]:
        """The ids on the first page."""
        answer = self.server.get(MESSAGES, params=query)
        assert answer.status_code == 200, answer.text
        return [message["id"] for message in answer.json()["messages"]]

    def steer(self, name: str, action: str, **more: Any) -> httpx2.Response:
        return self.server.post(f"{MESSAGES}/{name}/{action}", **more)
