"""One message of the outbox: what is known of it, what became of it at each recipient, and what people do to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyrelay.access.permissions import MODIFY_MESSAGES, READ_CONTENT, READ_MESSAGES
from keyrelay.api.answers import Answer
from keyrelay.api.messages import content_of, detail_of
from keyrelay.api.problems import shown
from keyrelay.errors import KeyrelayError, NotNow, UnknownName
from keyrelay.portal.page import Asked, Right
from keyrelay.portal.rendering import problem_of

if TYPE_CHECKING:  # what a start does not need
    from keyrelay.api.message_documents import Document
    from keyrelay.outbox.model import Action
    from keyrelay.outbox.records import Kept

_ON_A_PAGE = 50  # recipients
_LONGEST_NUMBER = 4  # digits


@dataclass(frozen=True, slots=True)
class Offer:
    """Something to do: what the button says, what will happen, and what has happened then."""

    title: str
    will: str
    done: str


OFFERS: Mapping[Action, Offer] = {
    "resend": Offer(
        "Send again",
        "It goes out now to every recipient that has not got it, and its life time begins anew.",
        "It will be sent again.",
    ),
    "release": Offer(
        "Release", "It goes out now, and its life time begins anew.", "Released. It goes out as soon as there is room."
    ),
    "hold": Offer(
        "Hold",
        "It does not go out, and does not expire, until somebody releases or cancels it.",
        "Held. It goes out when somebody releases it.",
    ),
    "cancel": Offer(
        "Cancel",
        "It is taken back from every recipient that still waits for it. What the relay has taken cannot be taken back.",
        "Cancelled for all recipients that still waited.",
    ),
}


@dataclass(frozen=True, slots=True)
class Told:
    """What was said of a recipient in an attempt."""

    attempt: Document
    reply: Document


@dataclass(frozen=True, slots=True)
class Reached:
    """A recipient, and what was said of it, the oldest first."""

    recipient: Document
    told: tuple[Told, ...]


async def _show(asked: Asked, error: KeyrelayError | None = None) -> Answer:
    from keyrelay.api.message_documents import detail_document

    detail = await detail_of(asked.services, asked.request.path_params["id"])
    snapshot = await asked.services.keeper.snapshot()
    document = detail_document(detail, await asked.desk.clock(), snapshot.profile)
    recipients = document["recipients"]
    page, pages = _page(asked, len(recipients))
    some = recipients[(page - 1) * _ON_A_PAGE : page * _ON_A_PAGE]
    code = asked.request.query_params.get("done")
    return await asked.show(
        "message.html",
        status=200 if error is None else shown(error).status,
        problem=None if error is None else problem_of(error),
        done=next((offer.done for action, offer in OFFERS.items() if action == code and error is None), None),
        message=document,
        reached=[Reached(one, _told(document["attempts"], one["address"])) for one in some],
        attempts=detail.kept.attempts,
        page=page,
        pages=pages,
        offers={action: OFFERS[action] for action in offered(detail.kept)},
        may_read=asked.identity.may(READ_CONTENT),
    )


def offered(kept: Kept) -> tuple[Action, ...]:
    """What can be done to a message; nothing while a node has it."""
    from keyrelay.outbox.model import ACTIONS

    if kept.lease is not None:
        return ()
    states = {one.state for one in kept.submission.recipients}
    return tuple(action for action in OFFERS if states & ACTIONS[action][0])


def _told(attempts: list[Document], address: str) -> tuple[Told, ...]:
    return tuple(
        Told(attempt, reply) for attempt in attempts for reply in attempt["replies"] if reply["recipient"] == address
    )


def _page(asked: Asked, recipients: int) -> tuple[int, int]:
    """Which page of the recipients, and of how many."""
    pages = max(-(-recipients // _ON_A_PAGE), 1)
    text = asked.request.query_params.get("page", "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER else 1
    return min(max(number, 1), pages), pages


async def _act(asked: Asked) -> Answer:
    action = next((one for one in OFFERS if one == asked.form.text("action")), None)
    if action is None:
        raise UnknownName("There is no such thing to do here.", remedy="Go back to the message.")
    name = asked.request.path_params["id"]
    try:
        await asked.desk.steering.steer(name, action)
    except NotNow as error:
        return await _show(asked, error)
    return asked.see(f"outbox/{name}", done=action)


async def _content(asked: Asked) -> Answer:
    return await content_of(asked.services, asked.desk, asked.request.path_params["id"])


PAGES = {
    "/outbox/{id}/raw": {"GET": Right(_content, READ_CONTENT)},
    "/outbox/{id}": {"GET": Right(_show, READ_MESSAGES), "POST": Right(_act, MODIFY_MESSAGES)},
}
