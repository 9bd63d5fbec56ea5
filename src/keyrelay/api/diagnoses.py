"""``/api/v1/diagnoses``: the explained test, as one document or as events while it runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from keyrelay.access.permissions import MODIFY_SETTINGS
from keyrelay.api.answers import JSON, Answer, Events
from keyrelay.api.conventions import Fields, read_fields
from keyrelay.api.diagnosing import order_of, tested, told
from keyrelay.api.operations import Call, Operation, Resource, Services, Style
from keyrelay.api.problems import own_answer
from keyrelay.api.profile import read_given
from keyrelay.errors import KeyrelayError

if TYPE_CHECKING:  # what a start does not need: a test imports it
    from keyrelay.relay.diagnosis import Finding, Order, Report

EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
_NAMES = {"profile": "profile", "mode": "mode", "recipient": "recipient"}


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
    if "text/event-stream" not in call.request.headers.get("accept", ""):
        return Answer(200, _json(report_document(await tested(call, order))), (JSON,))
    return Events(200, headers=(EVENT_STREAM,), events=await told(call, order, _event))


async def _order(call: Call) -> Order:
    """What is to be tested. Raises BadInput, NoProfile or PermissionMissing."""
    fields = Fields(await read_fields(call.request, optional=True), _NAMES, exact=True)
    recipient, mode = fields.text("recipient"), fields.text("mode")
    if mode is None:
        mode = "connect" if recipient is None else "message"
    given = fields.members("profile")
    return await order_of(call, mode, recipient, None if given is None else read_given(given), tuple(fields.violations))


def _event(told: Finding | Report | KeyrelayError) -> bytes:
    from keyrelay.relay.diagnosis import Finding

    if isinstance(told, KeyrelayError):
        return event("error", json.loads(own_answer(told, str).body))
    if isinstance(told, Finding):
        return event("stage", finding_document(told))
    return event("report", report_document(told))


def event(name: str, document: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _json(document))


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
