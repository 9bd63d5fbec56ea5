"""From what somebody wants tested to the test under way, for the API and for the portal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request

from keyrelay.api.drafts import checker, require_use
from keyrelay.api.operations import Call, address_of, blamed, while_the_caller_waits
from keyrelay.errors import BadInput, KeyrelayError, NoProfile, Violation
from keyrelay.profile import patch
from keyrelay.profile.model import SmtpProfile
from keyrelay.profile.rules import address

if TYPE_CHECKING:  # what a start does not need: a test imports it
    from keyrelay.relay.diagnosis import Finding, Order, Report

MODES = ("connect", "envelope", "message")
Given = tuple[Mapping[str, Any], tuple[Violation, ...]]
"""Settings that were given, by the draft's fields, and what reading them found wrong."""


async def order_of(
    call: Call, mode: str, recipient: str | None, given: Given | None, found: tuple[Violation, ...] = ()
) -> Order:
    """What is to be tested; ``given`` is merged over the stored profile. ``found``: what is wrong already.

    Raises BadInput, NoProfile or PermissionMissing.
    """
    from keyrelay.relay.diagnosis import Order

    if mode not in MODES:
        found = (*found, Violation("mode", "unknown_mode", "{field} must be connect, envelope or message."))
    elif recipient is not None or mode != "connect":
        found = (*found, *address("recipient", recipient))
    return Order(await _profile(call, given, found), mode, recipient)  # type: ignore[arg-type]  # one of MODES


async def _profile(call: Call, given: Given | None, found: tuple[Violation, ...]) -> SmtpProfile:
    """The stored profile with what was given in its place, checked together with everything else."""
    current = await call.services.keeper.snapshot()
    if given is None:
        if found:
            raise BadInput(found)
        if current.profile is None:
            raise NoProfile("No profile is configured yet, and none was given.")
        require_use(call.identity, (source for _, source in current.profile.secrets()))
        return current.profile
    values, violations = given
    draft, more = patch.merge(current, values)
    return (await checker(call))(draft, (*found, *violations, *more))


async def tested(call: Call, order: Order) -> Report:
    """The report of a test, which is given up when the caller goes away. Raises ClientDisconnect then."""
    return await while_the_caller_waits(call.request, _run(call, order, lambda _: None))


async def told(
    call: Call, order: Order, event: Callable[[Finding | Report | KeyrelayError], bytes]
) -> AsyncIterator[bytes]:
    """The events of a test: each stage once it is certain, and at last the report, or an error that prevented it.

    It has begun when this returns. Raises what kept it from that, or ClientDisconnect.
    """
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def work() -> None:
        try:
            report = await _run(call, order, lambda finding: queue.put_nowait(event(finding)))
            queue.put_nowait(event(report))
        finally:
            queue.put_nowait(None)

    task = asyncio.create_task(work(), name="keyrelay-diagnosis")
    try:
        first = await while_the_caller_waits(call.request, queue.get())
    except BaseException:
        await _end(task)
        raise
    if first is None:  # it has not even begun: say why as everything else does
        await task
    return _events(call.request, first, queue, task, event)


async def _run(call: Call, order: Order, finished: Callable[[Finding], None]) -> Report:
    async with call.services.turnstile.turn(call.identity.name, address_of(call.request)):
        return await call.services.figures.test(call.services.diagnoses().run(order, finished=finished))


async def _events(
    request: Request,
    first: bytes | None,
    queue: asyncio.Queue[bytes | None],
    task: asyncio.Task[None],
    event: Callable[[Finding | Report | KeyrelayError], bytes],
) -> AsyncIterator[bytes]:
    try:
        following = first
        while following is not None:
            yield following
            following = await while_the_caller_waits(request, queue.get())
        if (problem := task.exception()) is not None:
            yield event(blamed(problem if isinstance(problem, Exception) else RuntimeError()))
    except ClientDisconnect:
        pass
    finally:
        await _end(task)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task
