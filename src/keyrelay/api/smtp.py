"""``/SMTP`` and ``/SMTP/Test`` in both versions (contract 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from keyrelay.access.permissions import MODIFY_SETTINGS, READ_SETTINGS
from keyrelay.api import wire_v1, wire_v2
from keyrelay.api.answers import JSON, Answer
from keyrelay.api.conventions import read_fields
from keyrelay.api.drafts import checker
from keyrelay.api.operations import (
    Call,
    Handler,
    Operation,
    Resource,
    Services,
    Style,
    address_of,
    while_the_caller_waits,
)
from keyrelay.api.preconditions import entity_tag, match, none_match
from keyrelay.errors import TestFailed, Violation
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import SmtpProfile
from keyrelay.profile.rules import address

if TYPE_CHECKING:  # what a start does not need: a test imports it
    from keyrelay.relay.diagnosis import Finding

_RESPONSES = {1: wire_v1.response, 2: wire_v2.response}
_PUT_REQUESTS = {1: wire_v1.put_request, 2: wire_v2.put_request}
_TEST_REQUESTS = {1: wire_v1.test_request, 2: wire_v2.test_request}


def read_answer(snapshot: Snapshot, version: int) -> Answer:
    """The profile as GET and PUT show it."""
    body = msgspec.json.encode(_RESPONSES[version](snapshot))
    return Answer(200, body, (JSON, (b"etag", _tag(snapshot, version).encode())))


def resources(base_path: str, style: Style, services: Services) -> list[Resource]:
    smtp = {
        "GET": Operation({1: _get(1), 2: _get(2)}, READ_SETTINGS, deprecated=True),
        "PUT": Operation({1: _put(1), 2: _put(2)}, MODIFY_SETTINGS, deprecated=True),
    }
    test = {"POST": Operation({1: _test(1), 2: _test(2)}, MODIFY_SETTINGS, deprecated=True)}
    return [
        Resource(f"{base_path}/SMTP", smtp, style, services, _published_name),
        Resource(f"{base_path}/SMTP/Test", test, style, services, _published_name),
    ]


def _published_name(field: str) -> str:
    if field == "recipient":  # as the message calls it
        field = "test_recipient"
    return wire_v2.NAMES.get(field) or wire_v1.NAMES.get(field, field)


def _tag(snapshot: Snapshot, version: int) -> str:
    return entity_tag(snapshot.tag, f"-v{version}")


def _get(version: int) -> Handler:
    async def get(call: Call) -> Answer:
        snapshot = await call.services.keeper.snapshot()
        tag = _tag(snapshot, version)
        if none_match(call.request.headers.get("if-none-match"), tag):
            return Answer(304, headers=((b"etag", tag.encode()),))
        return read_answer(snapshot, version)

    return get


def _put(version: int) -> Handler:
    async def put(call: Call) -> Answer:
        pairs = await read_fields(call.request, form=version == 1)
        profile = (await checker(call))(*_PUT_REQUESTS[version](pairs))
        wanted = call.request.headers.get("if-match")
        unwanted = call.request.headers.get("if-none-match")

        def expected(current: Snapshot) -> bool:
            return match(wanted, current.tag) and not none_match(unwanted, _tag(current, version))

        snapshot = await call.services.keeper.replace(profile, by=call.identity.name, expected=expected)
        return read_answer(snapshot, version)

    return put


def _test(version: int) -> Handler:
    async def test(call: Call) -> Answer:
        asked = _TEST_REQUESTS[version](await read_fields(call.request))
        found = [*asked.violations, *address("test_recipient", asked.recipient)]
        if asked.type_number is None and not any(violation.field == "authentication" for violation in found):
            found.append(Violation("authentication", "missing", "{field} is required."))
        profile = (await checker(call))(asked.draft, tuple(found))
        async with call.services.turnstile.turn(call.identity.name, address_of(call.request)):
            await _send_test(call, profile, asked.recipient or "")
        if version == 1:
            return Answer(200, msgspec.json.encode(wire_v1.test_response(profile, asked)), (JSON,))
        return Answer(200, headers=(JSON,))

    return test


async def _send_test(call: Call, profile: SmtpProfile, recipient: str) -> None:
    """Send one message with these settings. Raises TestFailed (contract D8)."""
    from keyrelay.relay.diagnosis import Order

    test = call.services.diagnoses().run(Order(profile, "message", recipient), advise=False)
    report = await while_the_caller_waits(call.request, call.services.figures.test(test))
    if (failed := report.failed) is None or failed.explanation is None:
        return
    raise TestFailed(
        f"The test failed at the stage {failed.stage.stage}. {failed.explanation.sentence}{_said(failed)}",
        remedy=failed.explanation.remedy,
    )


def _said(failed: Finding) -> str:
    """What the other side said, where the sentence does not repeat it already."""
    evidence, explanation = failed.stage.evidence, failed.explanation
    template = "" if explanation is None else explanation.cause.sentence
    if evidence is None:
        return ""
    if evidence.stage == "token":
        detail = "" if "{detail}" in template else evidence.detail
        said = ": ".join(filter(None, (detail, evidence.facts.get("error_description"))))
        return f" The token endpoint said: {_sentence(said)}" if said else ""
    if evidence.reply is None or "{reply}" in template:
        return ""
    return f" The relay said: {_sentence(str(evidence.reply))}"


def _sentence(said: str) -> str:
    return said if said.endswith((".", "!", "?")) else f"{said}."
