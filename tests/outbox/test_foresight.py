"""What the relay is known to be unable to take is refused before it is queued."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

import relaying
from keyrelay.chaos.relay import ChaosRelay
from keyrelay.errors import BadInput, Violation
from keyrelay.outbox import foresight
from keyrelay.outbox.foresight import Foresight
from keyrelay.outbox.letter import Letter
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import SmtpProfile
from keyrelay.relay.mailing import Mailer
from keyrelay.relay.model import Content, Envelope

TAG = "1-0"
PLAIN = b"Subject: hello\r\n\r\nOne line.\r\n"
EIGHT_BIT = (
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    b"\r\n" + "Grüße\r\n".encode()
)
FULL = ("PIPELINING", "SIZE 20000000", "8BITMIME", "SMTPUTF8")
WITHOUT_SMTPUTF8, WITHOUT_8BITMIME = ("SIZE", "8BITMIME"), ("SIZE 2000", "PIPELINING")
LARGE = 1024 * 1024


def letter(content: bytes = PLAIN, *, utf8: bool = False) -> Letter:
    return Letter(
        Envelope("pki@example.org", ("ops@example.org",)), Content(content), utf8, not content.isascii(), "<1@x>"
    )


def of_size(octets: int) -> Letter:
    head = b"Subject: x\r\n\r\n"
    lines, rest = divmod(octets - len(head) - 2, 100)
    return letter(head + (b"x" * 98 + b"\r\n") * lines + b"x" * rest + b"\r\n")


SPECIAL = letter(utf8=True)


class Node:
    """A mailer, what foresees its relay's refusals, and a clock that stands until it is moved."""

    def __init__(self, port: int, mode: str | None = None) -> None:
        self.now = 1000.0
        self.profile: SmtpProfile | None = relaying.profile(port)
        self.mailer = Mailer(self._snapshot, relaying.as_given(), relaying.terms())
        reader: Any = None if mode is None else SimpleNamespace(rows=self._rows)
        self.foresight = Foresight(self.mailer, reader, clock=lambda: self.now)
        self._mode = mode
        self.tag = TAG

    async def _snapshot(self) -> Snapshot:
        revision = int(self.tag.partition("-")[0])
        return Snapshot(revision, self.profile, None, None, None, {})

    async def _rows(self, *_: object) -> list[tuple[str]]:
        return [(json.dumps({"mode": self._mode} if self._mode else {}),)]

    async def require(self, *letters: Letter) -> None:
        await asyncio.gather(*(self.foresight.require(one, self.tag) for one in letters))

    async def refusal(self, one: Letter) -> Violation:
        with pytest.raises(BadInput) as refused:
            await self.require(one)
        (violation,) = refused.value.violations
        assert violation.field == "message"
        return violation


Story = Callable[[Node, ChaosRelay], Coroutine[Any, Any, None]]


def play(story: Story, *, mode: str | None = None, **rules: Any) -> None:
    async def whole() -> None:
        async with relaying.relay(**rules) as relay:
            node = Node(relay.port, mode)
            try:
                await story(node, relay)
            finally:
                await node.mailer.close()

    relaying.run(whole())


@pytest.mark.parametrize("one", [letter(), of_size(LARGE - 1)], ids=["small", "just small enough"])
def test_an_ordinary_message_asks_the_relay_nothing(one):
    async def story(node: Node, relay: ChaosRelay) -> None:
        await node.require(one)
        assert relay.connections == 0

    play(story, extensions=())


@pytest.mark.parametrize("one", [SPECIAL, letter(EIGHT_BIT), of_size(LARGE)], ids=["SMTPUTF8", "8 bit", "large"])
def test_a_message_that_needs_something_is_taken_by_a_relay_that_has_it(one):
    async def story(node: Node, relay: ChaosRelay) -> None:
        await node.require(one)
        assert relay.connections == 1
        await node.require(one)
        assert relay.connections == 1
        assert not [line for _, line in relay.commands if line.upper().startswith("MAIL")]

    play(story, extensions=FULL)


