"""Each way to misbehave, seen from the client."""

from __future__ import annotations

import time

import pytest

from keyrelay.chaos.relay import ChaosRelay, Received
from keyrelay.chaos.script import STAGES, Script, reply_bytes
from keyrelay.errors import Unsuitable
from relaying import beside

EXTENSIONS = ("PIPELINING", "CHUNKING")
RULES = {"extensions": EXTENSIONS, "starttls": True, "auth": ("PLAIN",), "users": {"u": "p"}}
MAIL = ("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>")
# What a client says to bring the relay to each stage, and what it then says there.
WAY: dict[str, tuple[tuple[str, ...], str]] = {
    "ehlo": ((), "EHLO a.test"),
    "helo": ((), "HELO a.test"),
    "starttls": (("EHLO a.test",), "STARTTLS"),
    "auth": (("EHLO a.test",), "AUTH PLAIN AHUAcA=="),
    "mail": (("EHLO a.test",), MAIL[0]),
    "rcpt": (("EHLO a.test", MAIL[0]), MAIL[1]),
    "data": (("EHLO a.test", *MAIL), "DATA"),
    "body": (("EHLO a.test", *MAIL, "DATA"), "x\r\n."),
    "bdat": (("EHLO a.test", *MAIL), "BDAT 3\r\nx\r"),
    "rset": (("EHLO a.test",), "RSET"),
    "quit": (("EHLO a.test",), "QUIT"),
}


def arrive(client, stage: str) -> None:
    """Bring the relay to a stage, all that comes before being well answered."""
    if stage == "greeting":
        return
    before, line = WAY[stage]
    client.reply()
    for earlier in before:
        assert client.ask(earlier)[0] in "23"
    client.send(line.encode() + (b"\n" if stage == "bdat" else b"\r\n"))


def test_every_stage_has_a_way_there():
    assert {"greeting", *WAY} == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_any_reply_can_be_given_at_any_stage(relay, talk, stage):
    client = talk(relay(**RULES, replies={stage: ("451 4.0.0 first", "451 4.0.0 last")}))
    arrive(client, stage)
    assert client.reply() == "451-4.0.0 first\n451 4.0.0 last"
    if stage == "quit":
        assert client.rest() == b""
    else:
        assert client.ask("NOOP").startswith("250"), "the session goes on"


@pytest.mark.parametrize("stage", STAGES)
def test_421_at_any_stage_ends_the_connection(relay, talk, stage):
    client = talk(relay(**RULES, replies={stage: "421 4.3.2 going down"}))
    arrive(client, stage)
    assert client.rest() == b"421 4.3.2 going down\r\n"


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_more_is_said_at_a_stage_that_stalls(relay, talk, stage):
    server = relay(**RULES, stall=stage)
    client = talk(server)
    arrive(client, stage)
    assert client.hears_nothing()
    client.send(b"NOOP\r\n")
    assert client.hears_nothing()
    assert server.open == 1


@pytest.mark.parametrize("stage", STAGES)
def test_the_connection_ends_instead_of_any_answer(relay, talk, stage):
    server = relay(**RULES, close=stage)
    client = talk(server)
    arrive(client, stage)
    assert client.rest() == b""
    assert server.messages == []


@pytest.mark.parametrize("stage", STAGES)
def test_the_connection_ends_in_the_middle_of_any_answer(relay, talk, stage):
    reply = "250-one\r\n250 two\r\n"
    server = relay(**RULES, close=f"mid:{stage}", replies={stage: ("250 one", "250 two")})
    client = talk(server)
    arrive(client, stage)
    got = client.rest().decode()
    assert got
    assert reply.startswith(got)
    assert len(got) < len(reply) - 2


def test_a_refused_command_changes_nothing(relay, talk):
    client = talk(relay(replies={"mail": "451 4.3.0 later", "ehlo": "502 5.5.1 no"}))
    client.reply()
    assert client.codes("EHLO a.test") == [502]
    assert client.codes("HELO a.test") == [250]
    assert client.codes("MAIL FROM:<a@b.test>") == [451]
    assert client.codes("RCPT TO:<c@d.test>") == [503]


