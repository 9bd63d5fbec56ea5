"""How much the outbox may hold: it refuses early, before the disk is full."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

from keyrelay.errors import OutboxFull
from keyrelay.outbox.books import CONTENT
from keyrelay.store.model import Reader

_KEPT_FREE = 64 * 1024 * 1024  # octets of the disk: what is there already must still be sent, and written down
_BELIEVED_SECONDS = 1.0


class Room:
    """``most`` octets of content, for all nodes together. ``disk``: the directory of the SQLite file, if any."""

    def __init__(self, reader: Reader, most: int, disk: Path | None) -> None:
        self._reader = reader
        self._most = most
        self._disk = disk
        self._left = 0
        self._free: int | None = None
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    def has(self, octets: int) -> bool:
        """Whether so many more may be kept, as far as that is known without a look."""
        return self._is_known() and octets <= self._left and (self._free is None or octets <= self._free)

    async def require(self, octets: int) -> None:
        """Raise OutboxFull unless so many more may be kept."""
        if not self._is_known():
            async with self._looking:
                if not self._is_known():
                    await self._look()
        if octets > self._left:
            raise OutboxFull(f"The outbox holds all that it may ({self._most // 1024 // 1024} MiB).")
        if self._free is not None and octets > self._free:
            raise OutboxFull("The disk is nearly full.", remedy="Make room on the disk of the data directory.")

    def take(self, octets: int) -> None:
        """So many more are kept now."""
        self._left -= octets
        if self._free is not None:
            self._free -= octets

    def _is_known(self) -> bool:
        return time.monotonic() <= self._looked_at + _BELIEVED_SECONDS

    async def _look(self) -> None:
        self._left = self._most - await held(self._reader)
        if self._disk is not None:
            self._free = shutil.disk_usage(self._disk).free - _KEPT_FREE
        self._looked_at = time.monotonic()


async def held(reader: Reader) -> int:
    """The octets of content that are kept."""
    rows = await reader.rows("SELECT SUM(octets) FROM outbox_tally WHERE state = $1", CONTENT)
    return int(rows[0][0] or 0)
