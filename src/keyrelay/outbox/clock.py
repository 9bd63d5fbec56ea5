"""The time of the outbox as one node knows it (``schedule.OutboxClock``)."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from keyrelay.outbox.schedule import OutboxClock

# Runs on while the machine is suspended, where there is one that does.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Watch:
    """What has passed since this node last looked at the row in the store."""

    def __init__(self) -> None:
        self._row: OutboxClock | None = None
        self._at = 0.0

    @property
    def own(self) -> datetime | None:
        """Outbox time now, as far as this node knows; None when it has never looked."""
        if self._row is None:
            return None
        return self._row.now + timedelta(seconds=ticks() - self._at)

    @property
    def now(self) -> datetime:
        own = self.own
        assert own is not None  # noqa: S101 - whoever needs it has looked when it was opened
        return own

    @property
    def runs(self) -> bool:
        """Whether this node has ever looked."""
        return self._row is not None

    @property
    def wall(self) -> datetime:
        """What ``clock`` has as the time of the wall."""
        assert self._row is not None  # noqa: S101 - as above
        return self._row.wall + timedelta(seconds=ticks() - self._at)

    @property
    def clock(self) -> OutboxClock:
        """The row, as it would be if somebody looked now and the wall clock had not been turned since."""
        assert self._row is not None  # noqa: S101 - as above
        passed = timedelta(seconds=ticks() - self._at)
        return OutboxClock(self._row.now + passed, self._row.wall + passed)

    @property
    def age(self) -> timedelta:
        """How long ago this node last looked."""
        return timedelta(seconds=ticks() - self._at)

    def set(self, row: OutboxClock, at: float) -> None:
        """After a look: what was written, or read, when ``ticks`` was so much."""
        self._row, self._at = row, at


def ticks() -> float:
    """Seconds, of a clock that nobody can turn."""
    return time.clock_gettime(_CLOCK)
