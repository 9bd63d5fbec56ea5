"""Relays that answer what nobody asked, and tests whose time is up: no answer is ever taken for another's."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from keyrelay.chaos.script import Script
from keyrelay.relay.model import Envelope, Evidence, StageFailed
from keyrelay.relay.opening import open_session
from keyrelay.relay.transcript import Redactor, Transcript
from relaying import (
    ANONYMOUS,
    CHUNKED,
    CONTENT,
    OFFERS,
    PIPELINED,
    PLAIN,
    Answer,
    answering,
    both_loops,
    envelope,
    evidence_of,
    password,
    profile,
    relay,
    run,
    terms,
    until,
)

UNASKED = "an answer that nobody asked for"
offers = pytest.mark.parametrize("extensions", OFFERS.values(), ids=OFFERS)
recorded = pytest.mark.parametrize("transcript", [False, True], ids=["sent", "tested"])
# A message that is a conversation of its own, should its lines ever be taken for commands.
COMMANDS = b"Subject: x\r\n\r\nRCPT TO:<evil@example.net>\r\nDATA\r\n"


def by_verb(said: dict[str, bytes], heard: list[str], extensions: tuple[str, ...] = ()) -> Answer:
    """A relay that says this to those verbs; ``.`` is the final dot, and nothing else of a message is answered."""
    offered = b"".join(b"250-%s\r\n" % name.encode() for name in extensions)
    replies = {"EHLO": b"250-odd.test\r\n%s250 HELP\r\n" % offered, "DATA": b"354 go on\r\n", ".": b"250 taken\r\n"}
    replies |= said
    content = False

    def answer(line: bytes) -> bytes:
        nonlocal content
        verb = re.split(rb"[\s:]", line)[0].decode()
        heard.append(verb)
        if content and verb != ".":
            return b""
        content = verb == "DATA" and replies["DATA"].startswith(b"354")
        return replies.get(verb, b"250 ok\r\n")

    return answer


async def outcome(answer: Answer, transcript: bool, *, only_try: bool = False) -> Any:
    """What comes of a message, by the way that real mail takes and by that of a test: Delivery or Evidence."""
    kept = Transcript(Redactor()) if transcript else None
    async with answering(answer) as port:
        opened = await open_session(profile(port), ANONYMOUS, terms(), kept)
        try:
            came: Any = await (opened.try_envelope(envelope()) if only_try else opened.send(envelope(), COMMANDS))
        except StageFailed as failure:
            came = failure.evidence
        finally:
            opened.wire.abort()
    evidence = came if isinstance(came, Evidence) else came.evidence()
    assert kept is None or kept.stages[-1].evidence == evidence
    return came


# --- More answers than questions -----------------------------------------------------------------------------


@both_loops
@recorded
@pytest.mark.parametrize("extra", [b"250 ok\r\n354 go on\r\n", b"250 ok\r\n", b"550 no\r\n", b"2", b"250-\r\n"])
def test_answers_ahead_of_their_questions_end_the_session_before_it_goes_on(extra, transcript, loop):
    heard: list[str] = []
    evidence = run(outcome(by_verb({"MAIL": b"250 ok\r\n" + extra}, heard), transcript), loop)
    assert (evidence.stage, evidence.kind, evidence.detail) == ("recipient", "not_smtp", UNASKED)
    assert heard == ["EHLO", "MAIL"]


@both_loops
@recorded
def test_a_relay_that_refuses_data_has_not_accepted_whatever_it_said_before(transcript, loop):
    heard: list[str] = []
    said = {"MAIL": b"250 ok\r\n250 ok\r\n354 go on\r\n", "DATA": b"451 4.3.0 not now\r\n"}
    assert isinstance(run(outcome(by_verb(said, heard), transcript), loop), Evidence)
    assert "Subject" not in heard


@both_loops
@recorded
@pytest.mark.parametrize("extensions", [PLAIN, PIPELINED], ids=["plain", "pipelining"])
@pytest.mark.parametrize("extra", [b"250 taken\r\n", b"354 go on\r\n", b"25"])
def test_nothing_of_a_message_is_sent_when_its_answer_is_there_already(extra, extensions, transcript, loop):
    heard: list[str] = []
    said = {"DATA": b"354 go on\r\n" + extra}
    evidence = run(outcome(by_verb(said, heard, extensions), transcript), loop)
    assert (evidence.stage, evidence.kind, evidence.detail) == ("data", "not_smtp", UNASKED)
    assert heard == ["EHLO", "MAIL", "RCPT", "DATA"]


@both_loops
@recorded
def test_with_one_answer_too_many_nobody_knows_which_is_the_one_to_a_chunk(transcript, loop):
    """All commands and the message were one write; the refusal of the message is the fourth of three answers."""
    lines: list[bytes] = []

    def answer(line: bytes) -> bytes:
        if line.startswith(b"EHLO"):
            return b"250-odd.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
        lines.append(line)
        whole = b"".join(lines).endswith(COMMANDS)
        return b"250 ok\r\n250 ok\r\n250 ok\r\n554 5.7.1 spam\r\n" if whole else b""

    evidence = run(outcome(answer, transcript), loop)
    assert (evidence.stage, evidence.kind, evidence.detail) == ("data", "outcome_unknown", UNASKED)


@both_loops
@recorded
@pytest.mark.parametrize("extensions", [PLAIN, PIPELINED], ids=["plain", "pipelining"])
def test_an_envelope_is_not_called_accepted_by_an_answer_that_was_none(extensions, transcript, loop):
    heard: list[str] = []
    said = {"MAIL": b"250 ok\r\n250 ok\r\n", "RCPT": b"550 5.1.1 nobody\r\n"}
    evidence = run(outcome(by_verb(said, heard, extensions), transcript, only_try=True), loop)
    assert (evidence.stage, evidence.kind, evidence.detail) == ("recipient", "not_smtp", UNASKED)


@both_loops
@recorded
@pytest.mark.parametrize(
    ("verb", "stage", "extensions"),
    [("MAIL", "recipient", PLAIN), ("RCPT", "data", PLAIN), ("DATA", "data", PLAIN), ("DATA", "data", PIPELINED)],
    ids=["mail", "rcpt", "data", "data pipelined"],
)
def test_a_421_may_come_at_any_time_and_is_the_answer(verb, stage, extensions, transcript, loop):
    heard: list[str] = []
    said = {verb: (b"354 go on\r\n" if verb == "DATA" else b"250 ok\r\n") + b"421 4.3.2 going down\r\n"}
    delivery = run(outcome(by_verb(said, heard, extensions), transcript), loop)
    assert delivery.accepted == ()
    assert (delivery.evidence().stage, str(delivery.evidence().reply)) == (stage, "421 4.3.2 going down")
    assert heard[-1] == verb


@both_loops
@recorded
def test_a_421_right_behind_the_last_answer_takes_nothing_back(transcript, loop):
    heard: list[str] = []
    farewell = b"250 taken\r\n421 4.3.2 that was all\r\n"
    delivery = run(outcome(by_verb({".": farewell}, heard, PIPELINED), transcript), loop)
    assert delivery.accepted == ("ops@example.org",)


@both_loops
@offers
def test_a_session_that_was_told_more_than_it_asked_sends_nothing_more(extensions, loop):
    """``idle`` says so to whoever looks; whoever does not is not let either."""
    heard: list[str] = []
    answer = by_verb({".": b"250 taken\r\n250 and more\r\n"}, heard, [n for n in extensions if n != "CHUNKING"])

    async def main() -> None:
        async with answering(answer) as port:
            opened = await open_session(profile(port), ANONYMOUS, terms())
            assert (await opened.send(envelope(), CONTENT)).accepted
            await asyncio.sleep(0.02)
            assert not opened.idle
            evidence = await evidence_of(opened.send(envelope(), CONTENT))
            assert (evidence.stage, evidence.kind) == ("sender", "not_smtp")
            assert heard.count("MAIL") == 1
            opened.wire.abort()

    run(main(), loop)


# --- While opening -------------------------------------------------------------------------------------------


def _hello(more: bytes) -> bytes:
    return b"250-odd.test\r\n250 AUTH PLAIN LOGIN\r\n" + more


@both_loops
@pytest.mark.parametrize(
    ("said", "greeting", "stage", "last"),
    [
        ({}, b"220 odd.test\r\n250 ok\r\n", "hello", None),
        ({"EHLO": _hello(b"235 2.7.0 welcome\r\n")}, b"220 odd.test\r\n", "auth", "EHLO"),
        ({"EHLO": _hello(b"334 \r\n")}, b"220 odd.test\r\n", "auth", "EHLO"),
    ],
    ids=["greeting", "hello with a welcome", "hello with a challenge"],
)
def test_no_credentials_are_said_to_a_relay_that_answers_unasked(said, greeting, stage, last, loop):
    heard: list[str] = []

    async def main() -> None:
        made = terms(allow_insecure_sign_in=True)
        async with answering(by_verb({"EHLO": _hello(b""), **said}, heard), greeting) as port:
            evidence = await evidence_of(open_session(profile(port), password(), made))
        assert (evidence.stage, evidence.kind, evidence.detail) == (stage, "not_smtp", UNASKED)
        assert heard[-1:] == ([last] if last else [])

    run(main(), loop)


@both_loops
def test_a_password_is_not_said_before_it_is_asked_for(loop):
    heard: list[str] = []
    said = {"EHLO": b"250-odd.test\r\n250 AUTH LOGIN\r\n", "AUTH": b"334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n"}

    async def main() -> None:
        async with answering(by_verb(said, heard)) as port:
            made = terms(allow_insecure_sign_in=True)
            evidence = await evidence_of(open_session(profile(port), password(), made))
        assert (evidence.stage, evidence.kind, evidence.detail) == ("auth", "not_smtp", UNASKED)
        assert heard == ["EHLO", "AUTH"]

    run(main(), loop)


# --- A test whose time is up ---------------------------------------------------------------------------------


async def cut_off(script: Script, *, reached: Callable[[list[tuple[int, str]]], bool]) -> Evidence:
    """What a transcript says of a message that is cancelled once the relay has heard this."""
    transcript = Transcript(Redactor())
    async with relay(script) as there:
        opened = await open_session(profile(there.port), ANONYMOUS, terms(), transcript)
        sending = asyncio.create_task(opened.send(envelope(), CONTENT))
        await until(lambda: reached([(number, verb) for number, verbs in there.flights for verb in verbs]))
        await asyncio.sleep(0.02)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        opened.wire.abort()
        await until(lambda: not there.open)
    failed = [report.evidence for report in transcript.stages if report.evidence is not None]
    assert failed == [transcript.stages[-1].evidence]
    return failed[0]


def _has(verb: str) -> Callable[[list[tuple[int, str]]], bool]:
    return lambda verbs: any(said == verb for _, said in verbs)


@both_loops
@pytest.mark.parametrize(
    ("extensions", "stall", "last"),
    [(PLAIN, "body", "."), (PIPELINED, "body", "."), (CHUNKED, "bdat", "BDAT"), (CHUNKED, "mail", "MAIL")],
    ids=["plain", "pipelining", "chunking", "chunking without a word"],
)
def test_when_time_is_up_after_the_whole_message_was_sent_the_outcome_is_unknown(extensions, stall, last, loop):
    evidence = run(cut_off(Script(extensions=extensions, stall=stall), reached=_has(last)), loop)
    assert (evidence.stage, evidence.kind) == ("data", "outcome_unknown")


@both_loops
@pytest.mark.parametrize(("stall", "stage"), [("mail", "sender"), ("rcpt", "recipient"), ("data", "data")])
def test_when_time_is_up_before_that_it_is_a_time_out_that_knows_of_the_whole_test(stall, stage, loop):
    evidence = run(cut_off(Script(extensions=PLAIN, stall=stall), reached=_has(stall.upper())), loop)
    assert (evidence.stage, evidence.kind) == (stage, "timeout")
    assert "whole_test" in evidence.facts


# --- Goodbyes ------------------------------------------------------------------------------------------------


@both_loops
def test_a_goodbye_that_is_cancelled_leaves_no_connection(loop):
    async def main() -> None:
        async with relay(stall="quit") as there:
            opened = await open_session(profile(there.port), ANONYMOUS, terms())
            leaving = asyncio.create_task(opened.quit())
            await until(lambda: any("QUIT" in verbs for _, verbs in there.flights))
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            await until(lambda: not there.open)

    run(main(), loop)


def test_an_envelope_has_a_recipient():
    with pytest.raises(ValueError, match="recipient"):
        Envelope("pki@example.org", ())
