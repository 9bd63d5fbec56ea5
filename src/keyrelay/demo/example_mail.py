"""The messages of a demo, handed in over HTTP as applications do it."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from keyrelay.demo.catcher import LOST
from keyrelay.errors import Unsuitable
from keyrelay.network.exchange import HttpRequest, exchange
from keyrelay.secrets.model import SecretText

_ACCEPTED = 202
_SECONDS = 30.0
_LONGEST = 4096  # octets of an answer
_TEAMS = ("web", "mail", "vpn", "build", "printing", "directory")
_DUE = (60, 30, 14, 7)


def messages(now: datetime) -> Iterator[dict[str, Any]]:
    """A few dozen: most are accepted, some refused, deferred or held, one partly refused and one not due yet."""
    for team in _TEAMS:
        for days in _DUE:
            yield _message(
                f"{team}@customers.example",
                f"Certificate of {team} ends in {days} days",
                f"The certificate CN={team}.demo.example ends in {days} days.\nRenew it, or say that it is not needed.",
            )
    yield _message("joe@refused.example", "Your certificate request was approved", "It can be fetched now.")
    yield _message("ann@blocked.example", "Monthly report", "42 certificates were issued.")
    for name in ("kim", "lee"):
        yield _message(f"{name}@full.example", "A certificate was revoked", "Its key was lost.")
    yield _message("ops@busy.example", "The CA is backed up", "All is well.")
    yield _message(f"eve@{LOST}", "A key was recovered", "This is a copy for the archive.")
    yield _message(
        ["ops@customers.example", "former.colleague@refused.example"],
        "Key ceremony on Monday",
        "Bring your smart card.",
    )
    yield _message(
        "managers@customers.example", "Yearly report", "To be sent later.", send_after=_instant(now + timedelta(days=1))
    )
    yield _message(
        "ops@customers.example",
        "A report as HTML",
        "The same as plain text.",
        html="<h1>Report</h1><p>42 certificates were issued.</p>",
    )


async def hand_in(url: str, user: str, password: SecretText) -> None:
    """Hand all of them in. Raises Unsuitable when one is not taken, or NoAnswer."""
    credentials = base64.b64encode(f"{user}:{password.reveal()}".encode()).decode()
    headers = (("authorization", f"Basic {credentials}"), ("content-type", "application/json"))
    context = ssl.create_default_context()
    for message in messages(datetime.now(UTC)):
        request = HttpRequest("POST", f"{url}/api/v1/messages", headers, json.dumps(message).encode())
        answer = await exchange(request, context, within=_SECONDS, limit=_LONGEST)
        if answer.status != _ACCEPTED:
            raise Unsuitable(f"An example message was not taken: status {answer.status}.", remedy="Please report it.")


def _message(to: str | list[str], subject: str, text: str, **more: Any) -> dict[str, Any]:
    return {"to": to, "subject": subject, "text": text, **more}


def _instant(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")
