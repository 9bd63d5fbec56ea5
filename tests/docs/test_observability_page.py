"""The page about logs, metrics, traces and probes says what the code says."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pages
import pytest

from complaints import complaint
from keyrelay import listening, otlp
from keyrelay.api import callers, conventions, doors, outbox, protocol, visits
from keyrelay.api.figures import SIGN_INS, TESTS
from keyrelay.api.metrics import UNREAD
from keyrelay.errors import TooManyConnections
from live import ANONYMOUS, SMTP, V2
from otlp_double import Collector
from relaying import running

PAGE = pages.read("docs/observability.md")


def test_every_command_and_every_setting_of_the_page_is_there():
    for tokens in pages.commands(PAGE):
        pages.require_command(tokens)
    pages.require_settings(PAGE)


def test_the_page_has_every_metric(sqlite_settings, start):
    told = start(replace(sqlite_settings, relay_limits="office365")).get("/metrics").raise_for_status().text
    listed = [row[0] for title in ("Metric", "Metric of a process") for row in pages.rows(PAGE, title)]
    assert re.findall(r"`(\w+)`", " ".join(listed)) == re.findall(r"^# TYPE (\S+)", told, re.MULTILINE)


def test_every_metric_that_any_page_names_is_there():
    listed = {name for title in ("Metric", "Metric of a process") for row in pages.rows(PAGE, title) for name in row}
    known = set(re.findall(r"`(\w+)`", " ".join(listed)))
    for page in ("docs/outbox.md", "docs/scale-out.md", "README.md"):
        for name in re.findall(r"`(keyrelay_[a-z_]+[a-z])[`{]", pages.read(page)):
            assert name in known, name


def test_the_outcomes_of_the_page_are_those_of_the_code():
    for what, outcomes in (("sign-in", SIGN_INS), ("test", TESTS)):
        (told,) = re.findall(rf"^Outcomes of a {what}: (.*?)\.(?: |$)", PAGE, re.MULTILINE)
        assert re.findall(r"`(\w+)`", told) == list(outcomes)
    assert f"route `{UNREAD}`" in PAGE
    assert f"route `{visits.OTHER}`" in PAGE


def test_a_line_of_the_log_has_the_keys_of_the_page_in_their_order(sqlite_server, logged):
    sqlite_server.put_v2(ANONYMOUS).raise_for_status()
    (line,) = [json.loads(line) for line in logged.getvalue().splitlines() if '"event": "request"' in line]
    (shown,) = re.findall(r"^```json\n(\{.*\})\n```$", PAGE, re.MULTILINE)
    keys = [row[0].strip("`") for row in pages.rows(PAGE, "Key")]
    assert list(line) == list(json.loads(shown)) == keys
    same = {"level", "event", "logger", "method", "route", "status", "user"}
    assert {key: line[key] for key in same} == {key: json.loads(shown)[key] for key in same}


def test_an_error_has_the_request_id_where_the_page_says(sqlite_server):
    refused = sqlite_server.put("/api/v1/profile", content=b"[")
    complaint(refused, 400)
    complaint(sqlite_server.put(SMTP, content=b"[", headers=V2), 400)
    for told in ("the member `request_id`", "the header `X-Request-Id`", "at the end of `Message`"):
        assert told in PAGE


def test_a_span_has_the_attributes_of_the_page(sqlite_server, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    told = {row[0].split("`")[1]: set(re.findall(r"`([a-z_.]+)`", row[1])) for row in pages.rows(PAGE, "Span")}
    with running() as relay, Collector() as collector, otlp.recording(collector.url):
        sqlite_server.put_v2(ANONYMOUS | {"Host": "127.0.0.1", "Port": relay.port}).raise_for_status()
        sqlite_server.post("/api/v1/messages", json={"to": "a@x.test", "text": "x"}).raise_for_status()
        attempt, put = collector.wait_for("outbox attempt"), collector.wait_for(f"PUT {SMTP}")
        taken = collector.wait_for("POST /api/v1/messages")
    assert set(attempt.attributes) == told["outbox attempt"]
    assert set(put.attributes) | {"keyrelay.message"} == set(taken.attributes) == told[f"PUT {SMTP}"]
    assert {"token fetch", "vault fetch"} < told.keys()


@pytest.mark.parametrize(
    ("said", "true"),
    [
        ("1000 (`KEYRELAY_CONNECTIONS`)", True),
        (f"503 (`{TooManyConnections.code}`)", True),
        ("after a second at the latest", protocol._CROWD_SECONDS == 1),
        ("64 KiB, and 10 to 20 seconds", (protocol._HELD_BYTES, protocol._HEAD_SECONDS) == (64 * 1024, 10)),
        ("256 KiB, and 30 seconds", (conventions.BODY_LIMIT, conventions._BODY_SECONDS) == (256 * 1024, 30)),
        ("900 seconds, then the client comes back", outbox._LONGEST_SECONDS == 900),
        ("end after 10 seconds", listening._HANDSHAKE_SECONDS == 10),
        ("At most 32 proxies", callers._MOST_PROXIES == 32),
        ("`/livez` is answered when all connections are taken", doors.PROBE == "/livez"),
        ("`Strict-Transport-Security: max-age=31536000`", listening._HSTS[1] == "max-age=31536000"),
        ("1 to 64 of letters", True),
    ],
)
def test_the_figures_in_the_text_are_those_of_the_code(said, true):
    assert said in PAGE
    assert true


def test_the_defaults_of_the_page_are_those_of_the_settings():
    pages.require_defaults([["KEYRELAY_CONNECTIONS", "1000", ""], ["KEYRELAY_TRUSTED_PROXIES", "none", ""]])
