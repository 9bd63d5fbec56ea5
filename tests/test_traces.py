"""Traces: off, they cost nothing; on, a real collector gets spans of requests, attempts, tokens and vaults."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
import time
from dataclasses import replace

import httpx2
import pytest

from canary import leaks, new_canary
from complaints import OWN
from keyrelay import otlp, settings, traces
from keyrelay.errors import SettingsInvalid, TracesUnusable
from keyrelay.outbox.figures import OUTCOMES
from keyrelay.relay.model import StageFailed
from keyrelay.relay.token import TokenRequest, Tokens
from keyrelay.secrets.model import SecretText
from live import ANONYMOUS, SMTP, V2, Command, run_keyrelay
from otlp_double import Collector
from relaying import running
from submissions import MESSAGE, MESSAGES, taken_in
from wire import AUTHORIZATION, connection, head, read_answer

SERVER, CLIENT = 2, 3
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def collector(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # milliseconds
    with Collector() as collector, otlp.recording(collector.url):
        yield collector


def test_off_is_the_default_and_nothing_of_it_is_imported():
    work = """
import sys, tempfile, pathlib, asyncio
from keyrelay import server, sending, settings
from keyrelay.api import app, entrance, messages, metrics, diagnoses
from keyrelay.pam import fetching
from keyrelay.relay import diagnosis, token
from keyrelay.outbox import worker
async def main():
    node = await server.Node.open(settings.Settings(data_dir=pathlib.Path(tempfile.mkdtemp())))
    node.application(); node.outbox.start(works=True); node.diagnoses; node.vaults
    await asyncio.sleep(0.2); await node.close()
