"""The outbox: what holds it up, how long it waits, who works on it, and how full it is."""

from __future__ import annotations

from datetime import timedelta

from keyrelay.amounts import octets_text, span_text
from keyrelay.doctor.case import Case
from keyrelay.errors import StoreUnavailable
from keyrelay.health.finding import Finding, failure, ok, warning
from keyrelay.health.nodes import nodes_found
from keyrelay.outbox.model import WAITING
from keyrelay.outbox.overview import Overview
from keyrelay.outbox.pressure import REASONS

_MEGABYTE = 1024 * 1024
_LONG, _TOO_LONG = timedelta(hours=1), timedelta(hours=24)
_FULL, _NEARLY = 0.95, 0.8


def _overview(case: Case) -> Overview:
    if case.overview is None:
        raise StoreUnavailable("How the outbox stands could not be read.")
    return case.overview


async def going(case: Case) -> Finding:
    pressure = _overview(case).pressure
    if pressure.mode == "open" or pressure.why is None:
        return ok("Nothing holds the outbox up.")
    said = pressure.said
    code = "" if said is None or said.code is None or pressure.why == "operator" else f" (it was told {said.code})"
    told = f"The outbox is {pressure.mode}: {REASONS[pressure.why]}{code}."
    if pressure.why == "operator":
        return warning(told, "keyrelay outbox resume lets it go on.")
    if pressure.mode == "slowed":
        return warning(told, "It tries again by itself; keyrelay outbox status tells the relay's own words.")
    return failure(
        told,
        "Find out why with keyrelay smtp test, and correct it; then the outbox goes on by itself.",
    )


async def waiting(case: Case) -> Finding:
    found = _overview(case)
    held = found.counts["held"]
    if found.oldest is None:
        if held:
            return warning(f"{_of(held, 'waits for a person', 'wait for a person')}.", _HELD)
        return ok("No message waits.")
    number = sum(found.counts[state] for state in (*WAITING, "sending"))
    waits = max(found.at - found.oldest.since, timedelta(0))
    told = f"{_of(number, 'waits', 'wait')}, the oldest for {span_text(waits.total_seconds())}"
    if waits >= _TOO_LONG:
        return failure(f"{told}.", "keyrelay outbox list --state deferred tells what the relay said to each.")
    if waits >= _LONG:
        return warning(f"{told}.", "keyrelay outbox list tells what the relay said to each.")
    if held:
        return warning(f"{told}; and {_of(held, 'waits for a person', 'wait for a person')}.", _HELD)
    return ok(f"{told}.")


_HELD = "keyrelay outbox list --state held shows them; release or cancel each."


async def working(case: Case) -> Finding:
    found = _overview(case)
    workers = sum(node.works for node in found.nodes)
    if workers:
        return ok(f"{workers} {'process sends' if workers == 1 else 'processes send'} what waits.")
    left = sum(found.counts[state] for state in (*WAITING, "sending"))
    if left:
        return failure(f"{_of(left, 'waits', 'wait')}, and nobody sends.", "Start keyrelay serve or keyrelay worker.")
    return warning("Nobody would send a message now.", "Start keyrelay serve or keyrelay worker.")


async def full(case: Case) -> Finding:
    most = case.settings.outbox_megabytes * _MEGABYTE
    held = _overview(case).octets
    told = f"The outbox holds {octets_text(held)} of {octets_text(most)}."
    if held > _FULL * most:
        return failure(
            told, "It refuses messages (507) now or soon: raise KEYRELAY_OUTBOX_MEGABYTES, or see why they wait."
        )
    if held > _NEARLY * most:
        return warning(told, "See why messages wait, or raise KEYRELAY_OUTBOX_MEGABYTES.")
    return ok(told)


async def limits(case: Case) -> Finding:
    found = _overview(case).limits
    if not found:
        return ok("No limit of the relay is set.")
    fullest = max(found, key=lambda one: one.used / one.limit.most)
    window = span_text(fullest.limit.window.total_seconds())
    told = f"{fullest.used} of {fullest.limit.most} {fullest.limit.counted} in {window} are used up."
    if fullest.used >= fullest.limit.most:
        return warning(told, "Messages wait until there is room again; ask the relay's provider for more.")
    if fullest.used > _NEARLY * fullest.limit.most:
        return warning(told, "What goes beyond will wait; ask the relay's provider for more in time.")
    return ok(told)


async def nodes(case: Case) -> Finding:
    return nodes_found(_overview(case).nodes)


def _of(number: int, one: str, many: str) -> str:
    return f"1 message {one}" if number == 1 else f"{number} messages {many}"
