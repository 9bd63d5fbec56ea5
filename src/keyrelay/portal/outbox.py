"""The outbox: how it stands, what is in it, and what people do to all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any

from keyrelay.access.permissions import MODIFY_MESSAGES, READ_MESSAGES
from keyrelay.amounts import span_text
from keyrelay.api.answers import Answer
from keyrelay.api.conventions import Pairs
from keyrelay.api.moments import point_in_time
from keyrelay.api.operations import while_the_caller_waits
from keyrelay.api.outbox import standing
from keyrelay.api.problems import shown
from keyrelay.errors import BadInput, KeyrelayError, UnknownName
from keyrelay.portal.charts import Chart, Series, chart
from keyrelay.portal.page import Asked, Right
from keyrelay.portal.rendering import problem_of

if TYPE_CHECKING:  # what a start does not need
    from keyrelay.api.message_documents import Document
    from keyrelay.outbox.overview import Overview

_NAMES = {"since": "Since", "until": "Before", "state": "State", "recipient": "Recipient", "after": "The address"}
_TYPED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?", re.ASCII)  # what <input type="datetime-local"> sends
_LONGEST_TYPED = 320  # characters
_LONGEST_COUNT = 9  # digits
_DONE = {
    "paused": "The outbox is paused. What is under way is finished; nothing else goes out until somebody resumes it.",
    "resumed": "The outbox is open.",
}


@dataclass(frozen=True, slots=True)
class Listed:
    """A message in the list."""

    message: Document
    attempts: int
    next_at: str | None
    said: Document | None


@dataclass(frozen=True, slots=True)
class Found:
    """A page of the list. ``query`` finds the same once more, ``further`` and ``first`` lead on and back."""

    query: Mapping[str, str] = field(default_factory=dict)
    rows: tuple[Listed, ...] = ()
    further: str | None = None
    first: bool = True


async def _show(asked: Asked, error: KeyrelayError | None = None) -> Answer:
    """The page; after something that did not work, with what was typed in the form that sent it."""
    from keyrelay.outbox.model import STATES
    from keyrelay.outbox.pressure import REASONS

    found, wrong = await _search(asked)
    told = error or wrong
    overview, document = await standing(asked.services, asked.desk)
    return await asked.show(
        "outbox.html",
        status=200 if told is None else shown(told).status,
        problem=None if told is None else problem_of(told, _NAMES),
        done=_done(asked) if told is None else None,
        resending=error is not None and asked.form.has("since"),
        states=STATES,
        reasons=REASONS,
        outbox=document,
        waits=None if document["oldest"] is None else span_text(document["oldest"]["seconds"]),
        limits=[{**limit, "within": span_text(limit["seconds"])} for limit in document["limits"]],
        charts=charts(overview),
        found=found,
        typed=_typed(asked, found),
    )


# --- How it stands -------------------------------------------------------------------------------------------


def charts(overview: Overview) -> tuple[Chart, ...]:
    """What was handed in and what became of it, and how much was left, minute by minute."""
    from keyrelay.outbox.backlog import backlog

    minutes = [minute.at for minute in overview.series]

    def sums(name: str, *happenings: str) -> Series:
        return Series(name, tuple(sum(one.amounts[what] for what in happenings) for one in overview.series))

    happened = (
        sums("handed in", "submitted"),
        sums("accepted", "accepted"),
        sums("refused or expired", "refused", "expired"),
        sums("deferred or outcome unknown", "deferred", "outcome_unknown"),
    )
    left = Series("not over yet", backlog(overview.counts, overview.series))
    return (
        chart("throughput", "What happened in the last hour", "messages a minute", minutes, happened),
        chart("backlog", "What was left to do in the last hour", "messages", minutes, (left,)),
    )


# --- What is in it -------------------------------------------------------------------------------------------


async def _search(asked: Asked) -> tuple[Found, BadInput | None]:
    """What the query asks for; nothing, and what is wrong with it, when it cannot be understood."""
    from keyrelay.api.message_documents import message_document
    from keyrelay.api.message_filters import Filters
    from keyrelay.outbox import listing

    given = [(name, utc(value)) for name, value in asked.request.query_params.multi_items() if name in _NAMES and value]
    try:
        filters = Filters(given)
    except BadInput as error:
        return Found(), error
    page = await listing.find(asked.services.store, filters.search, after=filters.after, limit=filters.limit)
    clock, profile = await asked.desk.clock(), (await asked.services.keeper.snapshot()).profile
    rows = tuple(_listed(message_document(kept, clock, profile), kept.attempts) for kept in page.submissions)
    query = {name: value for name, value in given if name not in {"state", "after"}}
    states = ",".join(sorted(filters.search.states))
    return Found(query | ({"state": states} if states else {}), rows, page.next, filters.after is None), None


def _listed(message: Document, attempts: int) -> Listed:
    recipients = message["recipients"]
    times = sorted(one["next_attempt_at"] for one in recipients if one["next_attempt_at"] is not None)
    telling = (one["reply"] for one in recipients if one["state"] == message["state"] != "accepted" and one["reply"])
    return Listed(message, attempts, times[0] if times else None, next(telling, None))


def _typed(asked: Asked, found: Found) -> dict[str, Any]:
    """What stands in the forms."""
    query = asked.request.query_params
    states = {state for value in query.getlist("state") for state in value.split(",")}
    return {
        "recipient": query.get("recipient", "")[:_LONGEST_TYPED],
        "since": typed_time(query.get("since", "")),
        "until": typed_time(query.get("until", "")),
        "states": states,
        "again_since": typed_time(asked.form.text("since")),
        "again": asked.form.all("states") if asked.form.has("since") else ("refused", "expired"),
        "filtered": bool(found.query),
    }


def utc(text: str) -> str:
    """A time as a form has it, which is meant in UTC, as the API takes it. Anything else stays what it is."""
    if _TYPED.fullmatch(text):
        return (text if text.count(":") > 1 else text + ":00") + "Z"
    return text


def typed_time(text: str) -> str:
    """The other way round; "" for what is no time."""
    moment = point_in_time(utc(text[:_LONGEST_TYPED]))
    if moment is None:
        return ""
    try:
        told = moment.astimezone(UTC).isoformat(timespec="seconds")
    except OverflowError:  # in the first and the last hours that there are, it may be none in UTC
        return ""
    return told.removesuffix("+00:00").removesuffix(":00")


# --- What people do to it ------------------------------------------------------------------------------------


async def _act(asked: Asked) -> Answer:
    """Pause, resume, or send those again that failed."""
    act = {"pause": _pause, "resume": _resume, "resend": _resend}.get(asked.form.text("action"))
    if act is None:
        raise UnknownName("There is no such thing to do here.", remedy="Go back to the outbox.")
    try:
        return await act(asked)
    except BadInput as error:
        return await _show(asked, error)


async def _pause(asked: Asked) -> Answer:
    await asked.desk.steering.pause()
    return asked.see("outbox", done="paused")


async def _resume(asked: Asked) -> Answer:
    await asked.desk.steering.resume()
    return asked.see("outbox", done="resumed")


async def _resend(asked: Asked) -> Answer:
    from keyrelay.api.message_filters import read_resend

    typed = Pairs((("since", utc(asked.form.text("since"))), ("states", list(asked.form.all("states")))))
    since, states = read_resend(typed)
    work = asked.desk.steering.resend_failed(since, states)
    resent = await while_the_caller_waits(asked.request, work)
    return asked.see("outbox", done="resent", messages=str(resent.messages), gone=str(resent.gone))


def _done(asked: Asked) -> str | None:
    query = asked.request.query_params
    code = query.get("done", "")
    if code == "resent":
        messages, gone = _count(query.get("messages", "")), _count(query.get("gone", ""))
        told = f"Sent again: {messages:,}."
        return f"{told} Not kept any more, and so left as they are: {gone:,}." if gone else told
    return _DONE.get(code)


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_COUNT else 0


PAGES = {"/outbox": {"GET": Right(_show, READ_MESSAGES), "POST": Right(_act, MODIFY_MESSAGES)}}
