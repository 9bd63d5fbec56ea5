"""What tests share that hand messages in over HTTP: the request, and what is kept of it."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import httpx2

from complaints import complaint
from keyrelay.outbox import content
from keyrelay.outbox.model import Submission
from keyrelay.outbox.records import COLUMNS, read
from live import ANONYMOUS, LiveServer, settings_for

MESSAGES = "/api/v1/messages"
RFC822 = {"content-type": "message/rfc822"}
JSON: dict[str, Any] = {"to": "ops@example.org", "subject": "Renewed", "text": "The certificate was renewed.\n"}
MESSAGE = b"From: PKI <pki@example.org>\r\nTo: ops@example.org\r\nSubject: Renewed\r\n\r\nIt was renewed.\r\n"


@contextmanager
def idle_desk(request, tmp_path_factory, sqlite_template, **chosen: Any) -> Iterator[LiveServer]:
    """A server with a profile, that takes in and sends nothing."""
    settings = settings_for("sqlite", request, tmp_path_factory.mktemp("desk"), sqlite_template)
    server = LiveServer.start(replace(settings, worker=False, **chosen))
    server.put_v2(ANONYMOUS).raise_for_status()
    yield server
    server.stop()


def hand_in(server: LiveServer, body: Mapping[str, Any] | bytes = JSON, **more: Any) -> httpx2.Response:
    """A dictionary as JSON, octets as a message."""
    headers = more.pop("headers", {})
    if isinstance(body, bytes):
        return server.post(MESSAGES, content=body, headers=RFC822 | headers, **more)
    return server.post(MESSAGES, json=body, headers=headers, **more)


def taken_in(answer: httpx2.Response) -> str:
    """Check the one shape of a 202, and give the id."""
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert list(body) == ["id", "state", "message_id"]
    assert body["state"] == "queued"
    assert answer.headers["location"] == f"{MESSAGES}/{body['id']}"
    assert answer.headers["cache-control"] == "no-store"
    return body["id"]


def keyed(key: str) -> dict[str, dict[str, str]]:
    """What makes a request one with this key."""
    return {"headers": {"idempotency-key": key}}


def refused(answer: httpx2.Response, status: int, code: str, *fields: str) -> str:
    """Check that it is one clear refusal, about these fields, and give what it says."""
    said = complaint(answer, status)
    body = answer.json()
    assert body["code"] == code
    assert [error["field"] for error in body.get("errors", [])] == list(fields), body
    return f"{said} {body['remedy']}"


def number_kept(server: LiveServer) -> int:
    return int(server.run(lambda node: node.store.rows("SELECT COUNT(*) FROM message"))[0][0])


def submission(server: LiveServer, name: str) -> Submission:
    (row,) = server.run(lambda node: node.store.rows(f"SELECT {COLUMNS} FROM message WHERE id = $1", name))
    return read(row).submission


def octets(server: LiveServer, name: str) -> bytes:
    """The content as it is kept."""
    return bytes(server.run(lambda node: content.reveal(node.store, node.keyring, name)))


def parsed(server: LiveServer, name: str) -> EmailMessage:
    message = email.message_from_bytes(octets(server, name), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def told(server: LiveServer, name: str) -> tuple[str, ...]:
    """The recipients in the envelope."""
    return tuple(one.address for one in submission(server, name).recipients)
