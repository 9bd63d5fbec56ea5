"""Limits that hold in every sliding window, for all nodes together: what is kept for that, and what it leaves room for.

A message may reach the relay at any moment between its claim and its settling, so it counts from the claim on, and
until a whole window after it was settled. What is settled is kept as sums, one per sixtieth of the window and each as
if all of it had come at its end: a few dozen rows stand for ten thousand recipients, and err on the safe side only.

The store keeps two things: with each lease the messages and recipients it was claimed for (their sum is
``underway``), and the ``Sum`` rows. A claim reads both, asks ``room``, and writes its lease in one transaction that
no other claim runs beside; settling ends the lease and writes the sums in one transaction. A lease that is taken over
is settled for all it was claimed for. Times are outbox time, looked at within the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

Counted = Literal["messages", "recipients"]

_PARTS = 60
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND, _MINUTE, _HOUR, _DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many in any window of that length. Raises ValueError for what nothing could ever pass."""

    counted: Counted
    most: int
    window: timedelta

    def __post_init__(self) -> None:
        if self.most < 1 or self.window < timedelta(milliseconds=1):
            raise ValueError("a limit lets through at least one, in a window of a millisecond or more")

    def part_of(self, moment: datetime) -> int:
        """The number of the part of time in which ``moment`` lies."""
        return (moment - _EPOCH) // self._part

    def counts_until(self, part: int) -> datetime:
        """When that which came in this part has left every window."""
        return _EPOCH + (part + 1) * self._part + self.window

    @property
    def _part(self) -> timedelta:
        return max(self.window // _PARTS, _MICROSECOND)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a relay allows: connections at once, and so many in a window. None and nothing stand for no limit."""

    connections: int | None = None
    rates: tuple[Limit, ...] = ()


class Load(msgspec.Struct, frozen=True):
    """Messages, and all their recipients together."""

    messages: int = 0
    recipients: int = 0

    def of(self, counted: Counted) -> int:
        return self.messages if counted == "messages" else self.recipients

    def plus(self, other: Load) -> Load:
        return Load(self.messages + other.messages, self.recipients + other.recipients)

    def minus(self, other: Load) -> Load:
        return Load(self.messages - other.messages, self.recipients - other.recipients)


@dataclass(frozen=True, slots=True)
class Sum:
    """What was settled in one part of time. ``most`` is no part of it, so a limit may be raised or lowered."""

    counted: Counted
    window: timedelta
    part: int
    amount: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """What all nodes have used."""

    underway: Load = field(default_factory=Load)
    sums: tuple[Sum, ...] = ()

    def used(self, limit: Limit, now: datetime) -> int:
        """How much of a limit is used up now; for the graph, too."""
        return self.underway.of(limit.counted) + sum(amount for _, amount in self._settled(limit, now))

    def claimed(self, load: Load) -> Ledger:
        return replace(self, underway=self.underway.plus(load))

    def settled(self, claimed: Load, used: Load, limits: Limits, now: datetime) -> Ledger:
        """After a claim has come to its end. ``used``: what may have reached the relay of it."""
        sums = {(one.counted, one.window, one.part): one for one in self.sums}
        for new in charges(used, limits, now):
            key = (new.counted, new.window, new.part)
            sums[key] = replace(new, amount=new.amount + sums[key].amount) if key in sums else new
        return Ledger(self.underway.minus(claimed), tuple(sums.values()))

    def swept(self, limits: Limits, now: datetime) -> Ledger:
        """Without the sums that count no more."""
        counting = {
            (limit.counted, limit.window, part) for limit in limits.rates for part, _ in self._settled(limit, now)
        }
        return replace(self, sums=tuple(one for one in self.sums if (one.counted, one.window, one.part) in counting))

    def _settled(self, limit: Limit, now: datetime) -> Iterable[tuple[int, int]]:
        for one in self.sums:
            same = (one.counted, one.window) == (limit.counted, limit.window)
            if same and now < limit.counts_until(one.part):
                yield one.part, one.amount

    def room_at(self, limit: Limit, wanted: int, now: datetime) -> datetime | None:
        """When there will be room for ``wanted``, if nobody else takes it.

        None: that depends on what is under way now, or it never fits.
        """
        missing = self.used(limit, now) + wanted - limit.most
        if missing <= 0:
            return now
        for part, amount in sorted(self._settled(limit, now)):
            missing -= amount
            if missing <= 0:
                return limit.counts_until(part)
        return None


def charges(used: Load, limits: Limits, now: datetime) -> list[Sum]:
    """What to add to the sums in the store, for each limit its row."""
    each = {(limit.counted, limit.window): limit for limit in limits.rates}  # two figures may share a window
    return [
        Sum(counted, window, limit.part_of(now), used.of(counted))
        for (counted, window), limit in each.items()
        if used.of(counted)
    ]


@dataclass(frozen=True, slots=True)
class Room:
    """How many may be claimed now; None for any number.

    A message with more recipients than there is room for is claimed for as many of them as fit.
    """

    messages: int | None
    recipients: int | None

    def holds(self, load: Load) -> bool:
        return (self.messages is None or load.messages <= self.messages) and (
            self.recipients is None or load.recipients <= self.recipients
        )


def room(limits: Limits, ledger: Ledger, now: datetime) -> Room:
    """What may be claimed without breaking any limit."""

    def left(counted: Counted) -> int | None:
        rooms = [limit.most - ledger.used(limit, now) for limit in limits.rates if limit.counted == counted]
        return max(0, min(rooms)) if rooms else None

    return Room(left("messages"), left("recipients"))


# --- Connections ---------------------------------------------------------------------------------------------


def fair_share(limit: int, nodes: int, rank: int) -> int:
    """How many connections the node that is the ``rank``-th of ``nodes`` (from 0) keeps when all have work."""
    return limit // nodes + (1 if rank < limit % nodes else 0)


# --- Known relays --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Preset:
    """The limits of a known relay, and where it says so."""

    limits: Limits
    source: str


PRESETS: Mapping[str, Preset] = {
    # Per mailbox.
    "office365": Preset(
        Limits(3, (Limit("messages", 30, _MINUTE), Limit("recipients", 10_000, _DAY))),
        "https://learn.microsoft.com/exchange/troubleshoot/send-emails/smtp-submission-improvements",
    ),
    # Per subscription, until support raises it.
    "azure-communication-services": Preset(
        Limits(rates=(Limit("messages", 30, _MINUTE), Limit("messages", 100, _HOUR))),
        "https://learn.microsoft.com/azure/communication-services/concepts/email/sdk-features",
    ),
    # Per user of smtp.gmail.com in a paid Workspace.
    "google-workspace": Preset(
        Limits(rates=(Limit("messages", 2_000, _DAY), Limit("recipients", 10_000, _DAY))),
        "https://support.google.com/a/answer/166852",
    ),
    # Per user of smtp-relay.gmail.com.
    "google-relay": Preset(
        Limits(rates=(Limit("messages", 10_000, _DAY), Limit("recipients", 10_000, _DAY))),
        "https://support.google.com/a/answer/2956491",
    ),
    # Per account and region; outside of the sandbox every account has figures of its own.
    "amazon-ses-sandbox": Preset(
        Limits(rates=(Limit("recipients", 1, _SECOND), Limit("recipients", 200, _DAY))),
        "https://docs.aws.amazon.com/ses/latest/dg/quotas.html",
    ),
}
