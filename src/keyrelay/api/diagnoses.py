"""``/api/v1/diagnoses``: the explained test, as one document or as events while it runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request

from keyrelay.access.permissions import MODIFY_SETTINGS
from keyrelay.api.answers import JSON, Answer, Events
from keyrelay.api.conventions import Fields, Pairs, read_fields
from keyrelay.api.drafts import checker, require_use
from keyrelay.api.operations import (
    Call,
    Operation,
    Resource,
    Services,
    Style,
    address_of,
    blamed,
    while_the_caller_waits,
)
from keyrelay.api.problems import own_answer
from keyrelay.api.profile import read_given
from keyrelay.errors import BadInput, NoProfile, Violation
from keyrelay.profile import patch
from keyrelay.profile.model import SmtpProfile
from keyrelay.profile.rules import address

if TYPE_CHECKING:  # what a start does not need: a test imports it
    from keyrelay.relay.diagnosis import Finding, Order, Report

EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
_NAMES = {"profile": "profile", "mode": "mode", "recipient": "recipient"}
_MODES = ("connect", "envelope", "message")


def resources(style: Style, services: Services) -> list[Resource]:
    return [Resource("/api/v1/diagnoses", {"POST": Operation({1: _post}, MODIFY_SETTINGS)}, style, services)]


def report_document(report: Report) -> dict[str, Any]:
    """A report as it is shown."""
    failed = report.failed
    return {
        "verdict": "ok" if failed is None else "failed",
        "mode": report.order.mode,
        "recipient": report.order.recipient,
        "failed_stage": None if failed is None else failed.stage.stage,
        "cause": None if failed is None else finding_document(failed)["cause"],
        "message_id": report.message_id,
        "round_trips": None if report.delivery is None else report.delivery.round_trips,
        "stages": [finding_document(finding) for finding in report.findings],
        "advice": [
            {
                "topic": advice.topic,
                "verdict": advice.verdict,
                "found": advice.found,
                "sentence": advice.sentence,
                "remedy": advice.remedy,
            }
            for advice in report.advice
        ],
    }


def finding_document(finding: Finding) -> dict[str, Any]:
    """One stage as it is shown."""
    stage, explanation = finding.stage, finding.explanation
    reply = None if stage.evidence is None else stage.evidence.reply
    return {
        "stage": stage.stage,
        "verdict": stage.verdict,
        "milliseconds": round(stage.milliseconds, 1),
        "learned": dict(stage.learned),
        "dialogue": list(stage.dialogue),
        "reply": None
        if reply is None
        else {"code": reply.code, "enhanced": reply.enhanced, "lines": list(reply.lines)},
        "cause": None
        if explanation is None
        else {
            "id": explanation.cause.id,
            "sentence": explanation.sentence,
            "remedy": explanation.remedy,
            "retry": explanation.cause.retry,
            "more": explanation.cause.more,
        },
    }


async def _post(call: Call) -> Answer:
    order = await _order(call)
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    work = _run(call, order, queue)
    if "text/event-stream" not in call.request.headers.get("accept", ""):
        return Answer(200, _json(report_document(await while_the_caller_waits(call.request, work))), (JSON,))
    task = asyncio.create_task(work, name="keyrelay-diagnosis")
    first = await queue.get()
    if first is None:  # it has not even begun: say why as everything else does
        await task
    return Events(200, headers=(EVENT_STREAM,), events=_events(call.request, first, queue, task))


async def _run(call: Call, order: Order, queue: asyncio.Queue[bytes | None]) -> Report:
    try:
        async with call.services.turnstile.turn(call.identity.name, address_of(call.request)):
            run = call.services.diagnoses().run(
                order, finished=lambda finding: queue.put_nowait(_event("stage", finding_document(finding)))
            )
            report = await call.services.figures.test(run)
        queue.put_nowait(_event("report", report_document(report)))
        return report
    finally:
        queue.put_nowait(None)


async def _events(
    request: Request, first: bytes | None, queue: asyncio.Queue[bytes | None], task: asyncio.Task[Report]
) -> AsyncIterator[bytes]:
    try:
        event = first
        while event is not None:
            yield event
            event = await while_the_caller_waits(request, queue.get())
        if (problem := task.exception()) is not None:
            error = blamed(problem if isinstance(problem, Exception) else RuntimeError())
            yield _event("error", json.loads(own_answer(error, str).body))
    except ClientDisconnect:
        pass
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


async def _order(call: Call) -> Order:
    """What is to be tested. Raises BadInput, or NoProfile."""
    from keyrelay.relay.diagnosis import Order

    fields = Fields(await read_fields(call.request, optional=True), _NAMES, exact=True)
    recipient, mode = fields.text("recipient"), fields.text("mode")
    if mode is None:
        mode = "connect" if recipient is None else "message"
    given = fields.members("profile")
    found = fields.violations
    if mode not in _MODES:
        found.append(Violation("mode", "unknown_mode", "{field} must be connect, envelope or message."))
    elif recipient is not None or mode != "connect":
        found.extend(address("recipient", recipient))
    profile = await _profile(call, given, tuple(found))
    return Order(profile, mode, recipient)  # type: ignore[arg-type]  # one of _MODES


async def _profile(call: Call, given: Pairs | None, found: tuple[Violation, ...]) -> SmtpProfile:
    """The stored profile with what was given in its place, checked together with everything else."""
    current = await call.services.keeper.snapshot()
    if given is None:
        if found:
            raise BadInput(found)
        if current.profile is None:
            raise NoProfile("No profile is configured yet, and none was given.")
        require_use(call.identity, (source for _, source in current.profile.secrets()))
        return current.profile
    values, violations = read_given(given)
    draft, more = patch.merge(current, values)
    return (await checker(call))(draft, (*found, *violations, *more))


def _event(name: str, document: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _json(document))


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
