"""Without a script the chaos relay is a good server: what RFC 5321 and the usual extensions say, and nothing lax."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import time
from email.message import EmailMessage

import pytest

from keyrelay.chaos.relay import ChaosRelay, Received
from keyrelay.chaos.script import Script

EVERYTHING = ("PIPELINING", "SIZE 100000", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_message_of_an_ordinary_client_arrives_as_it_was(relay, loop):
    server = relay(loop=loop)
    message = EmailMessage()
    message["Subject"] = "hi"
    message.set_content(".a line with a dot\n..and two\n.\nthe end\n")
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        client.send_message(message, "from@a.test", ["one@b.test", "two@b.test"])
    (got,) = server.messages
    assert (got.sender, got.recipients, got.session) == ("from@a.test", ("one@b.test", "two@b.test"), 1)
    assert got.content.endswith(b"\r\n\r\n.a line with a dot\r\n..and two\r\n.\r\nthe end\r\n")
    assert (got.user, got.tls) == (None, False)
    assert got.mail_parameters.startswith("size=")
    assert server.mistakes == []


def test_the_greeting_and_the_extensions_are_those_of_the_script(relay, talk):
    client = talk(relay(extensions=("PIPELINING", "SIZE 77")))
    assert client.hello() == "250-chaos.test\n250-PIPELINING\n250 SIZE 77"


def test_helo_offers_nothing(relay, talk):
    client = talk(relay())
    client.reply()
    assert client.ask("HELO client.test") == "250 chaos.test"
    assert client.ask("MAIL FROM:<a@b.test> SIZE=10").startswith("555 5.5.4")


def test_a_flight_of_commands_is_answered_in_order_and_remembered_as_one(relay, talk):
    server = relay()
    client = talk(server)
    client.hello()
    assert client.codes("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA") == [250, 250, 354]
    assert client.ask("x\r\n.") == "250 2.0.0 ok, taken"
    assert server.flights == [(1, ("EHLO",)), (1, ("MAIL", "RCPT", "DATA")), (1, (".",))]
    assert server.commands[1:] == [(1, "MAIL FROM:<a@b.test>"), (1, "RCPT TO:<c@d.test>"), (1, "DATA")]


def test_the_next_message_may_follow_the_final_dot(relay, talk):
    server = relay()
    client = talk(server)
    client.hello()
    client.codes("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA")
    client.send(b"one\r\n.\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n")
    assert [client.reply()[:3] for _ in range(4)] == ["250", "250", "250", "354"]
    assert client.ask("two\r\n.").startswith("250")
    assert [message.content for message in server.messages] == [b"one\r\n", b"two\r\n"]
    assert server.flights[2] == (1, (".", "MAIL", "RCPT", "DATA"))


@pytest.mark.parametrize("pieces", [1, 2, 3, 5])
def test_content_may_arrive_in_pieces_of_any_size(relay, talk, pieces):
    server = relay()
    client = talk(server)
    client.hello()
    client.codes("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA")
    stuffed = b"..\r\n..x\r\n\r\n.\r\n"
    for place in range(0, len(stuffed), pieces):
        client.send(stuffed[place : place + pieces])
        time.sleep(0.005)  # so that it really comes in pieces
    assert client.reply().startswith("250")
    assert server.messages[0].content == b".\r\n.x\r\n\r\n"


def test_an_empty_message_is_one_however_it_arrives(relay, talk):
    server = relay()
    client = talk(server)
    client.hello()
    assert client.message("").startswith("250")
    client.codes("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA")
    for byte in (b".", b"\r", b"\n"):
        client.send(byte)
        time.sleep(0.02)
    assert client.reply().startswith("250")
    assert [message.content for message in server.messages] == [b"", b""]


def test_a_message_far_above_the_limit_is_refused_at_its_end_and_never_kept_whole(relay, talk):
    server = relay(extensions=("SIZE 1000",))
    client = talk(server)
    client.hello()
    assert client.message("0123456.\r\n" * 300_000).startswith("552 5.3.4")
    assert client.message().startswith("250")
    assert len(server.messages) == 1


def test_no_message_is_taken_when_every_recipient_was_refused(relay, talk):
    server = relay(rcpt_replies={"gone@b.test": "550 5.1.1 no such user"})
    client = talk(server)
    client.hello()
    client.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<gone@b.test>\r\nDATA\r\n")
    client.reply()
    assert client.reply() == "550 5.1.1 no such user"
    assert client.reply() == "554 5.5.1 no valid recipients"
    assert client.ask("MAIL FROM:<a@b.test>").startswith("503"), "the transaction is still there"
    assert client.codes("RSET", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>") == [250, 250, 250]


def test_a_message_larger_than_the_limit_is_refused_when_announced_and_when_it_comes(relay, talk):
    server = relay(extensions=("PIPELINING", "SIZE 1000"))
    client = talk(server)
    client.hello()
    assert client.ask("MAIL FROM:<a@b.test> SIZE=1001").startswith("552 5.3.4")
    assert client.message("0123456\r\n" * 200).startswith("552 5.3.4")
    assert client.message("0123456\r\n" * 10, " SIZE=90").startswith("250")
    assert [len(message.content) for message in server.messages] == [90]
    assert server.messages[0].mail_parameters == "SIZE=90"


def test_chunks_are_put_together_and_dots_are_left_alone(relay, talk):
    server = relay(extensions=EVERYTHING)
    client = talk(server)
    client.hello()
    client.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 3\r\n.a\rBDAT 5 LAST\r\n\nb.\r\nNOOP\r\n")
    assert [client.reply()[:3] for _ in range(5)] == ["250", "250", "250", "250", "250"]
    assert server.messages[0].content == b".a\r\nb.\r\n"
    assert server.flights[1] == (1, ("MAIL", "RCPT", "BDAT", "BDAT", "NOOP"))
    assert client.codes("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "BDAT 0 LAST") == [250, 250, 250]
    assert server.messages[1].content == b""


def test_a_chunk_may_be_too_large_and_what_follows_is_still_understood(relay, talk):
    client = talk(relay(extensions=("PIPELINING", "SIZE 10", "CHUNKING")))
    client.hello()
    client.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 12 LAST\r\n0123456789\r\nNOOP\r\n")
    assert [client.reply()[:3] for _ in range(4)] == ["250", "250", "552", "250"]


def test_a_chunk_without_recipients_is_read_and_refused(relay, talk):
    server = relay(extensions=EVERYTHING, replies={"rcpt": "550 no"})
    client = talk(server)
    client.hello()
    client.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
    assert [client.reply()[:3] for _ in range(4)] == ["250", "550", "503", "250"]
    assert server.messages == []


def test_a_chunk_on_its_way_when_every_recipient_is_refused_is_no_mistake(relay, talk):
    server = relay(extensions=EVERYTHING, replies={"rcpt": "550 no"})
    client = talk(server)
    client.hello()
    client.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 1\r\nxBDAT 1 LAST\r\ny")
    assert [client.reply()[:3] for _ in range(4)] == ["250", "550", "503", "503"]
    assert server.mistakes == []
    assert client.ask("RSET").startswith("250")
    client.send(b"MAIL FROM:<a@b.test>\r\nBDAT 1 LAST\r\nx")  # nobody was asked about
    assert [client.reply()[:3] for _ in range(2)] == ["250", "503"]
    assert len(server.mistakes) == 1


def test_addresses_outside_ascii_and_binary_content_need_what_was_offered(relay, talk):
    server = relay(extensions=EVERYTHING)
    client = talk(server)
    client.hello()
    codes = client.codes("MAIL FROM:<ö@b.test>", "MAIL FROM:<ö@b.test> SMTPUTF8 BODY=8BITMIME", "RCPT TO:<ü@d.test>")
    assert codes == [553, 250, 250]
    assert client.ask("DATA").startswith("354")
    assert client.ask("grüße\r\n.").startswith("250")
    client.send(b"MAIL FROM:<a@b.test> BODY=BINARYMIME\r\nRCPT TO:<c@d.test>\r\nBDAT 2 LAST\r\n\n\xff")
    assert [client.reply()[:3] for _ in range(3)] == ["250", "250", "250"]
    assert [message.content for message in server.messages] == ["grüße\r\n".encode(), b"\n\xff"]


def test_quit_ends_the_session_and_the_numbers_are_right(relay, talk):
    server = relay()
    for _ in range(2):
        client = talk(server)
        client.hello()
        client.message()
        assert client.ask("QUIT").startswith("221")
        assert client.rest() == b""
    deadline = time.monotonic() + 20
    while server.open and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (server.connections, server.open, server.accepted) == (2, 0, 2)
    assert [message.session for message in server.messages] == [1, 2]


async def _one_message(server: ChaosRelay) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"HELO a.test\r\n")
    await reader.readline()
    for line in (b"MAIL FROM:<a@b.test>", b"RCPT TO:<c@d.test>", b"DATA", b".", b"QUIT"):
        await reader.readline()
        writer.write(line + b"\r\n")
    await reader.read()
    writer.close()
    await writer.wait_closed()


def test_it_runs_within_the_loop_of_a_test_and_need_not_remember_anything():
    async def main() -> None:
        async with ChaosRelay(Script()) as server:
            await _one_message(server)
            assert server.messages == [Received("a@b.test", ("c@d.test",), b"", 1, None, False, "")]
        async with ChaosRelay(Script(), keep_messages=False) as server:
            await _one_message(server)
            assert server.accepted == 1
            assert (server.messages, server.commands, server.flights, server.mistakes) == ([], [], [], [])

    asyncio.run(main())


def test_stopping_cuts_open_connections():
    async def main() -> None:
        server = ChaosRelay(Script(stall="greeting"))
        await server.start()
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            while not server.open:  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.01)
            await server.stop()
            assert server.open == 0
            assert client.recv(1) == b""

    asyncio.run(main())