asyncio.run(main())
traced = ("opentelemetry", "requests", "google.protobuf", "keyrelay.otlp")
print([name for name in sys.modules if name.startswith(traced)])
"""
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_off_nothing_is_made_for_a_span():
    with traces.span("x") as one, traces.span("y", "server", parent="00-1-2-01") as other:
        assert one is other


# --- Requests ------------------------------------------------------------------------------------------------


def test_a_request_is_a_span_with_its_route_method_and_status(sqlite_server, collector):
    answer = sqlite_server.put_v2({})
    span = collector.wait_for("PUT /KeyfactorAPI/SMTP")
    assert span.kind == SERVER
    assert span.attributes == {
        "http.request.method": "PUT",
        "http.route": SMTP,
        "http.response.status_code": 400,
        "keyrelay.request_id": answer.headers["x-request-id"],
    }
    assert (span.parent, span.links, span.events, span.failed) == ("", 0, 0, False)
    assert 0 < span.seconds < 30
    assert span.resource["service.name"] == "keyrelay"
    assert span.resource["process.pid"] > 0


def test_what_is_our_fault_is_a_span_that_failed_and_nothing_of_the_error_is_in_it(
    sqlite_server, collector, monkeypatch
):
    canary = new_canary()

    async def broken(*_, **__):
        raise RuntimeError(canary)

    monkeypatch.setattr(type(sqlite_server.node.keeper), "_write", broken)
    sqlite_server.put_v2(ANONYMOUS)
    span = collector.wait_for("PUT /KeyfactorAPI/SMTP")
    assert (span.failed, span.events) == (True, 0)
    assert leaks({"error": canary}, b"".join(body for _, _, body in collector.asked)) == []


def test_it_belongs_to_the_trace_of_the_caller(sqlite_server, collector):
    sqlite_server.put_v2({})
    sqlite_server.put(SMTP, json={}, headers=V2 | {"traceparent": CALLER})
    span = collector.wait_for("PUT /KeyfactorAPI/SMTP", 2)
    assert (span.trace, span.parent) == (CALLER.split("-")[1], CALLER.split("-")[2])
    assert collector.named("PUT /KeyfactorAPI/SMTP")[0].parent == ""


@pytest.mark.parametrize(
    "given",
    [
        *(["nonsense"], [""], [CALLER, CALLER], [CALLER.replace("00-", "ff-", 1)], ["\xe9" * 55]),
        ["00-" + "0" * 32 + "-00f067aa0ba902b7-01"],
        ["00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01"],
        ["00-" + "4" * 60_000],
    ],
    ids=range(8),
)
def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(given, sqlite_server, collector):
    headers = [("traceparent", one.encode("latin-1")) for one in given]
    assert sqlite_server.put(SMTP, json={}, headers=headers).status_code == 400
    span = collector.wait_for("PUT /KeyfactorAPI/SMTP")
    assert span.parent == ""
    assert span.trace != CALLER.split("-")[1]


def test_what_a_caller_does_not_want_recorded_is_not(sqlite_server, collector):
    sqlite_server.put(SMTP, json={}, headers=V2 | {"traceparent": CALLER[:-2] + "00"})
    sqlite_server.put_v2({})
    assert collector.wait_for("PUT /KeyfactorAPI/SMTP").parent == ""
    assert len(collector.named("PUT /KeyfactorAPI/SMTP")) == 1


# --- Messages ------------------------------------------------------------------------------------------------


def hand_in(server, port, **more):
    profile = {"Host": "127.0.0.1", "Port": port, "SenderAccount": "pki@example.org", "SenderName": "PKI"}
    server.put_v2(profile).raise_for_status()
    return server.post("/api/v1/messages", json={"to": ["a@x.test", "b@x.test"], "text": "x"} | more).json()["id"]


def test_an_attempt_is_a_span_that_bears_the_id_of_the_message_as_its_submission_does(server, collector):
    with running() as relay:
        message = hand_in(server, relay.port)
        span = collector.wait_for("outbox attempt")
        taken = collector.wait_for("POST /api/v1/messages")
    assert span.kind == CLIENT
    assert span.attributes == {
        "server.address": "127.0.0.1",
        "server.port": relay.port,
        "keyrelay.message": message,
        "keyrelay.recipients": 2,
        "keyrelay.stage": "data",
        "keyrelay.outcome": "accepted",
    }
    assert taken.attributes["keyrelay.message"] == message
    assert taken.trace != span.trace


def test_a_submission_that_would_be_quick_is_a_span_as_well(sqlite_settings, start, collector):
    server = start(replace(sqlite_settings, worker=False))
    server.put_v2(ANONYMOUS).raise_for_status()
    whole = head("POST", MESSAGES, AUTHORIZATION, "Content-Type: message/rfc822", f"Content-Length: {len(MESSAGE)}")
    for _ in range(3):
        with connection(server) as opened:
            opened.sendall(whole + MESSAGE)
            name = taken_in(read_answer(opened))
    assert collector.wait_for(f"POST {MESSAGES}", count=3).attributes["keyrelay.message"] == name


def test_an_attempt_that_fails_tells_how_far_it_came(sqlite_server, collector):
    with running(replies={"rcpt": "550 no such user"}) as relay:
        hand_in(sqlite_server, relay.port)
        span = collector.wait_for("outbox attempt")
    assert (span.attributes["keyrelay.stage"], span.attributes["keyrelay.outcome"]) == ("recipient", "refused")
    assert span.attributes["keyrelay.outcome"] in OUTCOMES


# --- Tokens and vaults ---------------------------------------------------------------------------------------


def test_a_token_fetch_is_a_span_of_whoever_asked_first(collector):
    async def main():
        tokens = Tokens(ssl.create_default_context)
        request = TokenRequest("https://127.0.0.1:1/token?x=1", SecretText("c"), SecretText("s"), None, None, ())
        with traces.span("asker"), pytest.raises(StageFailed):
            await tokens.token(request)
        await tokens.close()

    asyncio.run(main())
    span, asker = collector.wait_for("token fetch"), collector.wait_for("asker")
    assert span.attributes == {"server.address": "127.0.0.1", "keyrelay.outcome": "refused"}
    assert (span.kind, span.trace, span.parent) == (CLIENT, asker.trace, asker.id)


def test_a_vault_fetch_is_a_span_with_the_type_of_provider(sqlite_server, collector):
    body = {"Name": "Local", "ProviderType": {"Id": local_type(sqlite_server)}, "ProviderTypeParamValues": []}
    number = sqlite_server.post("/KeyfactorAPI/PamProviders", json=body).raise_for_status().json()["Id"]
    for name in ("there", "not-there"):
        sqlite_server.post(f"/api/v1/pam-providers/{number}/try", json={"parameters": {"SecretName": name}})
    span = collector.wait_for("vault fetch")
    assert span.attributes == {
        "keyrelay.provider": number,
        "keyrelay.provider_type": "LocalDB",
        "keyrelay.outcome": "not_found",
    }
    (asked, *_) = collector.named("POST /api/v1/pam-providers/{id}/try")
    assert asked.id in {one.parent for one in collector.named("vault fetch")}


def local_type(server):
    (kind,) = [kind for kind in server.get("/KeyfactorAPI/PamProviders/Types").json() if kind["Name"] == "LocalDB"]
    return kind["Id"]


# --- What is never in them -----------------------------------------------------------------------------------


def test_no_address_no_subject_and_no_secret_is_in_any_of_it(sqlite_server, collector):
    planted = {
        name: new_canary() for name in ("path", "query", "header", "password", "to", "subject", "text", "sender")
    }
    with running() as relay:
        profile = {"Host": "127.0.0.1", "Port": relay.port, "SenderName": "PKI"}
        sqlite_server.put_v2(profile | {"SenderAccount": f"{planted['sender']}@example.org"}).raise_for_status()
        message = {"to": f"{planted['to']}@example.org", "subject": planted["subject"], "text": planted["text"]}
        sqlite_server.post("/api/v1/messages", json=message).raise_for_status()
        headers = {
            "x-any": planted["header"],
            "x-request-id": planted["header"],
            "tracestate": f"a={planted['header']}",
        }
        for path in (SMTP, OWN, "/api/v1/messages", f"/{planted['path']}"):
            httpx2.get(
                f"{sqlite_server.url}{path}?q={planted['query']}",
                auth=("admin", planted["password"]),
                headers=headers | {"traceparent": CALLER},
            )
        collector.wait_for("outbox attempt")
        collector.wait_for("GET other")
    sent = b"".join(body for _, _, body in collector.asked)
    assert leaks(planted, sent) == []
    assert b"@example" not in sent
    assert b"admin" not in sent


# --- Sending them --------------------------------------------------------------------------------------------


def test_a_server_process_sends_what_is_left_when_it_stops(tmp_path):
    with Collector() as collector:
        environment = {"KEYRELAY_DATA_DIR": str(tmp_path), "KEYRELAY_OTLP_ENDPOINT": collector.url + "/"}
        command = Command.serve(
            environment | {"KEYRELAY_ADMIN_PASSWORD": "a long password", "OTEL_SERVICE_NAME": "mine"}
        )
        httpx2.put(command.url + SMTP, auth=("admin", "a long password"), json={})
        command.stop()
        span = collector.wait_for("PUT /KeyfactorAPI/SMTP", within=1)
        assert span.resource["service.name"] == "mine"


def test_a_collector_that_is_away_keeps_nobody_from_working_or_stopping(tmp_path):
    environment = {"KEYRELAY_DATA_DIR": str(tmp_path), "KEYRELAY_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    command = Command.serve(environment | {"KEYRELAY_ADMIN_PASSWORD": "a long password"})
    for _ in range(20):
        assert httpx2.get(command.url + SMTP, auth=("admin", "a long password")).status_code == 200
    began = time.monotonic()
    command.stop()
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status, monkeypatch):
    """The operator may have given a header for the collector alone (OTEL_EXPORTER_OTLP_HEADERS)."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret-of-the-collector")
    with Collector() as elsewhere:
        with Collector(status=status, headers={"location": f"{elsewhere.url}/v1/traces"}) as collector:
            with otlp.recording(collector.url), traces.span("x"):
                pass
            assert collector.asked[0][1]["api-key"] == "secret-of-the-collector"
        assert elsewhere.asked == []