@pytest.mark.parametrize(
    ("one", "extensions", "code", "words"),
    [
        (SPECIAL, WITHOUT_SMTPUTF8, "smtputf8_not_offered", "SMTPUTF8"),
        (letter(b"DKIM-Signature: v=1\r\n" + EIGHT_BIT), WITHOUT_8BITMIME, "8bitmime_not_offered", "8BITMIME"),
        (letter("Subject: Grüße\r\n\r\nx\r\n".encode()), WITHOUT_8BITMIME, "8bitmime_not_offered", "8BITMIME"),
        (of_size(LARGE + 1), ("SIZE 1048576",), "too_large_for_relay", "1048577 bytes"),
        (letter(EIGHT_BIT + b"\xc3\xbc" * 490 + b"\r\n"), ("SIZE 1200",), "too_large_for_relay", "1200"),
    ],
    ids=["SMTPUTF8", "signed", "8 bit in the head", "too large", "too large once it is encoded"],
)
def test_what_the_relay_cannot_take_is_refused_with_one_violation(one, extensions, code, words):
    async def story(node: Node, relay: ChaosRelay) -> None:
        violation = await node.refusal(one)
        assert violation.code == code
        assert words in violation.message
        assert relay.accepted == 0

    play(story, extensions=extensions)


def test_eight_bits_are_no_trouble_where_they_can_be_encoded():
    async def story(node: Node, relay: ChaosRelay) -> None:
        await node.require(letter(EIGHT_BIT))
        assert relay.connections == 1

    play(story, extensions=WITHOUT_8BITMIME)


@pytest.mark.parametrize("extensions", [("SIZE",), ("SIZE 0",), ()])
def test_a_relay_that_names_no_size_takes_every_size(extensions):
    async def story(node: Node, relay: ChaosRelay) -> None:
        await node.require(of_size(LARGE + 1))
        assert relay.connections == 1

    play(story, extensions=extensions)


def test_a_size_that_is_known_holds_for_small_messages_too():
    async def story(node: Node, relay: ChaosRelay) -> None:
        await node.require(of_size(2001))
        await node.mailer.probe()
        await node.require(of_size(2000))
        assert (await node.refusal(of_size(2001))).code == "too_large_for_relay"

    play(story, extensions=("SIZE 2000",))


def test_many_who_wait_share_one_question():
    async def story(node: Node, relay: ChaosRelay) -> None:
        await node.require(*[SPECIAL] * 20)
        assert relay.connections == 1

    play(story, extensions=FULL, delay=0.05)


@pytest.mark.parametrize("rules", [{"silent": True}, {"stall": "ehlo"}, {"drip": 0.5}], ids=str)
def test_a_relay_that_does_not_answer_is_waited_for_briefly_and_once(monkeypatch, rules):
    monkeypatch.setattr(foresight, "_PATIENCE", 0.2)

    async def story(node: Node, relay: ChaosRelay) -> None:
        async with asyncio.timeout(5):
            await node.require(*[SPECIAL] * 50)
            await node.require(SPECIAL)
        assert relay.connections == 1
        node.now += 61
        await node.require(SPECIAL)
        assert relay.connections == 2

    play(story, **rules)


@pytest.mark.parametrize("rules", [{"close": "greeting"}, {"replies": {"ehlo": "421 busy"}}], ids=str)
def test_what_cannot_be_known_now_is_taken_in(rules):
    async def story(node: Node, relay: ChaosRelay) -> None:
        await node.require(SPECIAL, of_size(LARGE), letter(EIGHT_BIT))
        assert relay.connections > 0

    play(story, **rules)


def test_a_relay_that_is_not_there_is_no_obstacle():
    async def story(node: Node, relay: ChaosRelay) -> None:
        await relay.stop()
        await node.require(SPECIAL)

    play(story)


def test_a_relay_that_has_learned_something_is_believed_after_a_minute():
    then = (relaying.Script(extensions=FULL),)

    async def story(node: Node, relay: ChaosRelay) -> None:
        await node.refusal(SPECIAL)
        await node.mailer._pool.close()  # its session has been idle for too long
        node.mailer._pool = type(node.mailer._pool)()
        await node.refusal(SPECIAL)
        assert relay.connections == 1
        node.now += 61
        await node.require(SPECIAL)
        assert relay.connections == 2

    play(story, extensions=WITHOUT_SMTPUTF8, then=then)


def test_a_new_profile_is_another_relay():
    async def story(node: Node, relay: ChaosRelay) -> None:
        await node.refusal(SPECIAL)
        async with relaying.relay(extensions=FULL) as another:
            node.profile, node.tag = relaying.profile(another.port), "2-0"
            await node.require(SPECIAL)
            assert another.connections == 1

    play(story, extensions=WITHOUT_SMTPUTF8)


@pytest.mark.parametrize(("mode", "asks"), [("open", 1), ("", 1), ("slowed", 0), ("paused", 0)])
def test_an_outbox_that_is_not_open_asks_the_relay_nothing(mode, asks):
    async def story(node: Node, relay: ChaosRelay) -> None:
        await node.require(letter(EIGHT_BIT))
        assert relay.connections == asks

    play(story, mode=mode, extensions=FULL)
