"""What every refusal has to look like, and that it changed nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from live import SMTP, V1, V2, LiveServer

OWN = "/api/v1/profile"
# Beyond this, an answer is not for a person any more.
LONGEST = 64 * 1024
_INNARDS = re.compile(r'Traceback|File "|\.py\b|line \d+, in |<class|object at 0x|Error\(')


def complaint(response: httpx2.Response, *statuses: int) -> str:
    """Check the one shape of an error answer, and give what it says to a person, without the request id."""
    expected = statuses or range(400, 500)
    assert response.status_code in expected, f"{response.status_code}: {response.text[:500]}"
    assert len(response.content) <= LONGEST, f"the answer has {len(response.content)} bytes"
    assert not _INNARDS.search(response.text), response.text[:500]
    body = response.json()
    number = response.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", number)
    if response.headers["content-type"] == "application/problem+json":
        assert {"type", "title", "status", "detail", "code", "remedy"} <= set(body)
        assert body["status"] == response.status_code
        assert body["request_id"] == number
        return str(body["detail"])
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert list(body) == ["ErrorCode", "Message"]
    assert re.fullmatch(r"0x[0-9A-F]{8}", body["ErrorCode"])
    assert isinstance(body["Message"], str)
    assert body["Message"].count(f" Request id {number}.") == 1
    return body["Message"].replace(f" Request id {number}.", "")


def without_id(response: httpx2.Response) -> str:
    """What an error answer says, less what differs from request to request."""
    return response.text.replace(response.headers["x-request-id"], "ID")


def state(server: LiveServer) -> list[Any]:
    """Everything that a change of the profile would show in."""
    answers = [server.get(SMTP, headers=V1), server.get(SMTP, headers=V2), server.get(OWN)]
    shown = [(answer.status_code, answer.content, answer.headers["etag"]) for answer in answers]
    history = server.run(lambda node: node.keeper.history(limit=10_000))
    return [*shown, [entry.revision for entry in history]]


@contextmanager
def nothing_changes(server: LiveServer) -> Iterator[None]:
    before = state(server)
    yield
    assert state(server) == before
