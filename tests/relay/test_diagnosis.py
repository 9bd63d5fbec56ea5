"""What a report tells of a stage beside its cause, and what a test asks for on the way."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

import live_causes
from keyrelay.api.diagnoses import finding_document
from keyrelay.chaos.script import Script
from keyrelay.relay import connecting, diagnosis
from keyrelay.relay.diagnosis import Report
from live_causes import BASIC, USERS, Endpoint, Scene, nobody, play
from relaying import relay, run, session
from token_server import refused

DESCRIPTION = "AADSTS7000215: Invalid client secret provided."
TOKENS = Scene(
    cause="entra-secret-wrong",
    stage="token",
    place=Script(starttls=True, auth=("XOAUTH2",), users=USERS),
    use_ssl=True,
    endpoint=Endpoint(refused(401, "invalid_client", DESCRIPTION)),
    client_secret="Xk4-vQz7-Jw2",  # no piece of it is a word of the description
)


def failed(report: Report) -> dict[str, Any]:
    assert report.failed is not None
    return finding_document(report.failed)


def test_a_token_that_is_not_issued_leaves_what_the_endpoint_said(tmp_path):
    stage = failed(asyncio.run(play(TOKENS, tmp_path)))
    assert stage["stage"] == "token"
    shown = {name: stage["learned"][name] for name in ("status", "error", "error_description", "encrypted")}
    assert shown == {
        "status": 401,
        "error": "invalid_client",
        "error_description": DESCRIPTION,
        "encrypted": True,
    }
    assert {"clock_skew", "tls", "address"} <= stage["learned"].keys()
    assert stage["reply"] is None
    assert TOKENS.client_secret not in str(stage)


def test_a_connection_that_does_not_come_about_leaves_what_each_address_did(tmp_path):
    scene = Scene(cause="connection-refused-loopback", stage="connect", place=nobody)
    stage = failed(asyncio.run(play(scene, tmp_path)))
    assert stage["learned"]["attempts"] == {"127.0.0.1": "refused"}


def test_a_refusal_is_given_whole(tmp_path):
    lines = ("550-5.7.26 This mail is unauthenticated.", "550 5.7.26 Read https://example.org/why")
    scene = Scene(cause="", stage="recipient", place=Script(replies={"rcpt": lines}))
    stage = failed(asyncio.run(play(scene, tmp_path)))
    said = ["5.7.26 This mail is unauthenticated.", "5.7.26 Read https://example.org/why"]
    assert stage["reply"] == {"code": 550, "enhanced": "5.7.26", "lines": said}


@pytest.mark.parametrize(
    "scene",
    [
        Scene(cause="", stage="greeting", place=Script(close="greeting"), host="relay.test"),
        Scene(cause="", stage="connect", place=nobody, host="relay.test"),
        replace(TOKENS, authentication=BASIC, endpoint=None, host="relay.test"),
    ],
    ids=["a second look", "no connection", "certificate of another name"],
)
def test_a_test_looks_its_relay_up_once(scene, tmp_path, monkeypatch):
    """Advice and the second look are about the addresses that were found."""
    asked: list[str] = []
    lead = live_causes._lead

    async def counting(scene: Scene, stack: AsyncExitStack, patch: pytest.MonkeyPatch) -> None:
        await lead(scene, stack, patch)
        look_up = connecting.look_up

        async def counted(host: str, port: int) -> list[tuple[Any, ...]]:
            asked.append(host)
            return await look_up(host, port)

        patch.setattr(connecting, "look_up", counted)

    advised: list[tuple[str, ...]] = []

    async def advice(_: str, addresses: tuple[str, ...], **__: object) -> tuple[()]:
        advised.append(addresses)
        return ()

    monkeypatch.setattr(live_causes, "_lead", counting)
    monkeypatch.setattr(diagnosis.deliverability, "look", advice)
    asyncio.run(play(scene, tmp_path, name_servers=None))
    assert asked.count("relay.test") == 1
    assert advised == [("127.0.0.1",)]


def test_a_name_that_is_not_found_gets_advice_all_the_same(tmp_path, monkeypatch):
    advised: list[tuple[str, ...]] = []

    async def advice(_: str, addresses: tuple[str, ...], **__: object) -> tuple[()]:
        advised.append(addresses)
        return ()

    monkeypatch.setattr(diagnosis.deliverability, "look", advice)
    unknown = Scene(cause="", stage="resolve", place=socket.gaierror(socket.EAI_NONAME, "unknown"))
    asyncio.run(play(unknown, tmp_path, name_servers=None))
    assert advised == [()]


def test_a_second_look_that_goes_wrong_takes_nothing_from_the_report(tmp_path, monkeypatch):
    async def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(diagnosis, "investigate", broken)
    report = asyncio.run(play(Scene(cause="", stage="greeting", place=Script(close="greeting")), tmp_path))
    assert report.look is None
    assert failed(report)["cause"]["id"] == "greeting-closed"


def test_a_relay_that_turns_us_away_is_not_told_to_speak_no_tls(tmp_path):
    """On port 465 it waits for TLS; in clear text it answers with a refusal."""

    def refusing(connection: socket.socket) -> None:
        connection.sendall(b"554 5.7.1 no service for this address\r\n")
        connection.recv(65536)

    scene = Scene(
        cause="", stage="tls", place=lambda: live_causes.serving(refusing), port=465, use_ssl=True, mode="connect"
    )
    cause = failed(asyncio.run(play(scene, tmp_path)))["cause"]
    assert cause["id"] != "port-speaks-clear-text"
    assert "no TLS at all" not in cause["sentence"]


# --- A host with a final dot ---------------------------------------------------------------------------------


def test_a_final_dot_is_for_name_servers_and_not_for_tls(monkeypatch):
    asked: list[str] = []

    async def look_up(host: str, port: int) -> list[tuple[Any, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(connecting, "look_up", look_up)

    async def main() -> list[str | None]:
        async with relay(starttls=True) as there, session(there.port, host="localhost.", use_ssl=True):
            return there.sni

    assert run(main()) == ["localhost"]
    assert asked == ["localhost."]


def test_the_words_of_a_cause_name_the_host_without_its_final_dot(tmp_path):
    scene = Scene(cause="", stage="connect", place=nobody, host="localhost.")
    assert failed(asyncio.run(play(scene, tmp_path)))["cause"]["id"] == "connection-refused-loopback"
