"""A client that breaks the protocol is told so, and the mistake is remembered."""

from __future__ import annotations

import base64

import pytest

MAIL = ("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>")


def start(client, *lines: str) -> None:
    client.hello()
    for line in lines:
        assert client.ask(line)[0] in "23"


@pytest.mark.parametrize(
    ("before", "line", "code"),
    [
        ((), "FROB", "500 5.5.2"),
        ((), "", "500 5.5.2"),
        ((), "EHLO", "501 5.5.4"),
        ((), "EHLO two words", "501 5.5.4"),
        ((), "EHLO [300.1.1.1]", "501 5.5.4"),
        ((), "EHLO ö.test", "501 5.5.4"),
        ((), "RCPT TO:<c@d.test>", "503 5.5.1"),
        ((), "DATA", "503 5.5.1"),
        ((), "STARTTLS", "502 5.5.1"),
        ((), "AUTH PLAIN", "502 5.5.1"),
        ((), "MAIL FROM: <a@b.test>", "501 5.5.4"),
        ((), "MAIL FROM:a@b.test", "501 5.5.4"),
        ((), "MAIL FROM:<a@b.test>  SIZE=1", "501 5.5.4"),
        ((), "MAIL FROM:<a b@b.test>", "501 5.5.4"),
        ((), "MAIL FROM:<a..b@b.test>", "501 5.5.4"),
        ((), "MAIL FROM:<a@b.test> SIZE=1 SIZE=1", "501 5.5.4"),
        ((), "MAIL FROM:<a@b.test> SIZE=one", "555 5.5.4"),
        ((), "MAIL FROM:<a@b.test> BODY=BINARYMIME", "555 5.5.4"),
        ((), "MAIL FROM:<a@b.test> AUTH=<>", "555 5.5.4"),
        ((), "MAIL FROM:<ö@b.test>", "553 5.6.7"),
        (MAIL[:1], "MAIL FROM:<a@b.test>", "503 5.5.1"),
        (MAIL[:1], "RCPT TO:<>", "501 5.5.4"),
        (MAIL[:1], "RCPT TO:<c@d.test> NOTIFY=NEVER", "555 5.5.4"),
        (MAIL[:1], "RCPT TO:<ö@d.test>", "553 5.6.7"),
        (MAIL, "DATA now", "501 5.5.4"),
        (MAIL, "BDAT 3 LAST", "502 5.5.1"),
        ((), "NOOP " + "x" * 2000, "500 5.5.2"),
    ],
)
def test_a_command_that_is_wrong_here_is_refused_and_remembered(relay, talk, before, line, code):
    server = relay()
    client = talk(server)
    start(client, *before)
    assert client.ask(line).startswith(code)
    (mistake,) = server.mistakes
    assert f": {code} " in mistake[1]
    assert client.ask("NOOP").startswith("250")


@pytest.mark.parametrize(
    "address", ["<>", '<"a b"@b.test>', "<a.b+c@b.test>", "<a@[192.0.2.1]>", "<a@xn--nxasmq6b.test>"]
)
def test_addresses_of_every_kind_are_known(relay, talk, address):
    server = relay()
    client = talk(server)
    start(client, f"MAIL FROM:{address}", "RCPT TO:<Postmaster>")
    assert server.mistakes == []


@pytest.mark.parametrize("hello", ["EHLO [127.0.0.1]", "EHLO [IPv6:::1]", "HELO a-b.example.test", "ehlo localhost"])
def test_names_and_addresses_are_a_hello(relay, talk, hello):
    client = talk(relay())
    client.reply()
    assert client.ask(hello).startswith("250")


def test_nothing_goes_before_hello(relay, talk):
    client = talk(relay())
    client.reply()
    assert client.ask("MAIL FROM:<a@b.test>").startswith("503 5.5.1")


