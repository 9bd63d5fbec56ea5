"""What raw sockets can do to a server: bodies and headers without end, promises that are not kept, no HTTP at all."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator

import httpx2
import pytest

from complaints import OWN, complaint, nothing_changes
from live import ANONYMOUS, SMTP, LiveServer
from wire import AUTHORIZATION, JSON, connection, head, read_answer

TEST = SMTP + "/Test"
PIECE = b" " * 65536
TEN_MEGABYTES = [PIECE] * 160
CHUNKED = "Transfer-Encoding: chunked"


def chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def write_all_then_read(server: LiveServer, *pieces: bytes) -> httpx2.Response:
    """What the simplest clients do: they look for an answer only when everything is sent."""
    with connection(server) as opened:
        for piece in pieces:
            opened.sendall(piece)
        return read_answer(opened)


def still_serves(server: LiveServer) -> None:
    assert server.put_v2(ANONYMOUS).status_code == 200
    assert server.get_v2()["Host"] == ANONYMOUS["Host"]


@pytest.mark.parametrize("framing", ["declared", "chunked"])
@pytest.mark.parametrize(("method", "path"), [("PUT", SMTP), ("POST", TEST), ("PUT", OWN), ("PATCH", OWN)])
def test_ten_megabytes_get_their_413_without_a_reset(method, path, framing, module_server):
    length = CHUNKED if framing == "chunked" else f"Content-Length: {sum(map(len, TEN_MEGABYTES))}"
    pieces = chunks(TEN_MEGABYTES) if framing == "chunked" else TEN_MEGABYTES
    with nothing_changes(module_server):
        start = head(method, path, AUTHORIZATION, JSON, length)
        complaint(write_all_then_read(module_server, start, *pieces), 413)
    still_serves(module_server)


@pytest.mark.parametrize("path", [SMTP, OWN, "/livez", "/KeyfactorAPI/nothing"])
@pytest.mark.parametrize("framing", ["declared", "chunked"])
def test_ten_megabytes_on_a_get_do_not_matter(path, framing, module_server):
    length = CHUNKED if framing == "chunked" else f"Content-Length: {sum(map(len, TEN_MEGABYTES))}"
    pieces = chunks(TEN_MEGABYTES) if framing == "chunked" else TEN_MEGABYTES
    answer = write_all_then_read(module_server, head("GET", path, AUTHORIZATION, JSON, length), *pieces)
    assert answer.status_code in {200, 404, 413}
    still_serves(module_server)


def test_strangers_get_their_401_without_a_reset_too(module_server):
    length = f"Content-Length: {sum(map(len, TEN_MEGABYTES))}"
    complaint(write_all_then_read(module_server, head("PUT", SMTP, JSON, length), *TEN_MEGABYTES), 401)
    still_serves(module_server)


def test_a_body_too_large_is_refused_before_it_is_sent(module_server):
    with connection(module_server) as opened:
        announced = head("PUT", SMTP, AUTHORIZATION, JSON, "Content-Length: 10000000", "Expect: 100-continue")
        opened.sendall(announced)
        complaint(read_answer(opened), 413)


@pytest.mark.parametrize("length", ["9" * 18, "18446744073709551615", "9" * 30])
def test_lengths_beyond_all_measure_are_refused(length, module_server):
    with connection(module_server) as opened:
        opened.sendall(head("PUT", SMTP, AUTHORIZATION, JSON, f"Content-Length: {length}"))
        complaint(read_answer(opened), 400, 413)
    still_serves(module_server)


def test_bodies_that_are_announced_and_never_sent_block_nobody(module_server):
    with nothing_changes(module_server):
        waiting = []
        for method, path in [("PUT", SMTP), ("POST", TEST), ("PATCH", OWN), ("GET", SMTP)] * 10:
            url = httpx2.URL(module_server.url)
            opened = socket.create_connection((url.host, url.port), timeout=20)
            opened.sendall(head(method, path, AUTHORIZATION, JSON, "Content-Length: 1000") + b'{"Host":')
            waiting.append(opened)
        for _ in range(20):
            assert module_server.get(SMTP).status_code == 200
    still_serves(module_server)
    for opened in waiting:
        opened.close()
    still_serves(module_server)


def test_a_body_that_breaks_off_changes_nothing(module_server):
    """Not even when what has arrived is a whole profile."""
    body = json.dumps(ANONYMOUS | {"Host": "broken.example.org"}).encode()
    with nothing_changes(module_server):
        for start, sent in (
            (head("PUT", SMTP, AUTHORIZATION, JSON, f"Content-Length: {len(body) + 1}"), body),
            (head("PUT", SMTP, AUTHORIZATION, JSON, CHUNKED), b"%x\r\n%s\r\n" % (len(body), body)),
            (head("PUT", OWN, AUTHORIZATION, JSON, CHUNKED), b"%x\r\n%s" % (len(body) + 1, body)),
        ):
            with connection(module_server) as opened:
                opened.sendall(start + sent)
        assert module_server.get_v2()["Host"] != "broken.example.org"
    still_serves(module_server)


FLOODS = {
    "one header without end": [b"X-Long: ", *[b"a" * 65536] * 32],
    "a great many headers": [b"".join(b"X-%d: a\r\n" % number for number in range(50_000))],
    "a name without end": [b"a" * 65536] * 32,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_headers_without_end_are_refused(flood, module_server):
    with connection(module_server) as opened:
        start = head("GET", SMTP, AUTHORIZATION)[:-2]
        try:
            for piece in (start, *FLOODS[flood], b"\r\n\r\n"):
                opened.sendall(piece)
        except OSError:
            pass  # it need not listen to the end
        complaint(read_answer(opened), 400, 413, 431)
    still_serves(module_server)


def test_an_address_without_end_is_refused(module_server):
    with connection(module_server) as opened:
        try:
            for piece in (b"GET /KeyfactorAPI/", *[b"a" * 65536] * 32, b" HTTP/1.1\r\nHost: keyrelay\r\n\r\n"):
                opened.sendall(piece)
        except OSError:
            pass
        complaint(read_answer(opened), 400, 404, 414, 431)
    still_serves(module_server)


NO_HTTP = [
    b"\0\0\0\0\r\n\r\n",
    b"GARBAGE\r\n\r\n",
    b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /a b HTTP/1.1\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nX-A: a\0b\r\n\r\n",
    b"GET / HTTP/1.1\r\nX A: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n: b\r\n\r\n",
    b"PUT / HTTP/1.1\r\nContent-Length: abc\r\n\r\n",
    b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"PUT / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
    b"PUT / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n12345",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # the first words of TLS
]


@pytest.mark.parametrize("raw", NO_HTTP)
def test_what_is_no_http_gets_one_clear_400(raw, module_server):
    complaint(write_all_then_read(module_server, raw), 400)
    still_serves(module_server)


def test_a_broken_chunk_is_refused_and_changes_nothing(module_server):
    with nothing_changes(module_server):
        start = head("PUT", SMTP, AUTHORIZATION, JSON, CHUNKED)
        complaint(write_all_then_read(module_server, start, b"zz\r\n{}\r\n0\r\n\r\n"), 400)


def test_a_refused_request_does_not_spoil_the_next_on_its_connection(module_server):
    with connection(module_server) as opened:
        for body, status in ((b"{", 400), (json.dumps(ANONYMOUS).encode(), 200), (b"[]", 400)):
            opened.sendall(head("PUT", SMTP, AUTHORIZATION, JSON, f"Content-Length: {len(body)}") + body)
            answer = read_answer(opened)
            assert answer.status_code == status
