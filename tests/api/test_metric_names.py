"""Every metric keeps to the conventions of Prometheus (its page "Metric and label naming"), and tells nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import httpx2
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from canary import leaks, new_canary
from keyrelay.api.exposition import Family, written
from live import ANONYMOUS, BASIC, SMTP, V2
from wire import connection, read_answer

METRICS = "/metrics"
OPEN = {"Accept": "application/openmetrics-text"}
# What is no base unit, or says what the type line says already.
_NO_UNIT = re.compile(
    r"_(milliseconds?|microseconds?|minutes?|hours?|days?|kilobytes|megabytes|gigabytes|bits|percent|ms|mb|kb|second|byte)(_|$)"
)
_NO_KIND = re.compile(r"_(counter|gauge|histogram|summary|metric)(_|$)")
_NAME = re.compile(r"(keyrelay|process)(_[a-z0-9]+)+")
_UNITS = ("_seconds", "_bytes", "_messages")
_OF_A_KIND = ("_total", "_count", "_sum", "_bucket", "_created", "_info")
_LABELS = {
    *("state", "why", "works", "counted", "window_seconds", "outcome", "version", "process", "le"),
    *("route", "method", "status"),
}


def complaints(family: Metric) -> Iterator[str]:
    """What promtool's linter, and a careful reader, would say."""
    rules = {
        "has no prefix of an application, or is not in snake case": not _NAME.fullmatch(family.name),
        "has no help, or one that is no sentence": not family.documentation.endswith("."),
        "is not in a base unit": _NO_UNIT.search(family.name),
        "repeats its type": _NO_KIND.search(family.name),
        # The older format knows no other kind for it.
        "ends like a sample of another kind": family.name.endswith(_OF_A_KIND) and family.name != "keyrelay_build_info",
        "is a histogram without a unit": family.type == "histogram" and not family.name.endswith(_UNITS),
        "has no type": family.type == "unknown",
    }
    yield from (told for told, broken in rules.items() if broken)
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "info": ["_info"]}
    for sample in family.samples:
        if sample.name.removeprefix(family.name) not in suffixes.get(family.type, [""]):
            yield f"has a sample {sample.name}"
        yield from (
            f"has the label {label}, which nobody has said is needed" for label in sample.labels.keys() - _LABELS
        )


@pytest.fixture(scope="module")
def told(module_server):
    """The metrics of a server to which much has happened, and what must not be in them."""
    planted = {name: new_canary() for name in ("path", "query", "user", "password", "host", "sender")}
    profile = {**BASIC, "Host": f"{planted['host']}.test", "SenderAccount": f"{planted['sender']}@example.org"}
    module_server.add_user(planted["user"], "a long password", "/system_settings/")
    module_server.put_v2(profile).raise_for_status()
    auth = (planted["user"], planted["password"])
    for path in (SMTP, f"/{planted['path']}", f"/api/v1/messages/{planted['path']}", "/livez", "/docs"):
        for who in (auth, None, (planted["user"], "a long password"), module_server.auth):
            for method in ("GET", "POST", "TRACE", "BREW"):
                with httpx2.Client(base_url=module_server.url, auth=who) as client:
                    client.request(method, path, params={"q": planted["query"]})
    with connection(module_server) as opened:
        opened.sendall(b"\0\r\n\r\n")
        read_answer(opened)
    return module_server, planted


@pytest.mark.parametrize(("parse", "headers"), [(parse_plain, {}), (parse_open, OPEN)], ids=["plain", "open"])
def test_every_metric_keeps_to_the_conventions(parse, headers, told):
    server, _ = told
    families = list(parse(server.get(METRICS, headers=headers).text))
    assert len(families) > 25
    found = {family.name: list(dict.fromkeys(complaints(family))) for family in families}
    assert {name: said for name, said in found.items() if said} == {}


def test_in_the_older_format_help_and_type_stand_before_the_samples_of_each(told):
    server, _ = told
    text = server.get(METRICS).text
    helped, typed = (
        re.findall(r"^# HELP (\S+) .", text, re.MULTILINE),
        re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE),
    )
    assert helped == typed
    assert len(set(helped)) == len(helped)
    samples = re.findall(r"^([a-z]\w*)[ {]", text, re.MULTILINE)
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in samples} <= set(helped)


def test_no_label_holds_a_path_an_address_a_user_or_a_secret(told):
    server, planted = told
    for headers in ({}, OPEN):
        text = server.get(METRICS, headers=headers).text
        assert leaks(planted, text.encode()) == []
        assert "@" not in text
        assert "127.0.0.1" not in text
        assert "admin" not in text


