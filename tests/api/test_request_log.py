"""One line of the log for each request that changes something or is refused, and nothing of what was sent in it."""

from __future__ import annotations

import base64
import json
import logging
import re
from dataclasses import replace

import httpx2
import pytest

from canary import leaks, new_canary
from complaints import OWN
from keyrelay import log
from live import ANONYMOUS, BASIC, SMTP, V2
from wire import AUTHORIZATION, connection, head

KEYS = ["at", "level", "event", "logger", "method", "route", "status", "milliseconds", "user", "address", "request_id"]


def requests(logged, *levels):
    told = [json.loads(line) for line in logged.getvalue().splitlines()]
    return [line for line in told if line["event"] == "request" and line["level"] in (levels or {line["level"]})]


@pytest.fixture
def talkative(sqlite_server, logged):
    return sqlite_server, logged


@pytest.mark.parametrize(
    ("method", "path", "more", "expected"),
    [
        ("PUT", SMTP, {"json": ANONYMOUS, "headers": V2}, ("info", "/KeyfactorAPI/SMTP", 200, "admin")),
        (
            "PUT",
            "/keyfactorapi/smtp/",
            {"json": ANONYMOUS, "headers": V2},
            ("info", "/KeyfactorAPI/SMTP", 200, "admin"),
        ),
        ("PUT", SMTP, {"json": {}, "headers": V2}, ("info", "/KeyfactorAPI/SMTP", 400, "admin")),
        ("GET", SMTP, {"auth": ("nobody", "wrong")}, ("warning", "/KeyfactorAPI/SMTP", 401, None)),
        ("GET", "/nothing", {}, ("info", "other", 404, None)),
        ("DELETE", "/livez", {}, ("info", "/livez", 405, None)),
        ("TRACE", SMTP, {}, ("info", "/KeyfactorAPI/SMTP", 405, None)),
        ("POST", "/api/v1/outbox/pause", {}, ("info", "/api/v1/outbox/pause", 200, "admin")),
        ("POST", "/api/v1/messages/secret-id/cancel", {}, ("info", "/api/v1/messages/{id}/cancel", 404, "admin")),
    ],
)
def test_a_change_and_a_refusal_are_told(method, path, more, expected, talkative):
    server, logged = talkative
    answer = server.request(method, path, **more)
    (line,) = requests(logged)
    assert list(line) == KEYS
    assert (line["level"], line["route"], line["status"], line["user"]) == expected
    assert line["method"] == (method if method != "TRACE" else "other")
    assert line["status"] == answer.status_code
    assert line["address"] == "127.0.0.1"
    assert 0 < line["milliseconds"] < 30_000


def test_a_lacking_permission_is_told_with_the_user(sqlite_server, logged):
    sqlite_server.add_user("reader", "a long password", "/metrics/")
    httpx2.get(sqlite_server.url + SMTP, auth=("reader", "a long password"))
    (line,) = requests(logged, "warning")
    assert (line["status"], line["user"]) == (403, "reader")


def test_a_read_is_not_told_of_at_info(sqlite_server, logged):
    for path in (SMTP, SMTP + "/", OWN, "/livez", "/readyz", "/docs", "/metrics", "/"):
        assert sqlite_server.get(path).status_code < 400
    assert requests(logged, "info", "warning") == []
    assert len(requests(logged, "debug")) >= 7


def test_what_is_our_fault_is_told_twice_with_one_id(sqlite_server, logged, monkeypatch):
    async def broken(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(type(sqlite_server.node.keeper), "_write", broken)
    answer = sqlite_server.put_v2(ANONYMOUS)
    told = [json.loads(line) for line in logged.getvalue().splitlines()]
    mine = [line for line in told if line.get("request_id") == answer.headers["x-request-id"]]
    assert [(line["event"], line["level"]) for line in mine] == [("request failed", "error"), ("request", "warning")]
    assert mine[0]["error"] == "RuntimeError"


def test_a_caller_who_goes_away_is_told_without_a_status(sqlite_server, logged, eventually):
    with connection(sqlite_server) as opened:
        opened.sendall(head("PUT", SMTP, AUTHORIZATION, "Content-Type: application/json", "Content-Length: 100") + b"{")
    eventually(lambda: requests(logged))
    (line,) = requests(logged)
    assert (line["status"], line["user"]) == (None, "admin")


def test_the_line_for_people_has_the_same(sqlite_server, logged):
    logging.getLogger().handlers[0]._form = log._text
    sqlite_server.put_v2(ANONYMOUS).raise_for_status()
    assert re.search(
        r"info    request method='PUT' route='/KeyfactorAPI/SMTP' status=200 milliseconds=[\d.]+ user='admin'"
        r" address='127.0.0.1' request_id='[0-9a-f]{16}'\n",
        logged.getvalue(),
    )


# --- Nothing of what was sent --------------------------------------------------------------------------------


def test_no_piece_of_a_request_is_ever_in_the_log(sqlite_settings, start, logged):
    """Path, query, every header, and every body, in requests that go well and in those that are refused."""
    server = start(replace(sqlite_settings, open_metrics=True))
    planted = {name: new_canary() for name in ("path", "query", "header", "password", "body", "cookie", "agent")}
    headers = V2 | {
        "x-anything": planted["header"],
        "x-request-id": planted["header"],
        "x-forwarded-for": planted["header"],
        "forwarded": f"for={planted['header']}",
        "traceparent": planted["header"],
        "cookie": f"session={planted['cookie']}",
        "user-agent": planted["agent"],
        "referer": f"https://x.example/{planted['header']}",
        "if-match": f'"{planted["header"]}"',
        "origin": f"https://{planted['header']}.example",
        "content-type": "application/json",
        "accept": planted["header"],
        "last-event-id": planted["header"],
        "idempotency-key": planted["header"],
    }
    bodies = [
        json.dumps(ANONYMOUS | {"Host": planted["body"]}).encode(),
        json.dumps(BASIC | {"RelayPassword": {"SecretValue": planted["body"]}}).encode(),
        json.dumps(
            {"to": f"{planted['body']}@example.org", "subject": planted["body"], "text": planted["body"]}
        ).encode(),
        planted["body"].encode(),
        b'{"' + planted["body"].encode() + b'": 1}',
    ]
    paths = [
        f"/{planted['path']}",
        f"/KeyfactorAPI/{planted['path']}",
        f"/api/v1/messages/{planted['path']}",
        *(SMTP, SMTP + "/Test", OWN, "/api/v1/messages", "/api/v1/diagnoses", "/PamProviders", "/livez", "/metrics"),
    ]
    wrong = base64.b64encode(f"admin:{planted['password']}".encode()).decode()
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        for authorization in (AUTHORIZATION.partition(" ")[2], f"Basic {wrong}", f"Bearer {planted['password']}"):
            for path in paths:
                for method in ("GET", "PUT", "POST", "DELETE", "PATCH"):
                    for body in bodies if method in {"PUT", "POST"} else bodies[:1]:
                        client.request(
                            method,
                            f"{path}?q={planted['query']}&pq.queryString={planted['query']}",
                            headers=headers | {"authorization": authorization},
                            content=body,
                        )
    with connection(server) as opened:
        opened.sendall(f"{planted['path']} {planted['header']}\r\n\r\n".encode())
        opened.recv(1000)
    assert len(requests(logged)) > 100
    told = [line for line in logged.getvalue().splitlines() if '"logger": "keyrelay.api' in line]
    assert leaks(planted, "\n".join(told).encode()) == []
