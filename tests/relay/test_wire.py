"""Replies as they arrive: in pieces, in heaps, too long, too many, or no replies at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.relay.model import Reply
from keyrelay.relay.wire import ConnectionEnded, NotSmtp, Unasked, Wire
from relaying import both_loops, run, until

SECONDS = 0.3  # for what is to run into a time-out


@asynccontextmanager
async def wired(seconds: float = 10.0) -> AsyncIterator[tuple[Wire, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A wire, and the other end of it."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = loop.create_future()
    server = await asyncio.start_server(lambda *ends: accepted.set_result(ends), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, wire = await loop.create_connection(lambda: Wire(seconds), "127.0.0.1", port)
    reader, writer = await accepted
    try:
        yield wire, reader, writer
    finally:
        wire.abort()
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
        server.close()
        await server.wait_closed()


async def heard(said: bytes, seconds: float = 10.0) -> Reply:
    """What a wire makes of these bytes, after which the other side hangs up."""
    async with wired(seconds) as (wire, _, writer):
        writer.write(said)
        writer.write_eof()
        return await wire.reply()


@both_loops
@pytest.mark.parametrize(
    ("said", "reply"),
    [
        (b"250 2.1.0 ok\r\n", Reply(250, ("2.1.0 ok",))),
        (b"250\r\n", Reply(250, ("",))),
        (b"250 \r\n", Reply(250, ("",))),
        (b"250-a.test\r\n250-\r\n250 SIZE\r\n", Reply(250, ("a.test", "", "SIZE"))),
        (b"550 bare line feed\n", Reply(550, ("bare line feed",))),
        (b"550 caf\xe9 \xff\r\n", Reply(550, ("caf\ufffd \ufffd",))),
        ("550 gr\u00fc\u00df dich\r\n".encode(), Reply(550, ("gr\u00fc\u00df dich",))),
    ],
)
def test_a_reply_is_read_as_leniently_as_is_safe(said, reply, loop):
    assert run(heard(said), loop) == reply


codes = st.integers(200, 599)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=40).map(str.rstrip)
replies = st.builds(Reply, codes, st.lists(texts, min_size=1, max_size=5).map(tuple))


@given(st.lists(replies, min_size=1, max_size=6), st.data())
def test_replies_are_the_same_however_their_bytes_are_cut(expected, data):
    """Pieces are handed over as a loop hands them over: a socket would not keep them apart."""
    octets = b"".join(
        f"{reply.code}{' ' if number == len(reply.lines) - 1 else '-'}{line}\r\n".encode()
        for reply in expected
        for number, line in enumerate(reply.lines)
    )
    cuts = data.draw(st.lists(st.integers(0, len(octets)), max_size=12).map(sorted))

    async def read() -> list[Reply]:
        wire = Wire(5)
        wire.connection_made(Mock(spec=asyncio.Transport))
        for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
            if end > start:
                wire.data_received(octets[start:end])
        return [await wire.reply() for _ in expected]

    assert run(read()) == expected


@both_loops
def test_replies_that_come_in_one_piece_are_given_one_by_one(loop):
    async def main() -> None:
        async with wired() as (wire, _, writer):
            writer.write(b"250 one\r\n250-two\r\n250 more\r\n550 three\r\n")
            assert [str(await wire.reply()) for _ in range(3)] == ["250 one", "250 two more", "550 three"]
            assert wire.idle

    run(main(), loop)


def test_only_what_is_asked_for_is_taken_without_a_look():
    async def main() -> None:
        async with wired() as (wire, _, writer):
            assert wire.ready() is None
            writer.write(b"250 one\r\n354 two\r\n450 three\r\n")
            assert (await wire.reply()).code == 250
            assert wire.ready() is None
            assert wire.ready(go_ahead=True).code == 354
            assert wire.ready() is None
            assert (await wire.reply()).code == 450

    run(main())


@both_loops
@pytest.mark.parametrize(
    ("said", "looks_like"),
    [
        (b"hello\r\n", "no service that is known"),
        (b"\r\n", "no service that is known"),
        (b"25\r\n", "no service that is known"),
        (b"250x\r\n", "no service that is known"),
        (b"\xb2\xb3\xb9 digits that are none\r\n", "no service that is known"),
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
        (b"<html>\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH\r\n", "SSH"),
        (b"+OK POP3 ready\r\n", "POP3"),
        (b"* OK IMAP4 ready\r\n", "IMAP"),
        (b"\x16\x03\x01\x00\x05\x01", "TLS"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
        (b"250-" + b"x" * 5000 + b"\r\n", "no service that is known"),
        (b"220 " + b"x" * 100_000, "no service that is known"),
        (b"x" * 5000, "no service that is known"),
        (b"250-again\r\n" * 1000, "no service that is known"),
    ],
)
def test_what_is_no_reply_is_named_and_ends_the_connection(said, looks_like, loop):
    async def main() -> None:
        async with wired() as (wire, reader, writer):
            writer.write(said)
            with pytest.raises(NotSmtp, match=looks_like):
                await wire.reply()
            assert not wire.idle
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            with pytest.raises((NotSmtp, ConnectionEnded)):
                await wire.reply()

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("said", [b"", b"2", b"250 half a li", b"250-one\r\n250-two\r\n", b"250-one\r\n250"])
def test_a_connection_that_ends_within_a_reply_has_given_none(said, loop):
    with pytest.raises(ConnectionEnded):
        run(heard(said), loop)


@both_loops
def test_a_reply_before_the_end_still_counts(loop):
    async def main() -> None:
        async with wired() as (wire, _, writer):
            writer.write(b"421 4.3.2 going down\r\n")
            writer.write_eof()
            await asyncio.sleep(0.05)
            assert not wire.idle
            assert (await wire.reply()).code == 421
            with pytest.raises(ConnectionEnded):
                await wire.reply()

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("said", [b"", b"250 half", b"250-one\r\n"])
def test_an_answer_that_does_not_come_is_a_time_out(said, loop):
    async def main() -> None:
        async with wired(SECONDS) as (wire, _, writer):
            writer.write(b"250 the first is in time\r\n" + said)
            await wire.reply()
            with pytest.raises(TimeoutError):
                await wire.reply()

    run(main(), loop)


@both_loops
def test_the_time_for_a_reply_counts_from_when_it_is_waited_for(loop):
    async def main() -> None:
        async with wired(0.4) as (wire, _, writer):
            for _ in range(3):
                asyncio.get_running_loop().call_later(0.25, writer.write, b"250 ok\r\n")
                assert (await wire.reply()).code == 250

    run(main(), loop)


@both_loops
def test_less_patience_counts_from_the_next_wait_on(loop):
    """As QUIT asks for: the timer of earlier replies is no reason to wait longer."""

    async def main() -> None:
        async with wired(50.0) as (wire, _, writer):
            asyncio.get_running_loop().call_later(0.05, writer.write, b"250 ok\r\n")
            await wire.reply()
            wire.seconds = 0.1
            async with asyncio.timeout(5) as outer:
                with pytest.raises(TimeoutError):
                    await wire.reply()
            assert not outer.expired()

    run(main(), loop)


@both_loops
def test_a_wait_that_is_cancelled_leaves_the_next_one_whole(loop):
    async def main() -> None:
        async with wired() as (wire, _, writer):
            waiting = asyncio.create_task(wire.reply())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            writer.write(b"250 late\r\n")
            assert (await wire.reply()).text == "late"

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("said", [b"421 4.4.2 idle for too long\r\n", b"4", b"250 nobody asked\r\n"])
def test_a_relay_that_speaks_unasked_is_not_idle(said, loop):
    async def main() -> None:
        async with wired() as (wire, _, writer):
            assert wire.idle
            writer.write(said)
            await asyncio.sleep(0.05)
            assert not wire.idle
            assert wire.unread

    run(main(), loop)


@both_loops
def test_answers_without_end_are_not_kept(loop):
    async def main() -> None:
        async with wired() as (wire, _, writer):
            with suppress(ConnectionError):
                for _ in range(50):
                    writer.write(b"250\r\n" * 10_000)
                    await writer.drain()
            await until(lambda: wire.ended is not None)
            assert isinstance(wire.ended, Unasked)
            assert not wire.idle
            for _ in range(8):  # those that are there all the same
                assert (await wire.reply()).code == 250
            with pytest.raises(Unasked):
                await wire.reply()

    run(main(), loop)


@both_loops
def test_as_many_answers_are_kept_as_were_asked_for(loop):
    async def main() -> None:
        async with wired() as (wire, _, writer):
            wire.write(b"RCPT TO:<somebody@example.org>\r\n" * 1000, answers=1000)
            writer.write(b"250 ok\r\n" * 1000)
            for _ in range(1000):
                assert (await wire.reply()).code == 250
            assert wire.idle

    run(main(), loop)


@both_loops
@pytest.mark.parametrize(("lines", "is_one"), [(8, True), (9, False)])
def test_a_reply_is_no_longer_than_32_kilobytes(lines, is_one, loop):
    said = (b"250-" + b"x" * 3_996 + b"\r\n") * lines + b"250 that was it\r\n"
    if is_one:
        assert len(run(heard(said), loop).lines) == lines + 1
    else:
        with pytest.raises(NotSmtp, match="does not end"):
            run(heard(said), loop)


@both_loops
@pytest.mark.parametrize("said", [b"250 nobody asked\r\n", b"250-half\r\n", b"25"])
def test_nothing_is_said_to_a_relay_that_answers_unasked(said, loop):
    async def main() -> None:
        async with wired() as (wire, reader, writer):
            writer.write(said)
            await until(lambda: wire.unread)
            with pytest.raises(Unasked):
                wire.write(b"DATA\r\n")
            for content in (b"x\r\n", bytes(1 << 20)):
                with pytest.raises(Unasked):
                    await wire.write_much(content)
            await wire.close()
            assert await reader.read() == b""

    run(main(), loop)


@both_loops
def test_a_421_answers_what_was_not_said_any_more(loop):
    async def main() -> None:
        async with wired() as (wire, reader, writer):
            for content in (b"x\r\n", bytes(1 << 20)):
                writer.write(b"421 4.3.2 going down\r\n")
                await until(lambda: wire.unread)
                await wire.write_much(content)
                assert (await wire.reply()).code == 421
            await wire.close()
            assert await reader.read() == b""

    run(main(), loop)


@both_loops
def test_a_message_is_written_no_faster_than_it_is_taken(loop):
    content = bytes(range(256)) * (1 << 16)

    async def main() -> None:
        async with wired() as (wire, reader, _):
            writing = asyncio.create_task(wire.write_much(content))
            await asyncio.sleep(0.1)
            assert not writing.done()
            assert wire.transport.get_write_buffer_size() < len(content) // 2
            assert await reader.readexactly(len(content)) == content
            await writing

    run(main(), loop)


@both_loops
def test_a_relay_that_takes_nothing_of_a_message_is_a_time_out(loop):
    async def main() -> None:
        async with wired(SECONDS) as (wire, _, _):
            with pytest.raises(TimeoutError):
                await wire.write_much(bytes(64 << 20))

    run(main(), loop)


@both_loops
def test_a_message_whose_end_was_never_sent_is_told_apart(loop):
    async def main() -> None:
        async with wired() as (wire, _, writer):
            writing = asyncio.create_task(wire.write_much(bytes(64 << 20)))
            await asyncio.sleep(0.05)
            writer.transport.abort()
            with pytest.raises(ConnectionEnded):
                await writing
            wire.write(b"NOOP\r\n")
            with pytest.raises(ConnectionEnded):
                await wire.reply()

    run(main(), loop)
