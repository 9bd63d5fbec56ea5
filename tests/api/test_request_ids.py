"""Each request has an id: in every error body, in a header beside it, and in each line of the log about it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from ipaddress import ip_network

import httpx2
import pytest

from complaints import OWN, complaint
from keyrelay import request_id
from keyrelay.errors import StoreUnavailable
from live import ANONYMOUS, SMTP, V1, V2
from wire import connection, read_answer

OURS = re.compile(r"[0-9a-f]{16}")
GIVEN = "7f3a-from.the_proxy"


def lines(logged):
    return [json.loads(line) for line in logged.getvalue().splitlines()]


def test_no_two_requests_have_the_same_id():
    ids = [request_id.new() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert all(map(OURS.fullmatch, ids))


@pytest.fixture
def talkative(sqlite_server, logged):
    return sqlite_server, logged


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "/KeyfactorAPI/nothing", {}, 404),
        ("GET", "/nothing", {}, 404),
        ("DELETE", SMTP, {}, 405),
        ("DELETE", OWN, {}, 405),
        ("POST", "/livez", {}, 405),
        ("PUT", SMTP, {"content": b"{"}, 400),
        ("PUT", OWN, {"content": b"{}"}, 400),
        ("PUT", SMTP, {"content": b"x", "headers": {"content-type": "text/html"}}, 415),
        ("PUT", SMTP, {"content": b" " * 300_000}, 413),
        ("GET", SMTP, {"auth": ("nobody", "wrong")}, 401),
        ("GET", OWN, {"auth": ("nobody", "wrong")}, 401),
        ("GET", SMTP, {"headers": {"x-keyfactor-api-version": "9"}}, 400),
    ],
)
def test_every_error_body_has_it_and_so_has_the_log(method, path, more, status, talkative):
    server, logged = talkative
    answer = server.request(method, path, **more)
    complaint(answer, status)
    number = answer.headers["x-request-id"]
    (told,) = [line for line in lines(logged) if line["event"] == "request"]
    assert (told["request_id"], told["status"]) == (number, status)
    assert {line["request_id"] for line in lines(logged) if line["logger"].startswith("keyrelay.api")} == {number}


def test_the_compatible_api_ends_its_message_with_it_and_has_two_keys(sqlite_server):
    answer = sqlite_server.get(SMTP, headers={"x-keyfactor-api-version": "9"})
    assert list(answer.json()) == ["ErrorCode", "Message"]
    assert answer.json()["Message"].endswith(f" Request id {answer.headers['x-request-id']}.")


def test_a_missing_permission_still_ends_the_message(sqlite_server):
    sqlite_server.add_user("reader", "a long password", "/metrics/")
    answer = httpx2.get(sqlite_server.url + SMTP, auth=("reader", "a long password"))
    complaint(answer, 403)
    assert answer.json()["Message"].endswith(" with /system_settings/read/")


def test_our_own_api_has_it_as_a_member(sqlite_server):
    answer = sqlite_server.put(OWN, content=b"[")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_what_is_no_http_has_one_too(sqlite_server, logged):
    with connection(sqlite_server) as opened:
        opened.sendall(b"\0\0\0\0\r\n\r\n")
        answer = read_answer(opened)
    complaint(answer, 400)
    (told,) = lines(logged)
    assert told["event"] == "a request was not read"
    assert (told["request_id"], told["code"], told["status"]) == (answer.headers["x-request-id"], "not_http", 400)


def test_a_head_that_is_too_large_has_one_too(sqlite_server):
    with connection(sqlite_server) as opened:
        opened.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 70_000)
        complaint(read_answer(opened), 431)


def test_a_process_that_is_not_ready_tells_it(sqlite_server, monkeypatch):
    async def gone(*_):
        raise StoreUnavailable("gone")

    monkeypatch.setattr(type(sqlite_server.node.store), "ping", gone)
    answer = sqlite_server.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "not ready",
        "code": "store_unavailable",
        "request_id": answer.headers["x-request-id"],
    }


def test_lines_that_a_request_causes_further_down_have_it(sqlite_server, logged):
    answer = sqlite_server.get(SMTP, auth=("admin", "wrong"))
    (told,) = [line for line in lines(logged) if line["event"] == "sign-in failed"]
    assert told["request_id"] == answer.headers["x-request-id"]


def test_answers_that_are_no_errors_are_the_same_on_both_roads(sqlite_server):
    sqlite_server.put_v2(ANONYMOUS).raise_for_status()
    for headers in (V1, V2):
        quick = sqlite_server.get(SMTP, headers=headers)
        long = sqlite_server.get(SMTP + "/", headers=headers)
        assert "x-request-id" not in quick.headers
        assert (quick.content, set(quick.headers)) == (long.content, set(long.headers))


def test_an_id_that_a_stranger_gives_is_not_taken_over(sqlite_server, logged):
    answer = sqlite_server.get("/nothing", headers={"x-request-id": GIVEN})
    assert OURS.fullmatch(answer.headers["x-request-id"])
    assert GIVEN not in logged.getvalue()


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ([GIVEN], True),
        (["a" * 64], True),
        (["a" * 65], False),
        ([""], False),
        (["two words"], False),
        (["a=1 level=error"], False),
        (['a"b'], False),
        (["é"], False),
        ([GIVEN, "another"], False),
    ],
)
def test_one_that_a_trusted_proxy_gives_is_taken_over_if_it_is_plain(given, taken, sqlite_settings, start):
    server = start(replace(sqlite_settings, trusted_proxies=(ip_network("127.0.0.1"),)))
    headers = [(b"x-request-id", one.encode("latin-1")) for one in given]
    answer = server.get("/nothing", headers=headers)
    number = answer.headers["x-request-id"]
    assert (number == given[0]) == taken
    assert taken or OURS.fullmatch(number)
    assert answer.json()["request_id"] == number
