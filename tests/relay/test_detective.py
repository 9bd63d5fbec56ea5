"""A second look at a relay: what its replies mean, what it is asked by, and that it never does harm."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest

from keyrelay.chaos.script import Script
from keyrelay.relay import connecting, detective
from keyrelay.relay.detective import Findings, investigate
from relaying import answering, both_loops, profile, relay, run, terms

GREETING = b"220 odd.test ESMTP\r\n"


def others(answer: bytes, commands: list[bytes]) -> Any:
    def said(line: bytes) -> bytes | None:
        commands.append(line)
        return answer

    return said


async def look_at(port: int, *, name: str | None = "client.test", **more: Any) -> Findings:
    return await investigate(profile(port, "relay.test", **more), ["127.0.0.1"], terms().trust, name)


@pytest.fixture
def no_names(monkeypatch) -> list[str]:
    """The hosts that are looked up beside addresses; each is a failure."""
    asked: list[str] = []
    look_up = connecting.look_up

    async def numeric(host: str, port: int) -> list[tuple[Any, ...]]:
        if host != "127.0.0.1":
            asked.append(host)
        return await look_up("127.0.0.1", port)

    monkeypatch.setattr(connecting, "look_up", numeric)
    return asked


@pytest.mark.parametrize(
    ("greeting", "answer", "look"),
    [
        (GREETING, b"250-odd.test\r\n250 SIZE\r\n", "plain"),
        (b"554 5.7.1 no service for you\r\n", b"250 odd.test\r\n", None),
        (b"421 4.3.2 come again\r\n", b"250 odd.test\r\n", None),
        (GREETING, b"501 5.5.4 what a name\r\n", None),
        (GREETING, b"421 4.7.0 too many connections\r\n", None),
        (GREETING, b"550 5.7.1 go away\r\n", None),
    ],
    ids=["plain", "554", "421", "EHLO 501", "EHLO 421", "EHLO 550"],
)
@both_loops
def test_a_relay_that_turns_us_away_has_not_said_what_it_speaks(greeting, answer, look, loop):
    async def main() -> Findings:
        async with answering(others(answer, []), greeting) as port:
            return await look_at(port)

    assert run(main(), loop).look == look


@pytest.mark.parametrize(
    ("host", "wished", "said"),
    [
        ("box", None, b"EHLO [127.0.0.1]\r\n"),
        ("box.example.org", None, b"EHLO box.example.org\r\n"),
        ("box", "mailer.example.org", b"EHLO mailer.example.org\r\n"),
    ],
)
def test_it_calls_itself_what_a_session_does(host, wished, said, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    commands: list[bytes] = []

    async def main() -> None:
        async with answering(others(b"250 odd.test\r\n", commands)) as port:
            await look_at(port, name=wished)

    run(main())
    assert commands[0] == said


def test_it_asks_for_no_name_again(no_names):
    async def main() -> Findings:
        async with relay(Script(starttls=True)) as there:
            return await look_at(there.port, use_ssl=True)

    found = run(main())
    assert (found.look, no_names) == ("starttls", [])
    assert found.tls is not None


def test_what_goes_wrong_in_it_is_logged_and_nothing_is_known(monkeypatch, caplog):
    def broken(_: object) -> dict[str, Any]:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(detective.certificate, "tls_facts", broken)

    async def main() -> Findings:
        async with relay(Script(starttls=True)) as there:
            return await look_at(there.port, use_ssl=True)

    with caplog.at_level(logging.ERROR):
        assert run(main()).look is None
    assert "second look" in caplog.text
