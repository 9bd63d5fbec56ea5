"""How many connections a server process has, and who is let in when there are as many as may be.

Beyond the bound, a few more may say what they want, for a second: a look at ``/livez`` is answered, so that nobody
takes a busy process for a dead one, and everybody else is turned away. When those few are too many as well, whoever
has waited longest goes first, so that no crowd can keep a probe out by waiting.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Protocol

_logger = logging.getLogger(__name__)

PROBE = "/livez"
_CROWD = 16
_TOLD_SECONDS = 10.0


class Guest(Protocol):
    """A connection that was not let in, and may still say that it is a probe."""

    def turn_away(self) -> None: ...


class Doors:
    """Those of one process. ``refused`` counts by status what was answered without reading the request."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = 0
        self.refused: Counter[int] = Counter()
        self._crowd: dict[Guest, None] = {}
        self._told_at = -_TOLD_SECONDS

    def enter(self, guest: Guest) -> bool:
        """A connection begins. Gives whether it is let in; one that is not stands in the crowd."""
        if self.open < self.most:
            self.open += 1
            return True
        self._tell()
        if len(self._crowd) >= _CROWD:
            longest = next(iter(self._crowd))
            del self._crowd[longest]
            longest.turn_away()
        self._crowd[guest] = None
        return False

    def leave(self, guest: Guest, *, was_let_in: bool) -> None:
        """A connection has ended."""
        if was_let_in:
            self.open -= 1
        else:
            self._crowd.pop(guest, None)

    def _tell(self) -> None:
        now = time.monotonic()
        if now >= self._told_at + _TOLD_SECONDS:
            self._told_at = now
            _logger.warning("as many connections are open as may be", extra={"facts": {"connections": self.most}})