def test_after_dot_the_message_is_taken_and_nobody_is_told(relay, talk):
    server = relay(close="after-dot")
    client = talk(server)
    arrive(client, "body")
    assert client.rest() == b""
    assert [message.content for message in server.messages] == [b"x\r\n"]


def test_after_the_last_chunk_too(relay, talk):
    server = relay(close="after-dot", extensions=EXTENSIONS)
    client = talk(server)
    client.hello()
    client.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 2 LAST\r\n\r\n")
    assert client.rest() == b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n"
    assert server.accepted == 1


@pytest.mark.parametrize(("stage", "code"), [("body", "554"), ("bdat", "554")])
def test_the_last_chunk_gets_the_answer_of_a_chunk_or_else_of_a_message(relay, talk, stage, code):
    server = relay(extensions=EXTENSIONS, replies={stage: "554 5.7.1 spam"})
    client = talk(server)
    client.hello()
    client.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 2 LAST\r\n\r\n")
    assert [client.reply()[:3] for _ in range(3)] == ["250", "250", code]
    assert server.messages == []


def test_each_recipient_may_have_its_own_reply(relay, talk):
    server = relay(rcpt_replies={"full@b.test": "452 4.2.2 mailbox full"}, replies={"rcpt": "250 2.1.5 fine"})
    client = talk(server)
    client.hello()
    client.ask(MAIL[0])
    assert client.ask("RCPT TO:<full@b.test>") == "452 4.2.2 mailbox full"
    assert client.ask("RCPT TO:<other@b.test>") == "250 2.1.5 fine"
    assert client.ask("DATA").startswith("354")
    client.ask(".")
    assert server.messages[0].recipients == ("other@b.test",)


def test_a_reply_for_a_domain_is_for_all_who_have_no_reply_of_their_own(relay, talk):
    server = relay(rcpt_replies={"@b.test": "550 5.1.1 nobody", "one@b.test": "250 2.1.5 welcome"})
    client = talk(server)
    client.hello()
    client.ask(MAIL[0])
    assert client.ask("RCPT TO:<any@B.test>") == "550 5.1.1 nobody"
    assert client.ask("RCPT TO:<one@b.test>") == "250 2.1.5 welcome"
    assert client.ask("RCPT TO:<any@sub.b.test>").startswith("250 2.1.5 ok")


def test_a_message_for_a_lost_domain_is_taken_without_an_answer_and_others_get_theirs(relay, talk):
    server = relay(lost=frozenset({"lost.test"}))
    other = talk(server)
    other.hello()
    assert other.message().startswith("250")
    client = talk(server)
    client.hello()
    client.codes("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "RCPT TO:<e@Lost.test>")
    client.ask("DATA")
    client.send(b"x\r\n.\r\n")
    assert client.rest() == b""
    assert [message.recipients for message in server.messages] == [("to@b.test",), ("c@d.test", "e@Lost.test")]


def test_messages_are_told_also_where_none_is_kept(talk):
    told: list[Received] = []
    with beside(ChaosRelay(Script(), keep_messages=False, take=told.append), "asyncio") as server:
        client = talk(server)
        client.hello()
        client.message("Subject: told\r\n\r\nx\r\n")
        assert ([one.content for one in told], server.messages) == ([b"Subject: told\r\n\r\nx\r\n"], [])


def test_a_reply_need_not_be_one(relay, talk):
    client = talk(relay(replies={"greeting": "What do you want?"}))
    client.send(b"QUIT\r\n")
    assert client.rest().startswith(b"What do you want?\r\n")


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"* OK IMAP4\r\n", b"\x15\x03\x01"]
)
def test_another_protocol_may_greet(relay, talk, greeting):
    client = talk(relay(raw_greeting=greeting))
    got = b""
    while len(got) < len(greeting):
        got += client.socket.recv(100)
    assert got == greeting
    client.send(b"EHLO a.test\r\n")
    assert client.hears_nothing()