@pytest.mark.parametrize("data", [b"NOOP\n", b"NO\rOP\r\n", b"NOOP \xff\r\n", b"\n", b"x" * 12288])
def test_a_line_that_is_none_ends_the_session(relay, talk, data):
    server = relay()
    client = talk(server)
    client.hello()
    client.send(data)
    assert client.rest().startswith(b"500 5.5.2")
    assert len(server.mistakes) == 1


def test_without_pipelining_offered_a_second_command_has_to_wait(relay, talk):
    server = relay(extensions=("8BITMIME",))
    client = talk(server)
    client.hello()
    client.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n")
    assert client.rest().startswith(b"503 5.5.0 improper use of pipelining")
    assert server.mistakes == [(1, "MAIL FROM:<a@b.test>: 503 5.5.0 improper use of pipelining")]


@pytest.mark.parametrize("last", ["EHLO a.test", "DATA", "NOOP", "QUIT", "STARTTLS", "VRFY x"])
def test_nothing_may_follow_a_command_that_ends_a_flight(relay, talk, last):
    server = relay(starttls=True)
    client = talk(server)
    start(client, *MAIL)
    client.send(f"{last}\r\nRSET\r\n".encode())
    assert client.rest().startswith(b"503 5.5.0")
    assert len(server.mistakes) == 1


def test_without_pipelining_nothing_may_follow_the_content(relay, talk):
    client = talk(relay(extensions=()))
    start(client, *MAIL, "DATA")
    client.send(b"x\r\n.\r\nRSET\r\n")
    assert client.rest().startswith(b"503 5.5.0")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("a\nb\r\n", "554 5.6.0"),
        ("a\rb\r\n", "554 5.6.0"),
        ("a\n.\nb\r\n", "554 5.6.0"),
        ("x" * 999 + "\r\n", "554 5.6.0"),
        ("grüße\r\n", "554 5.6.1"),
        (".x\r\n", "554 5.5.2"),
        ("x\r\n.y\r\n", "554 5.5.2"),
    ],
)
def test_content_that_breaks_the_rules_is_refused(relay, talk, content, code):
    server = relay()
    client = talk(server)
    client.hello()
    assert client.message(content).startswith(code)
    assert server.messages == []
    assert len(server.mistakes) == 1
    assert client.message("x" * 998 + "\r\n").startswith("250")


def test_data_and_chunks_are_not_mixed(relay, talk):
    client = talk(relay(extensions=("PIPELINING", "CHUNKING")))
    start(client, *MAIL)
    client.send(b"BDAT 3\r\na\r\n")
    assert client.reply().startswith("250")
    assert client.ask("DATA").startswith("503 5.5.1")
    assert client.ask("BDAT x").startswith("501 5.5.4")


def test_recipients_have_a_bound(relay, talk):
    client = talk(relay())
    start(client, MAIL[0])
    codes = client.codes(*[f"RCPT TO:<r{number}@d.test>" for number in range(1001)])
    assert (set(codes[:1000]), codes[1000]) == ({250}, 452)


@pytest.mark.parametrize("drip", [0.0, 0.001])
def test_a_client_that_never_reads_its_answers_is_read_no_further(relay, talk, drip):
    client = talk(relay(drip=drip))
    client.hello()
    client.socket.settimeout(1)
    with pytest.raises(TimeoutError):
        client.send(b"RSET\r\n" * 20_000_000)


@pytest.mark.parametrize(
    "response", ["not base64!", base64.b64encode(b"no nul").decode(), base64.b64encode(b"\xff\0\xff\0x").decode()]
)
def test_a_response_that_cannot_be_read_is_a_mistake_and_is_not_remembered_by_its_text(relay, talk, response):
    server = relay(auth=("PLAIN",), users={"u": "p"})
    client = talk(server)
    client.hello()
    assert client.ask(f"AUTH PLAIN {response}").startswith("501 5.5.2")
    assert client.ask("AUTH PLAIN") == "334 "
    assert client.ask(response).startswith("501 5.5.2")
    assert all(response not in mistake for _, mistake in server.mistakes)
    assert len(server.mistakes) == 2
