"""The message that is taken in without a task, on real connections: nothing is lost or let through on that road."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from keyrelay import log
from keyrelay.api import entrance
from keyrelay.api.quick_submissions import QuickSubmissions
from keyrelay.api.visits import Visits
from keyrelay.errors import StoreUnavailable
from keyrelay.outbox.queue import Queue
from live import ADMIN_PASSWORD, ANONYMOUS, SMTP, V2, Command, LiveServer
from logs import log_as_it_was
from submissions import MESSAGE, MESSAGES, hand_in, idle_desk, number_kept, octets, refused, submission, taken_in
from wire import AUTHORIZATION, connection, head, read_answer, read_answers

KIND = "Content-Type: message/rfc822"
WHOLE = b"Date: Sun, 01 Mar 2026 12:30:05 +0000\r\nMessage-ID: <1@example.org>\r\n" + MESSAGE
PASSWORD = "long enough 1"


@pytest.fixture(scope="module")
def desk(request, tmp_path_factory, sqlite_template) -> Iterator[LiveServer]:
    with idle_desk(request, tmp_path_factory, sqlite_template) as server:
        server.add_user("submitter", PASSWORD, "/messages/submit/")
        server.add_user("in-part", PASSWORD, "/messages/submit/as/ca@example.org/")
        server.add_user("reader", PASSWORD, "/messages/read/")
        taken_in(hand_in(server, MESSAGE))  # only what comes after the first can be quick
        yield server


@pytest.fixture
def roads(monkeypatch) -> list[bool]:
    """For each submission that could be quick by its head and had come as a whole, whether it was."""
    return noted(monkeypatch)


def noted(monkeypatch, cycles: list[Any] | None = None) -> list[bool]:
    """``cycles`` gets what uvicorn keeps of each of them."""
    roads: list[bool] = []
    take = QuickSubmissions.take

    def noting(submissions: QuickSubmissions, cycle: Any) -> bool:
        roads.append(take(submissions, cycle))
        if cycles is not None:
            cycles.append(cycle)
        return roads[-1]

    monkeypatch.setattr(QuickSubmissions, "take", noting)
    return roads


def request(body: bytes = MESSAGE, *headers: str, path: str = MESSAGES, authorization: str = AUTHORIZATION) -> bytes:
    return head("POST", path, authorization, *(headers or (KIND,)), f"Content-Length: {len(body)}") + body


def basic(name: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{name}:{PASSWORD}".encode()).decode()


def answer_to(server: LiveServer, octets_sent: bytes) -> httpx2.Response:
    with connection(server) as opened:
        opened.sendall(octets_sent)
        return read_answer(opened)


def quick_answer(server: LiveServer, roads: list[bool], octets_sent: bytes) -> httpx2.Response:
    """The answer to one that was quick: now and then, one has to wait for what is drawn from a limit, or for a look."""
    for _ in range(20):
        roads.clear()
        answer = answer_to(server, octets_sent)
        if roads == [True]:
            return answer
    pytest.fail("None of twenty was quick.")


def signed_in(server: LiveServer, name: str) -> str:
    """An Authorization header that was checked before."""
    server.get("/api/v1/messages", auth=(name, PASSWORD))
    return basic(name)


# --- What is quick -------------------------------------------------------------------------------------------


def test_a_plain_message_is_quick_and_answered_and_kept_as_any_other(desk, roads):
    quick = quick_answer(desk, roads, request(WHOLE))
    name = taken_in(quick)
    assert octets(desk, name) == WHOLE
    kept = submission(desk, name)
    assert (kept.submitted_by, kept.priority, kept.message_id) == ("admin", 0, "<1@example.org>")
    long = answer_to(desk, request(WHOLE, KIND, "Origin: null", "x-keyfactor-requested-with: x"))
    taken_in(long)
    assert roads == [True, False]
    own = {"date", "location"}
    assert {key: value for key, value in quick.headers.items() if key not in own} == {
        key: value for key, value in long.headers.items() if key not in own
    }


def test_the_envelope_in_the_query_counts(desk, roads):
    query = "?sender=pki@example.org&recipient=a@example.org&recipient=c@example.org&priority=high"
    name = taken_in(quick_answer(desk, roads, request(path=MESSAGES + query)))
    kept = submission(desk, name)
    assert ([one.address for one in kept.recipients], kept.priority) == (["a@example.org", "c@example.org"], 1)


def test_whoever_may_submit_is_quick_under_that_name(desk, roads):
    name = taken_in(quick_answer(desk, roads, request(authorization=signed_in(desk, "submitter"))))
    assert submission(desk, name).submitted_by == "submitter"


def test_many_on_one_connection_are_answered_in_order(desk, roads):
    before = number_kept(desk)
    with connection(desk) as opened:
        for number in range(40):
            opened.sendall(request(WHOLE.replace(b"<1@", b"<%d@" % number)))
            assert read_answer(opened).json()["message_id"] == f"<{number}@example.org>"
        # All at once: the first is quick, and those behind it wait for its answer.
        opened.sendall(b"".join(request(WHOLE.replace(b"<1@", b"<%d@" % number)) for number in range(40)))
        ids = [answer.json()["message_id"] for answer in read_answers(opened, 40)]
    assert ids == [f"<{number}@example.org>" for number in range(40)]
    assert number_kept(desk) == before + 80
    assert roads.count(True) > 20


def test_who_wants_the_connection_closed_gets_the_answer_and_the_end(desk, roads):
    closing = request(MESSAGE, KIND, "Connection: close")
    answer = quick_answer(desk, roads, closing)
    taken_in(answer)
    assert answer.headers["connection"] == "close"
    with connection(desk) as opened:
        opened.sendall(closing)
        read_answer(opened)
        assert opened.recv(1) == b""


def test_a_caller_who_goes_away_has_handed_it_in_all_the_same(desk, roads, eventually):
    before = number_kept(desk)
    for number in range(20):
        with connection(desk) as opened:
            opened.sendall(request())
        eventually(lambda wanted=before + number + 1: number_kept(desk) == wanted)
    assert len(roads) == 20
    assert True in roads


def test_it_is_logged_and_counted_like_any_other(desk, roads):
    logged = io.StringIO()
    with log_as_it_was(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", logged)
        log.start("info", "json")
        logging.getLogger().handlers[:] = logging.getLogger().handlers[-1:]
        taken_in(quick_answer(desk, roads, request()))
        deadline = time.monotonic() + 5
        while '"request"' not in logged.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    line = [json.loads(text) for text in logged.getvalue().splitlines() if '"request"' in text][-1]
    assert (line["route"], line["method"], line["status"], line["user"]) == (MESSAGES, "POST", 202, "admin")
    assert len(line["request_id"]) == 16

    def number() -> float:
        lines = [
            line for line in desk.get("/metrics").text.splitlines() if line.startswith("keyrelay_http_requests_total")
        ]
        (ours,) = [line for line in lines if f'"{MESSAGES}"' in line and '"POST"' in line and '"2xx"' in line]
        return float(ours.split()[-1])

    before = number()
    taken_in(answer_to(desk, request()))
    assert number() == before + 1


def test_what_was_answered_survives_a_kill_in_the_midst_of_many(tmp_path):
    data = tmp_path / "data"
    environment = {"KEYRELAY_DATA_DIR": str(data), "KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD, "KEYRELAY_WORKER": "no"}
    command = Command.serve(environment)
    administrator = ("admin", ADMIN_PASSWORD)
    httpx2.put(command.url + SMTP, json=ANONYMOUS, headers=V2, auth=administrator, timeout=30).raise_for_status()

    def client(_: int) -> set[str]:
        answered: set[str] = set()
        with connection(command) as opened, contextlib.suppress(OSError, IndexError, KeyError):  # until it is killed
            while True:
                opened.sendall(request())
                answered.add(taken_in(read_answer(opened)))
        return answered

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, number) for number in range(8)]
        time.sleep(1)
        command.kill()
        answered = set().union(*(one.result() for one in clients))
    with contextlib.closing(sqlite3.connect(data / "keyrelay.db")) as database:
        rows = database.execute("SELECT m.id FROM message m JOIN message_content c ON c.message = m.id")
        kept = {row[0] for row in rows}
    assert len(answered) > 100
    assert answered <= kept
    assert len(kept) <= len(answered) + len(clients)  # those that were not answered any more


# --- What is not ---------------------------------------------------------------------------------------------


def test_the_first_message_of_a_process_takes_the_long_road(sqlite_settings, start, monkeypatch):
    server = start(replace(sqlite_settings, worker=False))
    server.put_v2(ANONYMOUS).raise_for_status()
    roads = noted(monkeypatch)
    taken_in(answer_to(server, request()))
    assert roads == []
    taken_in(quick_answer(server, roads, request()))


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ((KIND, "Idempotency-Key: one"), 202, None),
        ((KIND, "Content-Type: message/rfc822"), 202, None),
        (("Content-Type: message/rfc822; charset=us-ascii",), 202, None),
        ((KIND, "Content-Encoding: gzip"), 415, "unsupported_media_type"),
        ((KIND, "Origin: https://evil.example"), 400, "header_required"),
        (("Content-Type: text/plain",), 415, "unsupported_media_type"),
        (("Content-Type: application/json",), 400, "malformed_body"),
    ],
)
def test_what_asks_for_more_takes_the_long_road(desk, roads, headers, status, code):
    answer = answer_to(desk, request(MESSAGE, *headers))
    assert answer.status_code == status, answer.text
    assert answer.json().get("code") == code
    assert roads == [False]


@pytest.mark.parametrize(
    ("body", "path", "field"),
    [
        (b"To: ops@example.org\r\nSubject: x\n\r\n\r\nx\r\n", MESSAGES, "message"),
        (b"Subject: x\r\n\r\nx\r\n", MESSAGES, "recipients"),
        (b"From: x@evil.example\r\nTo: ops@example.org\r\n\r\nx\r\n", MESSAGES, "from"),
        (MESSAGE, MESSAGES + "?colour=blue", "colour"),
        (MESSAGE, MESSAGES + "?priority=high&priority=low", "priority"),
    ],
)
def test_what_is_wrong_is_told_as_on_the_long_road_and_nothing_is_kept(desk, roads, body, path, field):
    before = number_kept(desk)
    answer = answer_to(desk, request(body, path=path, authorization=signed_in(desk, "submitter")))
    if field == "from":
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_missing")
    else:
        refused(answer, 400, "bad_input", field)
    assert (roads, number_kept(desk)) == ([False], before)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("X-Nobody: 1", 401),
        ("Authorization: Basic " + base64.b64encode(f"admin:{ADMIN_PASSWORD}x".encode()).decode(), 401),
        ("in-part", 403),
        ("reader", 403),
    ],
)
def test_whoever_may_not_is_refused(desk, roads, authorization, status):
    before = number_kept(desk)
    known = authorization if ":" in authorization else signed_in(desk, authorization)
    assert answer_to(desk, request(authorization=known)).status_code == status
    assert (roads, number_kept(desk)) == ([False], before)


def test_a_user_who_is_taken_away_is_gone_at_once(desk, roads):
    desk.add_user("leaver", PASSWORD, "/messages/submit/")
    known = signed_in(desk, "leaver")
    taken_in(quick_answer(desk, roads, request(authorization=known)))
    desk.run(lambda node: node.access.remove_user("leaver"))
    assert answer_to(desk, request(authorization=known)).status_code == 401
    assert roads == [True, False]


def test_a_body_that_comes_in_pieces_takes_the_long_road(desk, roads):
    whole = request(WHOLE)
    with connection(desk) as opened:
        for piece in (whole[:-30], whole[-30:-10], whole[-10:]):
            opened.sendall(piece)
            time.sleep(0.05)
        name = taken_in(read_answer(opened))
        assert octets(desk, name) == WHOLE
    assert roads == []


def test_a_body_that_is_waited_for_with_100_continue_comes(desk, roads):
    whole = request(WHOLE, KIND, "Expect: 100-continue")
    with connection(desk) as opened:
        opened.sendall(whole[: -len(WHOLE)])
        assert opened.recv(100).startswith(b"HTTP/1.1 100 ")
        opened.sendall(WHOLE)
        taken_in(read_answer(opened))
    assert roads == []


def test_limits_hold_on_both_roads_together(sqlite_settings, start, monkeypatch):
    server = start(replace(sqlite_settings, worker=False, submissions_per_minute=30))
    server.put_v2(ANONYMOUS).raise_for_status()
    taken_in(hand_in(server, MESSAGE))
    roads = noted(monkeypatch)
    answers = [answer_to(server, request()) for _ in range(40)]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [202] * 29 + [429] * 11
    assert number_kept(server) == 30
    assert len(roads) == 40
    assert all("retry-after" in answer.headers for answer in answers[29:])


def test_a_store_that_fails_is_told_as_on_the_long_road(desk, roads, monkeypatch):
    async def failing(queue: Queue, group: Any) -> Any:
        raise StoreUnavailable("The database file cannot be used: it is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(Queue, "_commit", failing)
        refused(quick_answer(desk, roads, request()), 503, "store_unavailable")
    taken_in(quick_answer(desk, roads, request()))


def test_what_nobody_foresaw_is_one_clear_answer(desk, roads, monkeypatch):
    async def failing(queue: Queue, group: Any) -> Any:
        raise RuntimeError("canary")

    monkeypatch.setattr(Queue, "_commit", failing)
    answer = quick_answer(desk, roads, request())
    assert "canary" not in answer.text
    refused(answer, 500, "unexpected")


def test_what_nobody_foresaw_before_it_is_taken_in_is_no_word_about_http(desk, roads, monkeypatch):
    def failing(*_: Any) -> Any:
        raise RuntimeError("canary")

    before = number_kept(desk)
    monkeypatch.setattr(entrance, "from_rfc822", failing)
    refused(answer_to(desk, request()), 500, "unexpected")
    assert (roads, number_kept(desk)) == ([False], before)


def test_what_garbage_follows_is_kept_and_counted_and_nothing_of_it_is_printed(desk, roads, monkeypatch, eventually):
    """The connection is closed for what comes behind it, while it is being committed."""
    said: list[Any] = []
    ended: list[str] = []
    end = Visits.end

    def noting(visits: Visits, visit: Any, *more: Any, **how: Any) -> None:
        ended.append(visit.route)
        end(visits, visit, *more, **how)

    monkeypatch.setattr(Visits, "end", noting)
    desk._loop.call_soon_threadsafe(desk._loop.set_exception_handler, lambda _, context: said.append(context))
    try:
        for _ in range(20):
            with connection(desk) as opened:
                opened.sendall(request(WHOLE) + request(WHOLE) + b"\0 garbage \r\n\r\n")
                while opened.recv(4096):
                    pass
        eventually(lambda: ended.count(MESSAGES) >= 20)
    finally:
        desk._loop.call_soon_threadsafe(desk._loop.set_exception_handler, None)
    assert True in roads
    assert said == []


def test_a_body_is_not_kept_for_as_long_as_its_connection(desk, monkeypatch):
    cycles: list[Any] = []
    taken_in(quick_answer(desk, noted(monkeypatch, cycles), request(WHOLE)))
    assert cycles[-1].body == b""
    assert not hasattr(cycles[-1].on_response, "__self__")  # or only the collector frees the connection


def test_whoever_is_over_the_limit_has_nothing_read(desk, roads, monkeypatch):
    read: list[bytes] = []
    real = entrance.from_rfc822

    def reading(body: bytes, *more: Any) -> Any:
        read.append(body)
        return real(body, *more)

    monkeypatch.setattr(entrance, "from_rfc822", reading)
    monkeypatch.setattr(type(desk.node._purses), "full", lambda *_: None)
    taken_in(answer_to(desk, request()))
    assert (roads, len(read)) == ([False], 1)  # by the long road
