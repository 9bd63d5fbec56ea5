"""Messages on an open session: what is written when, what each answer means, and what is left when it goes wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import Script
from keyrelay.relay.model import Evidence
from keyrelay.relay.opening import open_session
from keyrelay.relay.session import Session
from relaying import (
    ANONYMOUS,
    CHUNKED,
    CONTENT,
    OFFERS,
    PIPELINED,
    PLAIN,
    Converse,
    answering,
    both_loops,
    envelope,
    evidence_of,
    profile,
    relay,
    run,
    send_once,
    serving,
    session,
    terms,
    until,
)

STALL = 0.4  # seconds of patience with a relay that never answers
LARGE = CONTENT + b"A line of the large one.\r\n" * 4000  # beyond 64 KiB
HUGE = CONTENT + b"A line of the huge one.\r\n" * 400_000  # beyond what the system buffers
NOBODY = "550 5.1.1 nobody of that name"
offers = pytest.mark.parametrize("extensions", OFFERS.values(), ids=OFFERS)


def flights(there: ChaosRelay, *, after: str = "EHLO") -> list[tuple[str, ...]]:
    """What arrived together, after the hello."""
    heard = [verbs for _, verbs in there.flights]
    return heard[max(place for place, verbs in enumerate(heard) if after in verbs) + 1 :]


async def failing(script: Script, content: bytes = CONTENT, *to: str, reply: float = 10.0) -> Evidence:
    """Why a message on a fresh session got no answer."""
    async with relay(script) as there:
        opened = await open_session(profile(there.port), ANONYMOUS, terms(reply=reply))
        try:
            return await evidence_of(opened.send(envelope(*to), content))
        finally:
            opened.wire.abort()
            await until(lambda: not there.open)


# --- What is written when ------------------------------------------------------------------------------------


@both_loops
def test_with_pipelining_mail_rcpt_and_data_are_one_write(loop):
    async def main() -> None:
        async with relay(extensions=PIPELINED) as there:
            delivery = await send_once(there.port, to=("a@b.test", "c@d.test"))
            assert flights(there) == [("MAIL", "RCPT", "RCPT", "DATA"), (".",), ("QUIT",)]
            assert delivery.round_trips == 2
            assert there.mistakes == []

    run(main(), loop)


@both_loops
def test_without_pipelining_each_command_waits_for_its_answer(loop):
    async def main() -> None:
        async with relay(extensions=PLAIN, delay=0.005) as there:
            delivery = await send_once(there.port, to=("a@b.test", "c@d.test"))
            assert flights(there) == [("MAIL",), ("RCPT",), ("RCPT",), ("DATA",), (".",), ("QUIT",)]
            assert delivery.round_trips == 5
            assert there.mistakes == []

    run(main(), loop)


@both_loops
def test_with_chunking_too_a_message_is_one_write(loop):
    async def main() -> None:
        async with relay(extensions=CHUNKED) as there:
            delivery = await send_once(there.port, to=("a@b.test", "c@d.test"))
            assert flights(there) == [("MAIL", "RCPT", "RCPT", "BDAT"), ("QUIT",)]
            assert delivery.round_trips == 1
            assert there.messages[0].content == CONTENT
            assert there.mistakes == []

    run(main(), loop)


@both_loops
def test_chunking_without_pipelining_pipelines_nothing(loop):
    async def main() -> None:
        async with relay(extensions=("CHUNKING", *PLAIN), delay=0.005) as there:
            delivery = await send_once(there.port)
            assert flights(there) == [("MAIL",), ("RCPT",), ("BDAT",), ("QUIT",)]
            assert delivery.round_trips == 3
            assert there.mistakes == []

    run(main(), loop)


@both_loops
def test_a_large_message_waits_until_somebody_is_known_to_want_it(loop):
    async def main() -> None:
        async with relay(extensions=CHUNKED) as there:
            delivery = await send_once(there.port, LARGE)
            assert flights(there)[0] == ("MAIL", "RCPT")
            assert delivery.round_trips == 2
            assert there.messages[0].content == LARGE

    run(main(), loop)


@both_loops
def test_a_large_message_that_nobody_wants_is_not_sent(loop):
    async def main() -> None:
        async with relay(extensions=CHUNKED, replies={"rcpt": NOBODY}) as there:
            delivery = await send_once(there.port, LARGE)
            assert flights(there) == [("MAIL", "RCPT"), ("QUIT",)]
            assert delivery.data is None

    run(main(), loop)


@both_loops
@pytest.mark.parametrize(("extensions", "trips"), [(PIPELINED, 2), (CHUNKED, 1)], ids=["pipelining", "chunking"])
def test_a_message_on_a_warm_session_50_ms_away_costs_no_more_round_trips_than_it_must(extensions, trips, loop):
    async def main() -> None:
        async with relay(extensions=extensions, delay=0.025) as there:
            async with session(there.port) as opened:
                await opened.send(envelope(), CONTENT)
                before = len(there.flights)
                delivery = await opened.send(envelope("a@b.test", "c@d.test"), CONTENT)
                assert delivery.accepted == ("a@b.test", "c@d.test")
                assert delivery.round_trips == trips
                assert len(there.flights) - before == trips
            assert there.mistakes == []

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("starttls", [False, True])
def test_many_messages_and_recipients_go_over_one_connection(starttls, loop):
    everybody = tuple(f"somebody-{number}@example.org" for number in range(200))

    async def main() -> None:
        async with relay(extensions=PIPELINED, starttls=starttls) as there:
            async with session(there.port) as opened:
                for _ in range(20):
                    assert (await opened.send(envelope(*everybody), LARGE)).accepted == everybody
            assert there.connections == 1
            assert {message.recipients for message in there.messages} == {everybody}
            assert there.mistakes == []

    run(main(), loop)


# --- What arrives --------------------------------------------------------------------------------------------

lines = st.lists(st.sampled_from([b"", b".", b"..", b".x", b"x.", b"text", b". .", b"\t.", b"x" * 998]), max_size=8)


@offers
@given(contents=st.lists(lines.map(lambda found: b"".join(line + b"\r\n" for line in found) or b"\r\n"), max_size=4))
@settings(max_examples=40)
def test_a_message_arrives_byte_for_byte_whatever_its_dots(extensions, contents):
    async def main() -> None:
        async with relay(extensions=extensions) as there:
            async with session(there.port) as opened:
                for content in contents:
                    assert (await opened.send(envelope(), content)).accepted
            assert [message.content for message in there.messages] == contents
            assert there.mistakes == []

    run(main())


@both_loops
@offers
@pytest.mark.parametrize("content", [LARGE, HUGE], ids=["large", "huge"])
def test_large_messages_arrive_byte_for_byte(extensions, content, loop):
    async def main() -> None:
        async with relay(extensions=(*extensions[:-3], "SIZE 60000000", "8BITMIME"), starttls=True) as there:
            assert (await send_once(there.port, content)).accepted
            assert there.messages[0].content == content

    run(main(), loop)


@pytest.mark.parametrize(
    "content",
    [b"", b"no end", b"bare\nfeed\r\n", b"bare\rreturn\r\n", b"x\r\n.\n\r\n", b"x\n.\r\n", b"x\r\r\n", b"x\r"],
)
@offers
def test_line_ends_that_could_smuggle_a_message_never_leave(content, extensions):
    async def main() -> None:
        async with relay(extensions=extensions) as there:
            async with session(there.port) as opened:
                with pytest.raises(ValueError, match="CRLF"):
                    await opened.send(envelope(), content)
                assert (await opened.send(envelope(), CONTENT)).accepted
            assert [message.content for message in there.messages] == [CONTENT]
            assert there.mistakes == []

    run(main())


@pytest.mark.parametrize(
    ("extensions", "content", "utf8", "parameters"),
    [
        ((), CONTENT, False, ""),
        (("SIZE",), CONTENT, False, f"SIZE={len(CONTENT)}"),
        (("SIZE 0",), CONTENT, False, f"SIZE={len(CONTENT)}"),
        (("SIZE 1000",), CONTENT, False, f"SIZE={len(CONTENT)}"),
        (("SIZE not-a-number"), CONTENT, False, ""),
        (("8BITMIME",), CONTENT, False, ""),
        (("8BITMIME",), "Subject: h\u00e9\r\n\r\n".encode(), False, "BODY=8BITMIME"),
        (("8BITMIME", "SMTPUTF8"), CONTENT, True, "SMTPUTF8"),
        (PLAIN, "Subject: h\u00e9\r\n\r\n".encode(), True, "SIZE=16 BODY=8BITMIME SMTPUTF8"),
    ],
)
def test_mail_has_the_parameters_that_are_offered_and_needed_and_no_others(extensions, content, utf8, parameters):
    extensions = () if isinstance(extensions, str) else extensions

    async def main() -> None:
        async with relay(extensions=extensions) as there, session(there.port) as opened:
            sender = "gr\u00fc\u00dfe@example.org" if utf8 else "pki@example.org"
            delivery = await opened.send(envelope(sender=sender), content, needs_smtputf8=utf8)
            assert delivery.accepted
            assert there.messages[0].mail_parameters == parameters
            assert there.mistakes == []

    run(main())


@offers
def test_a_message_beyond_the_relays_size_is_refused_without_a_word(extensions):
    async def main() -> None:
        limited = (*(name for name in extensions if not name.startswith("SIZE")), "SIZE 100")
        async with relay(extensions=limited) as there:
            async with session(there.port) as opened:
                evidence = await evidence_of(opened.send(envelope(), CONTENT * 10))
                assert (evidence.stage, evidence.kind) == ("sender", "too_large")
                assert evidence.facts == {"size": len(CONTENT) * 10, "limit": 100}
                assert (await opened.send(envelope(), CONTENT)).accepted
            assert len([line for _, line in there.commands if line.startswith("MAIL")]) == 1

    run(main())


def test_a_message_that_needs_smtputf8_is_not_sent_where_it_is_not_offered():
    async def main() -> None:
        async with relay(extensions=("PIPELINING",)) as there, session(there.port) as opened:
            evidence = await evidence_of(opened.send(envelope(), CONTENT, needs_smtputf8=True))
            assert (evidence.stage, evidence.kind, evidence.detail) == ("sender", "not_offered", "SMTPUTF8")
            assert not [line for _, line in there.commands if line.startswith("MAIL")]

    run(main())


# --- Refusals ------------------------------------------------------------------------------------------------


@both_loops
@offers
@pytest.mark.parametrize("reply", ["550 5.7.1 not you", "432 4.3.2 slow down", "452 4.3.1 disk full"])
def test_a_refused_sender_is_the_relays_word_and_the_session_goes_on(reply, extensions, loop):
    async def main() -> None:
        # The second message's MAIL gets the same answer: the session is asked, and not given up.
        async with relay(extensions=extensions, replies={"mail": reply}) as there:
            async with session(there.port) as opened:
                for _ in range(2):
                    delivery = await opened.send(envelope("a@b.test", "c@d.test"), CONTENT)
                    assert str(delivery.sender) == reply
                    assert delivery.accepted == ()
                    assert delivery.evidence() == Evidence("sender", "reply", delivery.sender)
                    assert delivery.data is None
            assert there.messages == []
            assert there.connections == 1

    run(main(), loop)


@both_loops
@offers
def test_some_refused_recipients_do_not_keep_the_others_from_their_mail(extensions, loop):
    refused = {"bad@b.test": NOBODY, "slow@b.test": "450 4.2.1 greylisted", "full@b.test": "452 4.2.2 full"}

    async def main() -> None:
        async with relay(extensions=extensions, rcpt_replies=refused) as there:
            async with session(there.port) as opened:
                everybody = ("bad@b.test", "good@b.test", "slow@b.test", "fine@b.test", "full@b.test")
                delivery = await opened.send(envelope(*everybody), CONTENT)
                assert delivery.accepted == ("good@b.test", "fine@b.test")
                assert [address for address, _ in delivery.recipients] == list(everybody)
                said = {address: str(reply) for address, reply in delivery.recipients if not reply.positive}
                assert said == refused
                assert delivery.evidence() is None
            assert [message.recipients for message in there.messages] == [("good@b.test", "fine@b.test")]
            assert there.mistakes == []

    run(main(), loop)


@both_loops
@offers
def test_all_refused_recipients_mean_that_nothing_is_sent(extensions, loop):
    async def main() -> None:
        refused = {"bad@b.test": NOBODY, "worse@b.test": "550 5.7.1 not from you"}
        async with relay(extensions=extensions, rcpt_replies=refused) as there:
            async with session(there.port) as opened:
                delivery = await opened.send(envelope(*refused), CONTENT)
                assert delivery.data is None
                assert delivery.accepted == ()
                evidence = delivery.evidence()
                assert (evidence.stage, str(evidence.reply)) == ("recipient", NOBODY)
                assert evidence.facts == {"recipient": "bad@b.test"}
                assert (await opened.send(envelope("good@b.test"), CONTENT)).accepted == ("good@b.test",)
            assert [message.recipients for message in there.messages] == [("good@b.test",)]
            assert there.connections == 1

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("data", ["354 go on", "554 5.5.1 no valid recipients", "503 5.5.1 RCPT first"])
def test_data_that_nobody_wants_any_more_is_ended_at_once(data, loop):
    """RFC 2920 section 3.1: a 354 may come though every recipient was refused; then nothing but the dot follows."""

    async def main() -> None:
        async with relay(extensions=PIPELINED, replies={"rcpt": NOBODY, "data": data}) as there:
            async with session(there.port) as opened:
                delivery = await opened.send(envelope(), CONTENT)
                assert delivery.data is None
                assert delivery.accepted == ()
                sent = [verbs for verbs in flights(there) if "." in verbs]
                assert sent == ([(".",)] if data.startswith("354") else [])
                assert (await opened.try_envelope(envelope())).evidence().reply.code == 550
            assert [message.content for message in there.messages] == ([b""] if data.startswith("354") else [])

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("verb", [b"MAIL", b"RCPT"])
def test_a_relay_that_refuses_and_asks_for_the_message_all_the_same_gets_none(verb, loop):
    heard: list[bytes] = []

    def answer(line: bytes) -> bytes:
        heard.append(line)
        if line.startswith(verb):
            return b"550 5.7.1 no\r\n"
        said = {b"EHLO": b"250-odd.test\r\n250 PIPELINING\r\n", b"DATA": b"354 go on\r\n", b".\r\n": b"250 taken\r\n"}
        return said.get(line[:4], b"250 ok\r\n")

    async def main() -> None:
        async with answering(answer) as port, session(port) as opened:
            delivery = await opened.send(envelope(), CONTENT)
            assert delivery.accepted == ()
            assert delivery.data is None
            assert heard[heard.index(b"DATA\r\n") + 1 :] == [b".\r\n"]

    run(main(), loop)


@both_loops
@offers
@pytest.mark.parametrize("stage", ["data", "body"])
@pytest.mark.parametrize("reply", ["554 5.7.1 spam", "552 5.2.2 full", "450 4.7.1 later", "421 4.3.2 going down"])
def test_a_refused_message_is_the_relays_word_for_every_recipient(stage, reply, extensions, loop):
    if "CHUNKING" in extensions:
        stage = "bdat"

    async def main() -> None:
        async with relay(extensions=extensions, replies={stage: reply}) as there:
            opened = await open_session(profile(there.port), ANONYMOUS, terms())
            delivery = await opened.send(envelope("a@b.test", "c@d.test"), CONTENT)
            assert str(delivery.data) == reply
            assert delivery.accepted == ()
            assert delivery.evidence() == Evidence("data", "reply", delivery.data)
            await opened.quit()
            await until(lambda: not there.open)

    run(main(), loop)


@both_loops
@offers
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
def test_a_relay_that_says_421_and_hangs_up_is_quoted(stage, extensions, loop):
    """Commands behind the 421 get no answer; that is no reason to forget the one that came."""
    if stage == "data" and "CHUNKING" in extensions:
        stage = "bdat"

    async def main() -> None:
        async with relay(extensions=extensions, replies={stage: "421 4.3.2 going down"}) as there:
            opened = await open_session(profile(there.port), ANONYMOUS, terms())
            try:
                delivery = await opened.send(envelope("a@b.test", "c@d.test"), CONTENT)
            finally:
                opened.wire.abort()
            assert delivery.accepted == ()
            assert str(delivery.evidence().reply) == "421 4.3.2 going down"
            assert delivery.evidence().stage == {"mail": "sender", "rcpt": "recipient"}.get(stage, "data")

    run(main(), loop)


# --- Nobody gets mail ----------------------------------------------------------------------------------------


@both_loops
@offers
def test_an_envelope_that_is_only_tried_mails_nobody_and_leaves_the_session_usable(extensions, loop):
    async def main() -> None:
        async with relay(extensions=extensions, rcpt_replies={"bad@b.test": NOBODY}) as there:
            async with session(there.port) as opened:
                for _ in range(2):
                    delivery = await opened.try_envelope(envelope("good@b.test", "bad@b.test"))
                    assert [reply.code for _, reply in delivery.recipients] == [250, 550]
                    assert delivery.accepted == ()
                assert (await opened.send(envelope(), CONTENT)).accepted
            verbs = [line.split()[0] for _, line in there.commands]
            assert verbs.count("RSET") == 2
            assert verbs.count("DATA") + verbs.count("BDAT") == 1
            assert len(there.messages) == 1
            assert there.mistakes == []

    run(main(), loop)


# --- Connections that stall or end ---------------------------------------------------------------------------

STAGES = [("mail", "sender"), ("rcpt", "recipient"), ("data", "data")]


@both_loops
@pytest.mark.parametrize("extensions", [PLAIN, PIPELINED], ids=["plain", "pipelining"])
@pytest.mark.parametrize(("stage", "ours"), STAGES)
def test_a_stall_before_the_message_is_a_time_out_at_that_stage(stage, ours, extensions, loop):
    evidence = run(failing(Script(extensions=extensions, stall=stage), reply=STALL), loop)
    assert (evidence.stage, evidence.kind) == (ours, "timeout")


@both_loops
@pytest.mark.parametrize("extensions", [PLAIN, PIPELINED], ids=["plain", "pipelining"])
@pytest.mark.parametrize("how", ["{}", "mid:{}"])
@pytest.mark.parametrize(("stage", "ours"), STAGES)
def test_a_connection_that_ends_before_the_message_is_closed_at_that_stage(stage, ours, how, extensions, loop):
    evidence = run(failing(Script(extensions=extensions, close=how.format(stage))), loop)
    assert (evidence.stage, evidence.kind) == (ours, "closed")


@both_loops
@offers
@pytest.mark.parametrize("how", [{"close": "after-dot"}, {"close": "body"}, {"close": "mid:body"}, {"stall": "body"}])
def test_after_the_final_dot_and_before_the_answer_the_outcome_is_unknown(how, extensions, loop):
    if "CHUNKING" in extensions:
        how = {name: value.replace("body", "bdat") for name, value in how.items()}
    evidence = run(failing(Script(extensions=extensions, **how), reply=STALL if "stall" in how else 10.0), loop)
    assert (evidence.stage, evidence.kind) == ("data", "outcome_unknown")


@both_loops
@pytest.mark.parametrize("reply", ["what was that?", "25", "9999", ("250 yes", "and no")])
@pytest.mark.parametrize("extensions", [PIPELINED, CHUNKED], ids=["pipelining", "chunking"])
def test_garbage_instead_of_the_last_answer_leaves_the_outcome_unknown_too(reply, extensions, loop):
    stage = "bdat" if "CHUNKING" in extensions else "body"
    evidence = run(failing(Script(extensions=extensions, replies={stage: reply})), loop)
    assert (evidence.stage, evidence.kind) == ("data", "outcome_unknown")


@both_loops
@pytest.mark.parametrize("how", [{"close": "mail"}, {"close": "mid:rcpt"}, {"stall": "mail"}, {"stall": "rcpt"}])
def test_with_the_whole_message_in_one_write_any_silence_leaves_the_outcome_unknown(how, loop):
    """The relay has everything; that it said nothing yet does not mean that it did nothing."""
    evidence = run(failing(Script(extensions=CHUNKED, **how), reply=STALL if "stall" in how else 10.0), loop)
    assert (evidence.stage, evidence.kind) == ("data", "outcome_unknown")


@both_loops
def test_a_message_that_was_taken_whole_before_the_connection_ended_is_not_called_unsent(loop):
    """The case behind the one above: a relay that answers a flight at once, and is lost before it does."""
    taken: list[bytes] = []

    def answer(line: bytes) -> bytes | None:
        if line.startswith(b"EHLO"):
            return b"250-odd.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
        taken.append(line)
        return None if line == b"One line.\r\n" else b""

    async def main() -> None:
        async with answering(answer) as port:
            opened = await open_session(profile(port), ANONYMOUS, terms())
            evidence = await evidence_of(opened.send(envelope(), CONTENT))
            opened.wire.abort()
            assert b"".join(taken).endswith(CONTENT)
            assert evidence.kind == "outcome_unknown"

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("last", [b"MAIL", b"RCPT"])
def test_a_refusal_that_came_before_the_end_makes_the_outcome_known(last, loop):
    """With MAIL refused, or every RCPT, whatever came of the rest of the flight: nobody has got the message."""

    def answer(line: bytes) -> bytes | None:
        if line.startswith(b"EHLO"):
            return b"250-odd.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
        if line.startswith(last):
            return b"550 5.7.1 no\r\n"
        return None if line == b"One line.\r\n" else b"250 ok\r\n" if line.startswith(b"MAIL") else b""

    async def main() -> None:
        async with answering(answer) as port:
            opened = await open_session(profile(port), ANONYMOUS, terms())
            try:
                delivery = await opened.send(envelope(), CONTENT)
            finally:
                opened.wire.abort()
            assert delivery.accepted == ()
            assert str(delivery.evidence().reply) == "550 5.7.1 no"

    run(main(), loop)


def until_the_message(extensions: tuple[str, ...]) -> Converse:
    """A conversation up to the first line of the message, or of its announcement by BDAT."""
    offered = b"".join(b"250-%s\r\n" % name.encode() for name in extensions if not name.startswith("SIZE"))
    said = {b"EHLO": b"250-odd.test\r\n" + offered + b"250 HELP\r\n", b"DATA": b"354 go on\r\n"}

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 odd.test\r\n")
        while (line := await reader.readline())[:4] not in {b"BDAT", b"Subj"}:
            assert line
            writer.write(said.get(line[:4], b"250 ok\r\n"))

    return converse


@asynccontextmanager
async def odd(converse: Converse, reply: float = 10.0) -> AsyncIterator[Session]:
    """A session with a relay that converses like that; it is cut in the end."""
    async with serving(converse) as port:
        opened = await open_session(profile(port), ANONYMOUS, terms(reply=reply))
        try:
            yield opened
        finally:
            opened.wire.abort()


@both_loops
@pytest.mark.parametrize("extensions", [PIPELINED, CHUNKED], ids=["pipelining", "chunking"])
def test_a_connection_that_ends_within_a_huge_message_has_not_delivered_it(extensions, loop):
    """The final dot, or the last byte of the chunk, has never left."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await until_the_message(extensions)(reader, writer)
        await asyncio.sleep(0.1)
        writer.transport.abort()

    async def main() -> None:
        async with odd(converse) as opened:
            # Several times what two sockets may buffer: of what they have taken nobody knows whether it arrived.
            evidence = await evidence_of(opened.send(envelope(), HUGE * 6))
            assert (evidence.stage, evidence.kind) == ("data", "closed")

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("extensions", [PIPELINED, CHUNKED], ids=["pipelining", "chunking"])
def test_a_relay_that_stops_reading_a_huge_message_is_a_time_out(extensions, loop):
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await until_the_message(extensions)(reader, writer)
        reader._transport.pause_reading()
        await asyncio.sleep(1000)

    async def main() -> None:
        async with odd(converse, reply=STALL) as opened:
            evidence = await evidence_of(opened.send(envelope(), HUGE))
            assert (evidence.stage, evidence.kind) == ("data", "timeout")

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("extensions", [PIPELINED, CHUNKED], ids=["pipelining", "chunking"])
def test_a_refusal_in_the_middle_of_a_huge_message_is_the_relays_word(extensions, loop):
    """Some relays say no as soon as they know."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await until_the_message(extensions)(reader, writer)
        writer.write(b"552 5.3.4 this is too much\r\n")
        while await reader.read(1 << 20):
            pass

    async def main() -> None:
        async with odd(converse) as opened:
            delivery = await opened.send(envelope(), HUGE)
            assert str(delivery.data) == "552 5.3.4 this is too much"
            assert delivery.accepted == ()

    run(main(), loop)


@both_loops
@offers
def test_answers_that_drip_one_byte_at_a_time_are_answers(extensions, loop):
    async def main() -> None:
        async with relay(extensions=extensions, drip=0.0005) as there:
            assert (await send_once(there.port, to=("a@b.test", "c@d.test"))).accepted == ("a@b.test", "c@d.test")

    run(main(), loop)


@both_loops
@pytest.mark.parametrize(
    "reply",
    ["what?", "25", "25 short", "250-" + "x" * 5000, "250 " + "x" * 5000, ("250 again",) * 300, "HTTP/1.1 400 Bad"],
    ids=["words", "two digits", "two digits and words", "endless line", "long line", "many lines", "another protocol"],
)
@pytest.mark.parametrize(("stage", "ours"), STAGES)
def test_what_is_no_reply_is_told_as_such_at_its_stage(stage, ours, reply, loop):
    evidence = run(failing(Script(extensions=PLAIN, replies={stage: reply})), loop)
    assert (evidence.stage, evidence.kind) == (ours, "not_smtp")


def test_a_yes_to_data_is_no_answer():
    evidence = run(failing(Script(extensions=PLAIN, replies={"data": "250 2.0.0 thanks"})))
    assert (evidence.stage, evidence.kind) == ("data", "not_smtp")


# --- Ends ----------------------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("starttls", [False, True])
def test_a_session_says_quit_and_closes(starttls, loop):
    async def main() -> None:
        async with relay(starttls=starttls) as there:
            async with session(there.port):
                pass
            assert there.commands[-1][1] == "QUIT"
            await until(lambda: not there.open)

    run(main(), loop)


@both_loops
@pytest.mark.parametrize(
    "rules",
    [{"stall": "quit"}, {"close": "quit"}, {"close": "mid:quit"}, {"replies": {"quit": "what?"}}],
    ids=["stalls", "closes", "closes within", "answers nonsense"],
)
def test_a_relay_that_does_not_say_goodbye_is_left_without_one(rules, loop):
    async def main() -> None:
        async with relay(**rules) as there:
            opened = await open_session(profile(there.port), ANONYMOUS, terms(reply=50.0))
            await opened.send(envelope(), CONTENT)
            async with asyncio.timeout(10):
                await opened.quit()
            await until(lambda: not there.open)

    run(main(), loop)


def _cancelled_at(stage: str) -> Callable[[asyncio.Task[Any], ChaosRelay], Any]:
    verb = {"body": ".", "bdat": "BDAT"}.get(stage, stage.upper())

    async def wait(sending: asyncio.Task[Any], there: ChaosRelay) -> None:
        await until(lambda: any(verb in verbs for _, verbs in there.flights) or sending.done())
        await asyncio.sleep(0.02)

    return wait


@both_loops
@pytest.mark.parametrize(
    ("extensions", "stage"),
    [*((PIPELINED, stage) for stage in ("mail", "rcpt", "data", "body")), (CHUNKED, "bdat"), (PLAIN, "rcpt")],
)
def test_a_message_that_is_cancelled_leaves_nothing_behind(extensions, stage, loop):
    async def main() -> None:
        async with relay(extensions=extensions, stall=stage) as there:
            opened = await open_session(profile(there.port), ANONYMOUS, terms())
            sending = asyncio.create_task(opened.send(envelope(), CONTENT))
            await _cancelled_at(stage)(sending, there)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            opened.wire.abort()
            await until(lambda: not there.open)

    run(main(), loop)


def test_the_words_of_recipients_are_told_apart_from_commands():
    """An address is written in angle brackets, whatever stands in it."""

    async def main() -> None:
        async with relay(extensions=PIPELINED) as there:
            await send_once(there.port, to=("o'hara+x=y@example.org", "data@example.org"))
            said = [line for _, line in there.commands if re.match("RCPT", line)]
            assert said == ["RCPT TO:<o'hara+x=y@example.org>", "RCPT TO:<data@example.org>"]

    run(main())
