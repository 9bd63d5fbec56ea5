"""The page that tests settings, those that are kept or those in a form, and shows the report as it comes about."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from keyrelay.access.permissions import MODIFY_SETTINGS, READ_SETTINGS
from keyrelay.api.answers import Answer, Events, Header
from keyrelay.api.diagnoses import EVENT_STREAM
from keyrelay.api.diagnosing import order_of, tested, told
from keyrelay.api.problems import shown
from keyrelay.errors import BadInput, KeyrelayError, NoProfile, TooManyTests
from keyrelay.portal import diagnosis_shown, smtp_form
from keyrelay.portal.forms import Form
from keyrelay.portal.page import Asked, Right
from keyrelay.portal.rendering import parts, problem_of

if TYPE_CHECKING:
    from keyrelay.relay.diagnosis import Finding, Order, Report

_NAMES = smtp_form.NAMES | {"mode": "How far the test goes", "recipient": "Recipient"}
_UNBUFFERED: Header = (b"x-accel-buffering", b"no")  # a proxy (nginx) is to pass each stage on at once


@dataclass(frozen=True, slots=True)
class Choice:
    """What the fields of ``test_fields.html`` hold. ``sender``: whom a message would be from, where that is known.

    ``given``: whether what is tested are the settings of the form that the fields stand in.
    """

    mode: str
    recipient: str
    sender: str | None
    given: bool = False

    @classmethod
    def offered(cls, sender: str | None, *, given: bool = False) -> Choice:
        """Before anybody has chosen: mail nobody, and if somebody then the sender."""
        return cls("connect", sender or "", sender, given)

    def made(self, form: Form) -> Choice:
        """As a form has it."""
        given = form.text("settings") == "given"
        return replace(self, mode=form.text("test_mode"), recipient=form.text("test_recipient"), given=given)


async def _offered(asked: Asked) -> tuple[Choice, str]:
    """The choice before anybody has made it, and where mail goes; "" when nothing is configured."""
    profile = (await asked.services.keeper.snapshot()).profile
    if profile is None or not asked.identity.may(READ_SETTINGS):
        return Choice.offered(None), "" if profile is None else "the relay that is configured"
    return Choice.offered(profile.sender_account), f"{profile.host}, port {profile.port}"


async def _show(asked: Asked) -> Answer:
    choice, place = await _offered(asked)
    return await asked.show("test.html", test=choice, place=place, report=None)


async def _run(asked: Asked) -> Answer:
    offered, place = await _offered(asked)
    choice = offered.made(asked.form)
    try:
        order = await _order(asked, choice)
        if "text/event-stream" in asked.request.headers.get("accept", ""):
            events = await told(asked, order, await _pieces(asked, choice))
            return Events(200, headers=(EVENT_STREAM, _UNBUFFERED), events=events)
        report = diagnosis_shown.report_of(await tested(asked, order), given=choice.given)
    except (BadInput, NoProfile, TooManyTests) as error:
        page = await asked.show(
            "test.html",
            status=shown(error).status,
            problem=problem_of(error, _NAMES),
            test=choice,
            place=place,
            report=None,
        )
        return page.with_headers(*_wait(error))
    return await asked.show("test.html", test=choice, place=place, report=report)


async def _order(asked: Asked, choice: Choice) -> Order:
    """Raises BadInput, NoProfile or PermissionMissing."""
    recipient = None if choice.mode == "connect" else choice.recipient
    # What was typed as a secret goes into the test, and nowhere else.
    given = smtp_form.given(asked.form) if choice.given else None
    return await order_of(asked, choice.mode, recipient, given)


async def _pieces(asked: Asked, choice: Choice) -> Callable[[Finding | Report | KeyrelayError], bytes]:
    """What writes events: a piece of the page, and what is said of it."""
    from keyrelay.relay.diagnosis import Finding

    part = await parts(asked.rendering)

    def event(news: Finding | Report | KeyrelayError) -> bytes:
        if isinstance(news, KeyrelayError):
            return _event("problem", part("problem.html", problem=problem_of(news, _NAMES)), news.message)
        if isinstance(news, Finding):
            stage = diagnosis_shown.stage_of(news)
            return _event("stage", part("test_stage.html", stage=stage), stage.said)
        report = diagnosis_shown.report_of(news, given=choice.given)
        return _event("report", part("test_report.html", report=report), report.said)

    return event


def _event(name: str, html: str, said: str) -> bytes:
    data = json.dumps({"html": html, "said": said}, ensure_ascii=False).encode("utf-8", "replace")
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


def _wait(error: KeyrelayError) -> tuple[Header, ...]:
    return ((b"retry-after", str(error.retry_after).encode()),) if isinstance(error, TooManyTests) else ()


PAGES = {"/test": {"GET": Right(_show, MODIFY_SETTINGS), "POST": Right(_run, MODIFY_SETTINGS)}}
