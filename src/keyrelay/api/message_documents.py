"""Messages and the outbox as our API shows them. Every time is one of the wall clock, in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from keyrelay.outbox.explaining import explained, explained_words
from keyrelay.outbox.listing import Detail, Page
from keyrelay.outbox.model import Attempt, Recipient, Said
from keyrelay.outbox.overview import Minute, NodeAlive, Overview, Used
from keyrelay.outbox.pressure import Pressure
from keyrelay.outbox.queue import PRIORITIES
from keyrelay.outbox.records import Kept
from keyrelay.outbox.schedule import OutboxClock
from keyrelay.profile.model import SmtpProfile
from keyrelay.relay.causes import Explanation

_HALF_A_SECOND = timedelta(milliseconds=500)

Document = dict[str, Any]

_PRIORITY_NAMES: Mapping[int, str] = {number: name for name, number in PRIORITIES.items()}


def page_document(page: Page, clock: OutboxClock, profile: SmtpProfile | None) -> Document:
    return {"messages": [message_document(kept, clock, profile) for kept in page.submissions], "next": page.next}


def message_document(kept: Kept, clock: OutboxClock, profile: SmtpProfile | None) -> Document:
    """``profile``: that of the relay that the explanations speak of."""
    submission = kept.shown
    return {
        "id": submission.id,
        "message_id": submission.message_id,
        "state": submission.state,
        "sender": submission.sender,
        "submitted_by": submission.submitted_by,
        "submitted_at": instant(submission.submitted_at),
        "size": submission.size,
        "priority": _PRIORITY_NAMES.get(submission.priority, "normal"),
        "send_after": instant(submission.send_after),
        "recipients": [_recipient(one, submission.sender, clock, profile) for one in submission.recipients],
    }


def detail_document(detail: Detail, clock: OutboxClock, profile: SmtpProfile | None) -> Document:
    document = message_document(detail.kept, clock, profile)
    return document | {"attempts": [_attempt(attempt) for attempt in detail.attempts]}


def overview_document(found: Overview, most_octets: int, profile: SmtpProfile | None) -> Document:
    return {
        "at": instant(found.at),
        "counts": dict(found.counts),
        "octets": found.octets,
        "most_octets": most_octets,
        "oldest": None
        if found.oldest is None
        else {
            "id": found.oldest.id,
            "since": instant(found.oldest.since),
            "seconds": round(max((found.at - found.oldest.since).total_seconds(), 0.0), 3),
        },
        "rates": dict(found.rates),
        "pressure": pressure_document(found.pressure, profile),
        "limits": [_limit(used) for used in found.limits],
        "connections": {"used": found.connections, "most": found.most_connections},
        "nodes": [_node(node) for node in found.nodes],
        "series": [_minute(minute) for minute in found.series],
    }


def pressure_document(pressure: Pressure, profile: SmtpProfile | None) -> Document:
    """``pressure`` has times of the wall clock."""
    said = pressure.said if pressure.mode != "open" else None
    cause = None
    if said is not None and profile is not None and pressure.why != "operator":
        cause = explained_words(said, None, profile.sender_account, profile)
    return {
        "mode": pressure.mode,
        "why": pressure.why,
        "since": about(pressure.since),
        "next_trial_at": about(pressure.trial_at),
        "reply": _said(said),
        "cause": _cause(cause),
    }


def instant(moment: datetime | None) -> str | None:
    """A time as it is shown (RFC 3339), down to milliseconds."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def about(moment: datetime | None) -> str | None:
    """A time that was kept as outbox time: from one look to the next, it may be another by a millisecond."""
    if moment is None:
        return None
    return instant((moment + _HALF_A_SECOND).replace(microsecond=0))


def _recipient(one: Recipient, sender: str, clock: OutboxClock, profile: SmtpProfile | None) -> Document:
    return {
        "address": one.address,
        "state": one.state,
        "tries": one.tries,
        "unknown": one.unknown,
        "next_attempt_at": None if one.next_at is None else about(clock.to_wall(one.next_at)),
        "expires_at": about(clock.to_wall(one.expires_at)),
        "reply": _said(one.said),
        "cause": _cause(explained(one, sender, profile)),
    }


def _attempt(attempt: Attempt) -> Document:
    return {
        "number": attempt.number,
        "node": attempt.node,
        "started_at": instant(attempt.started_at),
        "ended_at": instant(attempt.ended_at),
        "replies": [{"recipient": address, **_words(said)} for address, said in attempt.said],
    }


def _said(said: Said | None) -> Document | None:
    return None if said is None else _words(said)


def _words(said: Said) -> Document:
    return {
        "stage": said.stage,
        "kind": said.kind,
        "code": said.code,
        "enhanced": said.enhanced,
        "text": said.text,
    }


def _cause(explanation: Explanation | None) -> Document | None:
    if explanation is None:
        return None
    cause = explanation.cause
    return {
        "id": cause.id,
        "sentence": explanation.sentence,
        "remedy": explanation.remedy,
        "retry": cause.retry,
        "more": cause.more,
    }


def _limit(used: Used) -> Document:
    limit = used.limit
    return {
        "counted": limit.counted,
        "seconds": limit.window.total_seconds(),
        "most": limit.most,
        "used": used.used,
    }


def _node(node: NodeAlive) -> Document:
    return {
        "name": node.name,
        "version": node.version,
        "works": node.works,
        "started_at": instant(node.started_at),
        "seen_at": about(node.seen_at),
        "connections": node.connections,
        "messages": node.in_hand.messages,
        "recipients": node.in_hand.recipients,
    }


def _minute(minute: Minute) -> Document:
    return {"at": instant(minute.at), **minute.amounts}
