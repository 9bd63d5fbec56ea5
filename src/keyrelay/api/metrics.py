"""``/metrics``: the figures of this process, and of the outbox that all nodes share. No addresses, nothing secret.

What all nodes share (``keyrelay_outbox_*``, ``keyrelay_limit_*``, ``keyrelay_nodes``, ``keyrelay_relay_connections``)
is read from the store, exact, and the same whichever process is asked: take the ``max`` of it, never the sum. The rest
is what the process has done that answers. Of several behind one port (``serve --workers``), any may answer: their
series differ by the label ``process``, so that no counter ever seems to go back, and each is told of now and then.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, get_args

from starlette.requests import Request

from keyrelay import __version__
from keyrelay.access.identity import Identity
from keyrelay.access.permissions import READ_METRICS
from keyrelay.api.answers import Answer
from keyrelay.api.exposition import OPEN, PLAIN, Family, wants_open, written
from keyrelay.api.figures import SIGN_INS, TESTS
from keyrelay.api.operations import Call, Operation, Resource, Services, Style
from keyrelay.api.visits import OTHER
from keyrelay.aside import aside
from keyrelay.errors import KeyrelayError
from keyrelay.settings import Settings
from keyrelay.store.model import Store

if TYPE_CHECKING:  # what a start does not need
    from keyrelay.outbox.figures import Totals
    from keyrelay.outbox.outbox import Outbox
    from keyrelay.outbox.overview import Overview

_BELIEVED_SECONDS = 1.0  # for which the store is not asked again, however many ask us
_MEGABYTE = 1024 * 1024
UNREAD = "unread"  # what was refused before it was known what it is about
_STARTED_AT = time.time()


def route(style: Style, services: Services) -> Resource:
    """Open to everybody where the operator has said so."""
    page = _Page()
    if services.settings.open_metrics:
        return _ForEverybody("/metrics", {"GET": Operation({1: page.get}, None, roleless=True)}, style, services)
    return Resource("/metrics", {"GET": Operation({1: page.get}, READ_METRICS)}, style, services)


class _ForEverybody(Resource):
    async def _identify(self, request: Request) -> Identity:  # noqa: ARG002 - whoever it is
        return Identity("anybody", (), frozenset())


class _Page:
    """The page, and what the store said last."""

    def __init__(self) -> None:
        self._told: tuple[Family, ...] = ()
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def get(self, call: Call) -> Answer:
        open_metrics = wants_open(",".join(call.request.headers.getlist("accept")))
        outbox = call.services.outbox()
        shared = await self._shared(call.services, outbox)
        # Of several processes behind one port, each answers now and then: each has series of its own.
        own = {"process": str(os.getpid())} if call.services.settings.workers > 1 else {}
        certificate = await _certificate(call.services.settings, own)
        families = (*shared, *_requests(call.services, own), *_of_this_process(outbox, own), certificate)
        return Answer(
            200,
            written(families, open_metrics=open_metrics),
            ((b"content-type", OPEN if open_metrics else PLAIN), (b"vary", b"accept")),
        )

    async def _shared(self, services: Services, outbox: Outbox) -> tuple[Family, ...]:
        async with self._asking:
            if time.monotonic() > self._asked_at + _BELIEVED_SECONDS:
                most = services.settings.outbox_megabytes * _MEGABYTE
                self._told = await of_the_store(services.store, outbox, most)
                self._asked_at = time.monotonic()
        return self._told


# --- What all nodes share ------------------------------------------------------------------------------------


async def of_the_store(store: Store, outbox: Outbox, most: int) -> tuple[Family, ...]:
    """What any node would tell. ``most``: how many octets of content may be kept."""
    from keyrelay.outbox.figures import totals
    from keyrelay.outbox.overview import overview

    up = Family("keyrelay_database_up", "gauge", "Whether the database answers.")
    try:
        found, counted = await overview(outbox.office), await totals(store)
    except KeyrelayError:  # what this process knows is told all the same
        return (up.add(0),)
    return (up.add(1), *_outbox(found, counted, most), *_pressure(found), *_relay(found))


def _outbox(found: Overview, counted: Totals, most: int) -> Iterator[Family]:
    states = Family("keyrelay_outbox_messages", "gauge", "Messages of which a record is kept, by state.")
    for state, number in found.counts.items():
        states.add(number, state=state)
    yield states
    yield Family("keyrelay_outbox_submitted", "counter", "Messages taken in, by all nodes.").add(counted.submitted)
    yield Family("keyrelay_outbox_accepted", "counter", "Messages the relay accepted for every recipient.").add(
        counted.accepted
    )
    yield Family("keyrelay_outbox_content_bytes", "gauge", "Content of messages that is kept.").add(found.octets)
    yield Family("keyrelay_outbox_content_limit_bytes", "gauge", "How much content may be kept.").add(most)
    waits = 0.0 if found.oldest is None else max((found.at - found.oldest.since).total_seconds(), 0.0)
    yield Family(
        "keyrelay_outbox_oldest_waiting_seconds", "gauge", "How long the message has waited that has waited longest."
    ).add(waits)


def _pressure(found: Overview) -> Iterator[Family]:
    from keyrelay.outbox.pressure import Why

    for mode, meaning in (("paused", "Whether nothing goes out"), ("slowed", "Whether less goes out than could")):
        family = Family(f"keyrelay_outbox_{mode}", "gauge", f"{meaning}, by the reason.")
        for why in get_args(Why):
            family.add(int(found.pressure.mode == mode and found.pressure.why == why), why=why)
        yield family


def _relay(found: Overview) -> Iterator[Family]:
    nodes = Family("keyrelay_nodes", "gauge", "Processes that are alive, by whether they send.")
    for works in (True, False):
        nodes.add(sum(node.works == works for node in found.nodes), works="yes" if works else "no")
    yield nodes
    yield Family("keyrelay_relay_connections", "gauge", "Connections to the relay that all nodes hold.").add(
        found.connections
    )
    if found.most_connections is not None:
        yield Family("keyrelay_relay_connections_limit", "gauge", "How many connections they may hold.").add(
            found.most_connections
        )
    if found.limits:
        used = Family("keyrelay_limit_used", "gauge", "How much of a limit of the relay is used up now.")
        most = Family("keyrelay_limit_most", "gauge", "How much it allows, in any window of that length.")
        for one in found.limits:
            labels = {"counted": one.limit.counted, "window_seconds": f"{one.limit.window.total_seconds():g}"}
            used.add(one.used, **labels)
            most.add(one.limit.most, **labels)
        yield from (used, most)


# --- What this process has done ------------------------------------------------------------------------------


def _requests(services: Services, own: dict[str, str]) -> Iterator[Family]:
    figures, doors = services.figures, services.doors
    requests = Family("keyrelay_http_requests", "counter", "Requests that were answered, by route and status class.")
    counted = Counter(figures.requests)
    counted[f"{services.settings.base_path}/SMTP", "GET", "2xx"] += figures.quick_reads
    for status, number in doors.refused.items():
        counted[UNREAD, OTHER, f"{status // 100}xx"] += number
    for (route, method, status_class), number in sorted(counted.items()):
        requests.add(number, route=route, method=method, status=status_class, **own)
    yield requests
    seconds = Family("keyrelay_http_request_seconds", "histogram", "How long they took; not those read from memory.")
    for route, histogram in sorted(figures.seconds.items()):
        seconds.add_histogram(histogram, route=route, **own)
    yield seconds
    for name, meaning, number in (
        ("keyrelay_http_connections", "Connections that are open.", doors.open),
        ("keyrelay_http_connections_limit", "How many there may be.", doors.most),
    ):
        yield Family(name, "gauge", meaning).add(number, **own)
    sign_ins = Family("keyrelay_sign_ins", "counter", "Requests whose caller had to sign in, by what came of it.")
    for outcome in SIGN_INS:
        read = figures.quick_reads if outcome == "accepted" else 0
        sign_ins.add(figures.sign_ins[outcome] + read, outcome=outcome, **own)
    yield sign_ins
    tests = Family("keyrelay_tests", "counter", "Tests and diagnoses of this process, by what came of them.")
    for outcome in TESTS:
        tests.add(figures.tests[outcome], outcome=outcome, **own)
    yield tests


def _of_this_process(outbox: Outbox, own: dict[str, str]) -> Iterator[Family]:
    from keyrelay.outbox.figures import OUTCOMES

    entrance, work = outbox.queue.figures, outbox.work
    attempts = Family("keyrelay_attempts", "counter", "Attempts of this process, by what came of them.")
    for outcome in OUTCOMES:
        attempts.add(work.attempts[outcome], outcome=outcome, **own)
    yield attempts
    yield Family("keyrelay_recipients_accepted", "counter", "Recipients for whom the relay said yes to it.").add(
        work.recipients_accepted, **own
    )
    yield Family("keyrelay_relay_connections_open", "gauge", "Connections of this process to the relay.").add(
        outbox.mailer.connections, **own
    )
    for name, meaning, histogram in (
        ("keyrelay_attempt_seconds", "How long its attempts took.", work.attempt_seconds),
        ("keyrelay_round_seconds", "How long its rounds took, commit and all.", work.round_seconds),
        ("keyrelay_submission_commit_seconds", "How long its commits of submissions took.", entrance.commit_seconds),
        ("keyrelay_submission_group_messages", "How many submissions shared a commit.", entrance.group_messages),
    ):
        yield Family(name, "histogram", meaning).add_histogram(histogram, **own)
    yield Family("keyrelay_build", "info", "Which keyrelay this is.").add(1, version=__version__, **own)
    yield Family("process_start_time_seconds", "gauge", "When this process started, in Unix time.").add(
        _STARTED_AT, **own
    )
    yield Family("process_cpu_seconds", "counter", "Processor time it has used.").add(time.process_time(), **own)
    with suppress(OSError, ValueError):
        yield Family("process_resident_memory_bytes", "gauge", "Memory it has now.").add(_memory(), **own)


async def _certificate(chosen: Settings, own: dict[str, str]) -> Family:
    """When what callers see ends; without a value where we speak http, or it cannot be read."""
    from keyrelay.health.certificates import end_of, our_file

    file = our_file(chosen)
    end = None if file is None else await aside(lambda: end_of(file))
    family = Family("keyrelay_certificate_end_time_seconds", "gauge", "When our TLS certificate ends, in Unix time.")
    return family if end is None else family.add(end.timestamp(), **own)


def _memory() -> int:
    """Resident memory; where nobody tells, the most it ever was."""
    with suppress(FileNotFoundError), open("/proc/self/statm", encoding="ascii") as told:  # noqa: PTH123 - no file
        return int(told.read().split()[1]) * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
