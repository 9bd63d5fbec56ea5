"""``GET /api/v1/events``: what becomes of messages, as server-sent events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from complaints import complaint
from keyrelay.api import outbox as operations
from keyrelay.outbox import events
from live import ANONYMOUS, LiveServer
from submissions import MESSAGES, hand_in, taken_in

EVENTS = "/api/v1/events"
_FIELD = re.compile(r"(?m)^(\w*): ?(.*)$")


class Stream:
    """What one client hears."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.answer = answer
        self._lines = answer.iter_lines()

    def blocks(self) -> Iterator[dict[str, str]]:
        """The fields of each event; of a comment, one with an empty name."""
        lines: list[str] = []
        for line in self._lines:
            if line:
                lines.append(line)
            else:
                yield dict(_FIELD.findall("\n".join(lines)))
                lines = []

    def take(self, number: int) -> list[dict[str, str]]:
        """So many events that are no comment."""
        found: list[dict[str, str]] = []
        for block in self.blocks():
            if "event" in block:
                found.append(block)
            if len(found) == number:
                break
        return found


@contextmanager
def listening(server: LiveServer, **headers: str) -> Iterator[Stream]:
    request = {"auth": server.auth, "timeout": 20, "headers": headers}
    with httpx2.stream("GET", server.url + EVENTS, **request) as answer:
        assert answer.status_code == 200
        stream = Stream(answer)
        assert next(stream.blocks()) == {"retry": "2000"}
        yield stream


def told(found: list[dict[str, str]]) -> list[tuple[str, str]]:
    data = [json.loads(block["data"]) for block in found]
    return [(each["id"], each["state"]) for each in data]


@pytest.fixture
def idle(fresh_settings, start) -> LiveServer:
    server = start(replace(fresh_settings, worker=False))
    server.put_v2(ANONYMOUS).raise_for_status()
    return server


def test_a_message_is_followed_from_its_beginning_to_its_end(server, relay):
    taking = relay()
    server.put_v2(ANONYMOUS | {"Host": "localhost", "Port": taking.port}).raise_for_status()
    with listening(server) as stream:
        assert stream.answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.answer.headers["cache-control"] == "no-store"
        name = taken_in(hand_in(server))
        found = stream.take(3)
    assert told(found) == [(name, state) for state in ("queued", "sending", "accepted")]
    assert {block["event"] for block in found} == {"message"}
    assert set(json.loads(found[0]["data"])) == {"id", "state", "at"}
    assert all(json.loads(block["data"])["at"].endswith("Z") for block in found)


def test_who_was_cut_off_goes_on_where_it_stopped(idle):
    with listening(idle) as stream:
        names = [taken_in(hand_in(idle)) for _ in range(3)]
        found = stream.take(3)
    names.append(taken_in(hand_in(idle)))
    with listening(idle, **{"last-event-id": found[0]["id"]}) as stream:
        assert told(stream.take(3)) == [(name, "queued") for name in names[1:]]


def test_who_comes_back_too_late_is_told_to_read_the_list_anew(idle):
    with listening(idle, **{"last-event-id": "long-ago"}) as stream:
        (lost,) = stream.take(1)
        assert (lost["event"], lost["data"]) == ("lost", "{}")
        name = taken_in(hand_in(idle))
        assert told(stream.take(1)) == [(name, "queued")]


def test_steering_is_heard_of(idle):
    name = taken_in(hand_in(idle))
    with listening(idle) as stream:
        idle.post(f"{MESSAGES}/{name}/cancel").raise_for_status()
        assert told(stream.take(1)) == [(name, "cancelled")]


def test_a_comment_shows_that_the_server_is_there_when_nothing_happens(idle, monkeypatch):
    monkeypatch.setattr(operations, "_ALIVE_SECONDS", 0.05)
    with listening(idle) as stream:
        blocks = stream.blocks()
        assert [next(blocks) for _ in range(3)] == [{"": "still here"}] * 3


def test_a_stream_ends_after_a_while_so_that_the_caller_is_asked_again_who_it_is(idle, monkeypatch):
    monkeypatch.setattr(operations, "_LONGEST_SECONDS", 0.2)
    monkeypatch.setattr(operations, "_ALIVE_SECONDS", 0.05)
    with listening(idle) as stream:
        assert len(list(stream.blocks())) < 100


def test_no_more_listen_than_there_is_room_for_and_who_goes_away_makes_room(idle, monkeypatch, eventually):
    monkeypatch.setattr(events, "_MOST_LISTENERS", 2)
    with listening(idle), listening(idle):
        answer = idle.get(EVENTS)
        complaint(answer, 429)
        assert answer.json()["code"] == "too_many_listeners"
        assert int(answer.headers["retry-after"]) > 0

    def room_again() -> Any:
        try:
            with listening(idle), listening(idle):
                return True
        except AssertionError:
            return False

    eventually(room_again)


def test_who_may_not_read_messages_may_not_listen(idle):
    idle.add_user("stranger", "long enough 1", "/messages/modify/")
    answer = httpx2.get(idle.url + EVENTS, auth=("stranger", "long enough 1"))
    complaint(answer, 403)