def test_no_proxy_of_the_environment_gets_them(monkeypatch):
    with Collector() as proxy, Collector() as collector:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with otlp.recording(collector.url), traces.span("x"):
            pass
        assert proxy.asked == []
        assert len(collector.spans) == 1


def test_without_the_extra_a_start_says_what_to_install(tmp_path):
    hidden = tmp_path / "opentelemetry"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ImportError('hidden')")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {"KEYRELAY_DATA_DIR": str(tmp_path / "d"), "KEYRELAY_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    done = run_keyrelay(environment | {"PYTHONPATH": paths, "KEYRELAY_PORT": "0"}, "serve")
    assert done.returncode == 1
    assert f"[{TracesUnusable.code}]" in done.stderr
    assert "keyrelay[otel]" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("endpoint", "more", "right"),
    [
        ("http://127.0.0.1:4318", {}, True),
        ("http://[::1]:4318", {}, True),
        ("http://localhost:4318/", {}, True),
        ("https://collector.example.org:4318", {}, True),
        ("https://collector.example.org/otlp/v1/traces", {}, True),
        ("http://collector.example.org:4318", {}, False),
        ("http://localhost.example.org:4318", {}, False),
        ("http://collector.example.org:4318", {"KEYRELAY_ALLOW_PLAIN_HTTP": "yes"}, True),
        *(
            (wrong, {}, False)
            for wrong in ("collector:4318", "grpc://x", "https://", "https://u:p@x", "https://x/?k=1")
        ),
        *(
            (wrong, {}, False)
            for wrong in ("https://x#y", "https://[x", "https://x:0", "https://x:99999", "https://x\n")
        ),
    ],
)
def test_what_an_endpoint_may_be(endpoint, more, right):
    given = {"KEYRELAY_OTLP_ENDPOINT": endpoint, **more}
    if right:
        assert settings.read(given).otlp_endpoint == endpoint
    else:
        with pytest.raises(SettingsInvalid, match="KEYRELAY_OTLP_ENDPOINT"):
            settings.read(given)
