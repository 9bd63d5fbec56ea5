"""From nothing to a session: greeting, hello and TLS, and every way in which a relay spoils them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from keyrelay.chaos.script import Script
from keyrelay.relay.model import Evidence
from keyrelay.relay.opening import Terms, open_session
from keyrelay.relay.sign_in import Credentials
from keyrelay.relay.transcript import Redactor, StageReport, Transcript
from relaying import (
    ANONYMOUS,
    CONTENT,
    PASSWORD,
    USER,
    answering,
    both_loops,
    certificates,
    envelope,
    evidence_of,
    implicit_tls_at,
    password,
    profile,
    relay,
    run,
    serving,
    session,
    terms,
    until,
)

STALL = 0.4  # seconds of patience with a relay that never answers
SIGNED_IN = {"auth": ("PLAIN",), "users": {USER: PASSWORD}}
BAD_CERTIFICATES = {
    "expired": "expired",
    "not_yet_valid": "not_yet_valid",
    "wrong_name": "name_mismatch",
    "unknown_ca": "unknown_issuer",
    "self_signed": "self_signed",
    "weak": "weak",
}


async def opened(
    script: Script, credentials: Credentials = ANONYMOUS, *, on: Terms | None = None, use_ssl: bool = False
) -> list[StageReport]:
    """The stages of a session that came about; one message goes through it."""
    transcript = Transcript(Redactor())
    async with relay(script) as there:
        async with session(there.port, credentials, on=on, use_ssl=use_ssl, transcript=transcript) as made:
            await made.send(envelope(), CONTENT)
        assert there.mistakes == []
        assert there.commands[-1][1] == "QUIT"
        await until(lambda: not there.open)
        return transcript.stages


async def refused(
    script: Script,
    credentials: Credentials = ANONYMOUS,
    *,
    on: Terms | None = None,
    use_ssl: bool = False,
    transcript: Transcript | None = None,
) -> Evidence:
    """Why no session came about; none of its connections stays open."""
    async with relay(script) as there:
        made = profile(there.port, use_ssl=use_ssl)
        evidence = await evidence_of(open_session(made, credentials, on or terms(), transcript))
        await until(lambda: not there.open, "a connection is still open")
        return evidence


def learned(stages: list[StageReport], stage: str) -> Any:
    return next(report.learned for report in stages if report.stage == stage)


@both_loops
def test_every_stage_says_what_it_learned(loop):
    stages = run(opened(Script(starttls=True, **SIGNED_IN), password(), use_ssl=True), loop)
    assert [(report.stage, report.verdict) for report in stages] == [
        ("resolve", "ok"),
        ("connect", "ok"),
        ("greeting", "ok"),
        ("hello", "ok"),
        ("tls", "ok"),
        ("token", "skipped"),
        ("auth", "ok"),
        ("sender", "ok"),
        ("recipient", "ok"),
        ("data", "ok"),
    ]
    assert learned(stages, "greeting") == {"greeting": "chaos.test ESMTP"}
    assert "STARTTLS" in learned(stages, "hello")["extensions"]
    tls = learned(stages, "tls")
    assert (tls["encrypted"], tls["verified"], tls["protocol"]) == (True, True, "TLSv1.3")
    assert tls["certificates"][0]["names"] == ["localhost", "127.0.0.1", "::1"]
    assert learned(stages, "auth") == {"mechanism": "PLAIN"}


@both_loops
def test_tls_from_the_first_byte_on_465(loop):
    async def main() -> None:
        async with relay(implicit_tls=True, **SIGNED_IN) as there:
            with implicit_tls_at(there.port) as port:
                async with session(port, password(), use_ssl=True) as made:
                    assert (await made.send(envelope(), CONTENT)).accepted == ("ops@example.org",)
            assert there.mistakes == []
            assert [(message.tls, message.user) for message in there.messages] == [(True, USER)]

    run(main(), loop)


@both_loops
def test_clear_text_where_tls_begins_with_the_first_byte_is_told_as_such(loop):
    async def main() -> None:
        async with relay(**SIGNED_IN) as there:
            with implicit_tls_at(there.port) as port:
                made = profile(port, use_ssl=True)
                evidence = await evidence_of(open_session(made, password(), terms()))
            assert (evidence.stage, evidence.kind) == ("tls", "not_tls")

    run(main(), loop)


@both_loops
def test_tls_where_a_greeting_is_expected_is_silence_on_both_sides(loop):
    evidence = run(refused(Script(implicit_tls=True), on=terms(reply=STALL)), loop)
    assert (evidence.stage, evidence.kind) == ("greeting", "timeout")


# --- Greeting and hello --------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize(
    ("stage", "ours", "reply"),
    [
        ("greeting", "greeting", "421 4.3.2 too busy"),
        ("greeting", "greeting", "554 5.7.1 you are on a list"),
        ("greeting", "greeting", "250 this is no greeting"),
        ("ehlo", "hello", "421 4.3.2 too busy"),
        ("ehlo", "hello", "421 4.7.0 try again later"),
        ("starttls", "tls", "454 4.7.0 TLS not available"),
        ("starttls", "tls", "501 5.5.4 no"),
        ("starttls", "tls", "421 4.3.2 too busy"),
    ],
)
def test_a_refusal_while_opening_is_reported_word_for_word(stage, ours, reply, loop):
    evidence = run(refused(Script(starttls=True, replies={stage: reply}), use_ssl=True), loop)
    assert (evidence.stage, evidence.kind) == (ours, "reply")
    assert str(evidence.reply) == reply


@both_loops
@pytest.mark.parametrize("reply", ["500 5.5.1 EHLO is unknown", "502 5.5.1 not here", "550 5.7.1 go away"])
def test_an_old_relay_is_spoken_to_with_helo(reply, loop):
    stages = run(opened(Script(replies={"ehlo": reply})), loop)
    assert learned(stages, "hello")["extensions"] == []


def test_a_relay_that_takes_neither_ehlo_nor_helo_is_quoted_with_its_first_answer():
    evidence = run(refused(Script(replies={"ehlo": "550 5.7.1 bad name", "helo": "550 5.7.1 no"})))
    assert (evidence.stage, evidence.kind, str(evidence.reply)) == ("hello", "reply", "550 5.7.1 bad name")


@pytest.mark.parametrize(
    ("hello_name", "said"), [("mail.example.org", "mail.example.org"), ("[192.0.2.1]", "[192.0.2.1]"), (None, None)]
)
def test_the_name_in_the_hello_is_the_one_set_or_one_that_relays_accept(hello_name, said, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "no-full-name")

    async def main() -> None:
        async with relay(starttls=True) as there:
            async with session(there.port, on=terms(hello_name=hello_name)):
                pass
            names = {line.split()[1] for _, line in there.commands if line.startswith("EHLO")}
            assert names == {said or "[127.0.0.1]"}
            assert there.mistakes == []

    run(main())


# --- Relays that stall, hang up, or are none -----------------------------------------------------------------

OPENING = [("greeting", "greeting"), ("ehlo", "hello"), ("starttls", "tls"), ("tls", "tls"), ("auth", "auth")]


@both_loops
@pytest.mark.parametrize(("stage", "ours"), OPENING)
def test_a_stall_while_opening_is_a_time_out_at_that_stage(stage, ours, loop):
    script = Script(starttls=True, stall=stage, **SIGNED_IN)
    evidence = run(refused(script, password(), on=terms(reply=STALL), use_ssl=True), loop)
    assert (evidence.stage, evidence.kind) == (ours, "timeout")


@both_loops
@pytest.mark.parametrize(
    ("stage", "ours"), [*OPENING, *((f"mid:{stage}", ours) for stage, ours in OPENING if stage != "tls")]
)
def test_a_connection_that_ends_while_opening_is_closed_at_that_stage(stage, ours, loop):
    script = Script(starttls=True, close=stage, **SIGNED_IN)
    evidence = run(refused(script, password(), use_ssl=True), loop)
    assert (evidence.stage, evidence.kind) == (ours, "closed")


@both_loops
def test_a_handshake_that_stalls_on_465_is_a_time_out(loop):
    async def main() -> None:
        async with relay(implicit_tls=True, stall="tls") as there:
            with implicit_tls_at(there.port) as port:
                evidence = await evidence_of(open_session(profile(port, use_ssl=True), ANONYMOUS, terms(reply=STALL)))
            assert (evidence.stage, evidence.kind) == ("tls", "timeout")
            await until(lambda: not there.open)

    run(main(), loop)


@both_loops
def test_a_port_that_takes_connections_and_says_nothing_is_a_time_out(loop):
    async def main() -> None:
        async with relay(silent=True) as there:  # it does not read either, and would not notice that we go
            evidence = await evidence_of(open_session(profile(there.port), ANONYMOUS, terms(reply=STALL)))
            assert (evidence.stage, evidence.kind) == ("greeting", "timeout")

    run(main(), loop)


@both_loops
@pytest.mark.parametrize(
    ("greeting", "looks_like"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"* OK IMAP4rev1\r\n", "IMAP"),
        (b"+OK ready\r\n", "POP3"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
        (b"what?\r\n", "no service that is known"),
        (b"220-" + b"x" * 100_000 + b"\r\n", "no service that is known"),
        (b"220-and so on\r\n" * 100_000, "no service that is known"),
    ],
)
def test_another_service_is_recognised_by_its_greeting(greeting, looks_like, loop):
    evidence = run(refused(Script(raw_greeting=greeting)), loop)
    assert (evidence.stage, evidence.kind, evidence.detail) == ("greeting", "not_smtp", looks_like)


@both_loops
def test_replies_that_drip_one_byte_at_a_time_are_replies(loop):
    run(opened(Script(drip=0.0005, starttls=True, **SIGNED_IN), password(), use_ssl=True), loop)


def test_a_greeting_of_many_lines_is_one_greeting():
    stages = run(opened(Script(replies={"greeting": ("220 chaos.test", "220 no spam", "220 please")})))
    assert learned(stages, "greeting") == {"greeting": "chaos.test no spam please"}


def test_control_characters_in_a_greeting_do_not_reach_the_reader():
    stages = run(opened(Script(replies={"greeting": "220 \x1b[31mred\x07 \x9b2J \u2028"})))
    assert "".join(learned(stages, "greeting")["greeting"].split()) == "[31mred2J"


# --- TLS -----------------------------------------------------------------------------------------------------


@both_loops
def test_starttls_is_used_where_it_is_offered(loop):
    assert learned(run(opened(Script(starttls=True)), loop), "tls")["encrypted"] is True


def test_without_use_ssl_a_relay_without_starttls_will_do():
    (tls,) = [report for report in run(opened(Script())) if report.stage == "tls"]
    assert tls.verdict == "skipped"


@both_loops
@pytest.mark.parametrize(("certificate", "kind"), BAD_CERTIFICATES.items())
def test_a_bad_certificate_is_refused_and_named(certificate, kind, loop):
    evidence = run(refused(Script(starttls=True, certificate=certificate), use_ssl=True), loop)
    assert (evidence.stage, evidence.kind) == ("tls", kind)


@both_loops
@pytest.mark.parametrize(("certificate", "kind"), BAD_CERTIFICATES.items())
def test_anonymous_mail_without_use_ssl_goes_on_whatever_the_certificate_says(certificate, kind, loop):
    tls = learned(run(opened(Script(starttls=True, certificate=certificate)), loop), "tls")
    assert (tls["encrypted"], tls["verified"], tls["not_verified"]) == (True, False, kind)


@both_loops
@pytest.mark.parametrize("certificate", BAD_CERTIFICATES)
@pytest.mark.parametrize("use_ssl", [True, False])
def test_credentials_never_cross_a_connection_that_is_not_verified(certificate, use_ssl, loop):
    async def main() -> None:
        async with relay(starttls=True, certificate=certificate, **SIGNED_IN) as there:
            made = profile(there.port, use_ssl=use_ssl)
            evidence = await evidence_of(open_session(made, password(), terms()))
            assert evidence.stage in {"tls", "auth"}
            assert not [line for _, line in there.commands if line.upper().startswith("AUTH")]
            await until(lambda: not there.open)

    run(main(), loop)


@pytest.mark.parametrize("use_ssl", [True, False])
def test_credentials_cross_it_where_the_operator_allows_exactly_that(use_ssl):
    script = Script(starttls=True, certificate="expired", **SIGNED_IN)
    stages = run(opened(script, password(), on=terms(allow_insecure_sign_in=True), use_ssl=use_ssl))
    assert learned(stages, "tls")["not_verified"] == "expired"


def test_a_relay_with_an_old_tls_version_is_weak():
    evidence = run(refused(Script(starttls=True, tls_version="1.0"), use_ssl=True))
    assert (evidence.stage, evidence.kind) == ("tls", "weak")


@both_loops
@pytest.mark.parametrize(("version", "kind"), [("1.2", "handshake"), ("1.3", "client_certificate")])
def test_a_relay_that_wants_a_certificate_of_ours_says_so(version, kind, loop):
    """TLS 1.2 has no words for it: its alert says that the handshake failed, and so do we."""
    script = Script(starttls=True, client_ca=True, tls_version=version)
    evidence = run(refused(script, use_ssl=True), loop)
    assert evidence.kind == kind
    stages = run(opened(script, on=terms(client=True), use_ssl=True), loop)
    assert learned(stages, "tls")["protocol"] == f"TLSv{version}"


def test_what_was_offered_before_tls_counts_no_more_after_it():
    """AUTH that is only offered in the clear is not used."""

    async def main() -> None:
        async with relay(starttls=True, auth_needs_tls=True, **SIGNED_IN) as there:
            async with session(there.port, password(), use_ssl=True) as made:
                assert made.extensions.auth == {"PLAIN"}
                assert not made.extensions.starttls
            hellos = [line for _, line in there.commands if line.startswith("EHLO")]
            assert len(hellos) == 2

    run(main())


def test_a_reply_is_cleaned_once(monkeypatch):
    """It takes tens of milliseconds for a long one, in which nobody else is served."""
    cleaned: list[str] = []
    clean = Redactor.clean

    def counted(redactor: Redactor, text: str) -> str:
        cleaned.append(text)
        return clean(redactor, text)

    monkeypatch.setattr(Redactor, "clean", counted)
    run(opened(Script(starttls=True, **SIGNED_IN), password(), use_ssl=True))
    assert cleaned.count("AUTH PLAIN") == 2  # EHLO is said before TLS and within
    assert cleaned.count("2.7.0 welcome") == 1


def test_what_is_offered_within_tls_is_learned_there():
    script = Script(starttls=True, auth_needs_tls=True, **SIGNED_IN)
    stages = run(opened(script, password(), use_ssl=True))
    assert "AUTH" not in learned(stages, "hello")["extensions"]
    assert "AUTH" in learned(stages, "tls")["extensions"]
    assert "STARTTLS" not in learned(stages, "tls")["extensions"]


@asynccontextmanager
async def second_hello(answer: bytes | None) -> AsyncIterator[int]:
    """A relay that answers an EHLO within TLS like that, or not at all."""
    context = certificates().server_context("good", client_ca=False, tls_version=None, asked_for=lambda _: None)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 odd.test\r\n")
        while line := await reader.readline():
            if line.startswith(b"STARTTLS"):
                writer.write(b"220 go on\r\n")
                await writer.start_tls(context)
            elif writer.get_extra_info("ssl_object") is None:
                writer.write(b"250-odd.test\r\n250 STARTTLS\r\n")
            elif answer is not None:
                writer.write(answer)

    async with serving(converse) as port:
        yield port


@both_loops
@pytest.mark.parametrize(
    ("answer", "kind"), [(b"550 5.7.1 go away\r\n", "reply"), (None, "timeout"), (b"what?\r\n", "not_smtp")]
)
def test_a_second_hello_that_fails_is_told_as_such_and_tls_as_it_was(answer, kind, loop):
    async def main() -> None:
        transcript = Transcript(Redactor())
        async with second_hello(answer) as port:
            made = open_session(profile(port, use_ssl=True), ANONYMOUS, terms(reply=STALL), transcript)
            evidence = await evidence_of(made)
        assert (evidence.stage, evidence.kind) == ("hello", kind)
        tls, hello = transcript.stages[-2:]
        assert (tls.stage, tls.verdict, tls.learned["verified"]) == ("tls", "ok", True)
        assert tls.dialogue == ("> STARTTLS", "< 220 go on")
        assert (hello.stage, hello.verdict, hello.learned) == ("hello", "failed", {})
        assert hello.dialogue[0] == "> EHLO client.test"

    run(main(), loop)


@both_loops
def test_a_second_hello_in_which_time_is_up_is_where_it_was(loop):
    async def main() -> None:
        transcript = Transcript(Redactor())
        async with second_hello(None) as port:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await open_session(profile(port, use_ssl=True), ANONYMOUS, terms(), transcript)
        assert [(one.stage, one.verdict) for one in transcript.stages[-2:]] == [("tls", "ok"), ("hello", "failed")]
        assert transcript.stages[-1].milliseconds > 100

    run(main(), loop)


# --- Cancelled -----------------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("stage", ["greeting", "ehlo", "starttls", "tls", "auth"])
def test_an_opening_that_is_cancelled_at_a_stage_leaves_nothing_open(stage, loop):
    async def main() -> None:
        async with relay(starttls=True, stall=stage, **SIGNED_IN) as there:
            opening = asyncio.create_task(open_session(profile(there.port, use_ssl=True), password(), terms()))
            await until(lambda: bool(there.open))
            await asyncio.sleep(0.1)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            await until(lambda: not there.open, "a connection is still open")

    run(main(), loop)


@both_loops
def test_an_opening_that_is_cancelled_at_any_turn_of_the_loop_leaves_nothing_open(loop):
    async def main() -> None:
        made = terms()
        async with relay(starttls=True, certificate="expired") as there:
            for turns in range(400):
                opening = asyncio.create_task(open_session(profile(there.port), ANONYMOUS, made))
                for _ in range(turns):
                    await asyncio.sleep(0)
                    if opening.done():
                        break
                opening.cancel()
                try:
                    (await opening).wire.abort()
                    break
                except asyncio.CancelledError:
                    pass
            await until(lambda: not there.open, "a connection is still open")

    run(main(), loop)


@both_loops
def test_a_stage_that_is_cancelled_is_recorded_as_a_time_out(loop):
    """The whole test may only take so long, and says where it was when its time was up."""

    async def main() -> None:
        transcript = Transcript(Redactor())
        async with relay(stall="ehlo") as there:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await open_session(profile(there.port), ANONYMOUS, terms(), transcript)
            await until(lambda: not there.open)
        last = transcript.stages[-1]
        assert (last.stage, last.verdict) == ("hello", "failed")
        assert (last.evidence.stage, last.evidence.kind) == ("hello", "timeout")
        assert last.evidence.facts["whole_test"] >= 0.2

    run(main(), loop)


@both_loops
def test_a_connection_that_is_lost_between_two_looks_at_a_bad_certificate_is_reported(loop):
    """The second connection, without verification, may fail for reasons of its own."""
    script = Script(starttls=True, certificate="expired", then=(Script(replies={"greeting": "421 4.3.2 enough"}),))
    evidence = run(refused(script), loop)
    assert (evidence.kind, evidence.reply.code) == ("reply", 421)


def test_a_relay_that_offers_starttls_once_only_is_not_spoken_to_in_the_clear():
    script = Script(starttls=True, certificate="expired", then=(Script(starttls=False),))
    evidence = run(refused(script))
    assert (evidence.stage, evidence.kind) == ("tls", "not_offered")


@both_loops
def test_a_relay_that_ends_tls_and_goes_on_in_the_clear_is_not_heard(loop):
    async def main() -> None:
        said = {b"EHLO": b"250-odd.test\r\n250 STARTTLS\r\n", b"STAR": b"220 go\r\n"}
        async with answering(lambda line: said.get(line[:4], b"250 ok\r\n")) as port:
            evidence = await evidence_of(open_session(profile(port, use_ssl=True), ANONYMOUS, terms(reply=STALL)))
            assert evidence.stage == "tls"
            assert evidence.kind in {"not_tls", "timeout"}

    run(main(), loop)