def test_a_silent_relay_takes_the_connection_and_no_more(relay, talk):
    server = relay(silent=True)
    client = talk(server)
    client.send(b"EHLO a.test\r\n")
    assert client.hears_nothing()
    assert (server.connections, server.commands) == (1, [])


def test_each_connection_may_behave_in_its_own_way_and_the_last_way_stays(relay, talk):
    server = relay(close="greeting", then=(Script(replies={"greeting": "421 4.3.2 busy"}), Script()))
    assert talk(server).rest() == b""
    assert talk(server).rest() == b"421 4.3.2 busy\r\n"
    for _ in range(2):
        assert talk(server).reply() == "220 chaos.test ESMTP"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_replies_drip_byte_by_byte(relay, talk, loop):
    client = talk(relay(loop=loop, drip=0.02))
    started = time.monotonic()
    pieces = []
    while not b"".join(pieces).endswith(b"\r\n"):
        pieces.append(client.socket.recv(1000))
    assert b"".join(pieces) == b"220 chaos.test ESMTP\r\n"
    assert len(pieces) > 3
    assert time.monotonic() - started > 0.02 * 20


def test_what_drips_is_whole_before_the_connection_ends(relay, talk):
    client = talk(relay(drip=0.002))
    client.reply()
    assert client.ask("QUIT") == "221 2.0.0 bye"
    assert client.rest() == b""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_relay_far_away_takes_time_each_way_and_keeps_the_order(relay, talk, loop):
    server = relay(loop=loop, delay=0.1)
    client = talk(server)
    client.hello()
    started = time.monotonic()
    client.send(b"MAIL FROM:<a@b.test>\r\n")
    client.send(b"RCPT TO:<c@d.test>\r\n")
    time.sleep(0.05)
    client.send(b"DATA\r\n")
    assert [client.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
    assert time.monotonic() - started >= 0.249
    content = "".join(f"{number}\r\n" for number in range(20_000))
    assert client.ask(content + ".").startswith("250")
    assert server.messages[0].content == content.encode()


def test_pipelining_needs_fewer_journeys_than_asking_one_by_one(relay, talk):
    client = talk(relay(delay=0.05))
    client.hello()
    lines = ["RSET"] * 10
    started = time.monotonic()
    client.ask(*lines)
    at_once = time.monotonic() - started
    for line in lines:
        client.ask(line)
    one_by_one = time.monotonic() - started - at_once
    assert at_once >= 0.099
    assert one_by_one >= 0.99
    assert at_once < one_by_one


def test_the_end_of_a_far_connection_arrives_after_what_was_said_before(relay, talk):
    client = talk(relay(delay=0.05))
    client.hello()
    assert client.ask("RSET", "QUIT").startswith("221")
    assert client.rest() == b""


@pytest.mark.parametrize(
    "rules",
    [
        {"replies": {"content": "250 ok"}},
        {"replies": {"rcpt": "250 ok\r\n250 more"}},
        {"replies": {"rcpt": ()}},
        {"rcpt_replies": {"a@b.test": ""}},
        {"rcpt_replies": {"a@b.test": "250 ok\n"}},
        {"stall": "somewhere"},
        {"close": "mid:tls"},
        {"close": "mid:"},
        {"auth": ("NTLM",)},
        {"certificate": "better"},
        {"tls_version": "1.1"},
        {"delay": -1.0},
        {"starttls": True, "implicit_tls": True},
        {"extensions": ("SIZE huge",)},
        {"extensions": ("two\r\nlines",)},
    ],
)
def test_a_script_that_means_nothing_is_refused(rules):
    with pytest.raises(Unsuitable):
        Script(**rules)


def test_lines_of_a_reply_get_their_hyphens():
    assert reply_bytes("250 ok") == b"250 ok\r\n"
    assert reply_bytes(("250 a", "250-b", "250 c")) == b"250-a\r\n250-b\r\n250 c\r\n"