def test_the_lint_finds_what_is_wrong():
    wrong = [
        Family("keyrelay_attempts_total", "counter", "Twice."),
        Family("keyrelay_wait_milliseconds", "gauge", "No base unit."),
        Family("keyrelay_size_megabytes", "gauge", "No base unit."),
        Family("keyrelay_open_gauge", "gauge", "Its type."),
        Family("keyrelay_messages_count", "gauge", "Looks like a histogram's."),
        Family("keyrelay_Odd", "gauge", "Not in snake case."),
        Family("odd_name", "gauge", "No prefix."),
        Family("keyrelay_x", "gauge", "no sentence"),
        Family("keyrelay_y", "gauge", "A label of its own.").add(1, user="me"),
    ]
    for family in wrong:
        (parsed,) = parse_plain(written([family], open_metrics=False).decode())
        parsed.name = family.name
        assert list(complaints(parsed)), family.name


# --- What they count -----------------------------------------------------------------------------------------


def figures(server, **more):
    answer = server.get(METRICS, **more)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse_plain(answer.text)
        for sample in family.samples
    }


def requests(told, route, method, status):
    return told.get(("keyrelay_http_requests_total", ("method", method), ("route", route), ("status", status)), 0)


def test_requests_are_counted_by_route_method_and_class_of_status_the_quick_ones_too(sqlite_server):
    sqlite_server.put_v2(ANONYMOUS).raise_for_status()
    for _ in range(5):
        sqlite_server.get(SMTP, headers=V2)
    sqlite_server.get(SMTP + "/", headers=V2)
    sqlite_server.put_v2({})
    sqlite_server.get("/nothing")
    sqlite_server.get("/api/v1/messages/none")
    sqlite_server.request("TRACE", "/nothing")
    told = figures(sqlite_server)
    assert requests(told, SMTP, "GET", "2xx") == 6
    assert (requests(told, SMTP, "PUT", "2xx"), requests(told, SMTP, "PUT", "4xx")) == (1, 1)
    assert requests(told, "/api/v1/messages/{id}", "GET", "4xx") == 1
    assert (requests(told, "other", "GET", "4xx"), requests(told, "other", "other", "4xx")) == (1, 1)
    # Not those that were answered from memory; the first of them may have had to be read.
    assert 3 <= told["keyrelay_http_request_seconds_count", ("route", SMTP)] <= 4
    assert told["keyrelay_http_request_seconds_sum", ("route", SMTP)] > 0
    assert told[("keyrelay_http_connections",)] == 1


def test_sign_ins_are_counted_by_what_came_of_them(sqlite_server):
    for _ in range(3):
        sqlite_server.get(SMTP)
    httpx2.get(sqlite_server.url + SMTP)
    statuses = []
    while 429 not in statuses and len(statuses) < 100:
        statuses.append(httpx2.get(sqlite_server.url + SMTP, auth=("nobody", "wrong")).status_code)
    told = figures(sqlite_server)
    counted = {key[1][1]: value for key, value in told.items() if key[0] == "keyrelay_sign_ins_total"}
    assert counted == {
        "accepted": 4,  # the one that asks included
        "missing": 1,
        "refused": statuses.count(401),
        "limited": statuses.count(429),
        "undecided": 0,
    }
    assert counted["limited"] > 0


def test_tests_are_counted_by_what_came_of_them(trusting_server, relay):
    well, badly = relay(), relay(replies={"rcpt": "550 no"})
    for port in (well.port, badly.port, badly.port):
        body = ANONYMOUS | {
            "Host": "localhost",
            "Port": port,
            "TestRecipient": "ops@example.org",
            "RelayAuthenticationType": 0,
        }
        trusting_server.post(SMTP + "/Test", json=body, headers=V2)
    profile = {"host": "localhost", "port": well.port, "sender_account": "a@example.org", "sender_name": "PKI"}
    trusting_server.post("/api/v1/diagnoses", json={"profile": profile | {"authentication": "anonymous"}})
    told = figures(trusting_server)
    counted = {key[1][1]: value for key, value in told.items() if key[0] == "keyrelay_tests_total"}
    assert counted == {"passed": 2, "failed": 2, "given_up": 0}


def test_of_several_processes_each_tells_its_own(sqlite_settings, start):
    told = figures(start(replace(sqlite_settings, workers=2)))
    own = {key[0] for key in told if any(label == "process" for label, _ in key[1:])}
    assert {"keyrelay_http_requests_total", "keyrelay_sign_ins_total", "keyrelay_http_connections"} <= own
