"""What the relay is known to be unable to take: refused before it is queued, instead of days later.

Every relay says in its answer to EHLO what it can do. Most messages need nothing special of it. For one that does, a
session is opened when nobody knows the relay yet; when it cannot be reached, nothing is known, and the message is taken
in: that is what the outbox is for. An outbox that has slowed down or paused asks the relay nothing: credentials that
are refused are not shown again because somebody hands in a message.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

from keyrelay.errors import BadInput, KeyrelayError, Violation
from keyrelay.outbox.letter import Letter
from keyrelay.outbox.parts import seven_bit
from keyrelay.relay.extensions import Extensions
from keyrelay.relay.mailing import Mailer
from keyrelay.relay.model import StageFailed
from keyrelay.store.model import Reader

TOO_LARGE_FOR_RELAY = "too_large_for_relay"

_LARGE = 1024 * 1024  # octets: what every relay takes
_PATIENCE = 5.0  # seconds that a caller waits for a relay to introduce itself
_BELIEVED = 60.0  # seconds before a relay is asked again, whether it has answered or not


class Foresight:
    """Knows the relay of one process's mailer. ``reader`` is where it is read how the outbox fares."""

    def __init__(
        self, mailer: Mailer, reader: Reader | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._mailer = mailer
        self._reader = reader
        self._clock = clock
        self._asking = asyncio.Lock()
        self._asked: tuple[str, float] = ("", 0.0)  # to the profile of which tag, and when

    async def require(self, letter: Letter, tag: str) -> None:
        """Raise BadInput for a message that the relay cannot take; ``tag`` is that of the profile.

        An ordinary message is judged by what is known, and waits for nothing.
        """
        if self.is_ordinary(letter, tag):
            return
        offered = self._mailer.offered(tag)
        if offered is None:
            await self._ask(tag)
            offered = self._mailer.offered(tag)
        found = await self._lacking(letter, offered)
        if found is not None and not self._just_asked(tag):  # the relay may have learned it since
            await self._ask(tag)
            found = await self._lacking(letter, self._mailer.offered(tag))
        if found is not None:
            raise BadInput((found,))

    def is_ordinary(self, letter: Letter, tag: str) -> bool:
        """Whether there is nothing about the message that a relay could be unable to take, as far as is known."""
        if letter.needs_smtputf8 or letter.needs_8bit or len(letter.content) >= _LARGE:
            return False
        offered = self._mailer.offered(tag)
        return offered is None or not offered.size or len(letter.content) <= offered.size

    async def _ask(self, tag: str) -> None:
        """Have a session opened, unless somebody has done that a moment ago; many who wait share one."""
        async with self._asking:
            if self._just_asked(tag) or not await self._may_ask():
                return
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._mailer.probe()
            except (StageFailed, KeyrelayError, TimeoutError):
                pass  # it cannot be known now
            self._asked = (tag, self._clock())

    async def _may_ask(self) -> bool:
        if self._reader is None:
            return True
        rows = await self._reader.rows("SELECT pressure FROM outbox WHERE id = 1")
        return bool(json.loads(rows[0][0]).get("mode", "open") == "open")

    def _just_asked(self, tag: str) -> bool:
        asked, at = self._asked
        return asked == tag and self._clock() < at + _BELIEVED

    async def _lacking(self, letter: Letter, offered: Extensions | None) -> Violation | None:
        if offered is None:
            return None
        if letter.needs_smtputf8 and not offered.smtputf8:
            return Violation(
                "message",
                "smtputf8_not_offered",
                "{field} has an address or a header beyond ASCII, and the relay does not offer SMTPUTF8 (RFC 6531).",
            )
        octets = len(letter.content)
        if letter.needs_8bit and not offered.eight_bit:
            converted = await asyncio.to_thread(seven_bit, letter.content)
            if converted is None:
                return Violation(
                    "message",
                    "8bitmime_not_offered",
                    "{field} has octets above 127 that may not be encoded, because it is signed or they stand in a"
                    " header, and the relay does not offer 8BITMIME (RFC 6152).",
                )
            octets = len(converted)
        if offered.size and octets > offered.size:
            said = f"{{field}} has {octets} bytes, and the relay takes no more than {offered.size}."
            return Violation("message", TOO_LARGE_FOR_RELAY, said)
        return None
