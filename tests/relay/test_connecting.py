"""Names, addresses, and the race between them: the first that answers wins, and what the others said is kept."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest

from keyrelay.chaos.relay import ChaosRelay
from keyrelay.relay import connecting
from keyrelay.relay.connecting import Address, connect, resolve
from keyrelay.relay.model import StageFailed
from keyrelay.relay.opening import Patience, Terms, open_session
from keyrelay.relay.transcript import Redactor, Transcript
from relaying import ANONYMOUS, both_loops, evidence_of, profile, relay, run, terms, until

SIX, FOUR = "::1", "127.0.0.1"


def at(host: str, port: int) -> Address:
    if ":" in host:
        return Address(socket.AF_INET6, (host, port, 0, 0))
    return Address(socket.AF_INET, (host, port))


@contextmanager
def names(*addresses: str) -> Iterator[None]:
    """Whatever name is asked for has these addresses."""

    async def look_up(host: str, port: int) -> list[tuple[object, ...]]:
        found = [at(address, port) for address in addresses]
        return [(one.family, socket.SOCK_STREAM, 6, "", one.sockaddr) for one in found]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connecting, "look_up", look_up)
        yield


def nobody_at(host: str) -> int:
    """A port where nobody listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])


@asynccontextmanager
async def deaf(host: str = "127.0.0.2", port: int = 0) -> AsyncIterator[int]:
    """An address that does not answer: its backlog is full, and nobody takes anything from it."""
    with socket.socket() as listener, suppress(BlockingIOError):
        listener.bind((host, port))
        listener.listen(0)
        place = listener.getsockname()
        filling = []
        try:
            while len(filling) < 50:
                one = socket.socket()
                one.setblocking(False)
                filling.append(one)
                with suppress(BlockingIOError):
                    one.connect(place)
                await asyncio.sleep(0.02)
                if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and not _connected(one):
                    yield place[1]
                    return
            pytest.fail("the backlog does not fill")
        finally:
            for one in filling:
                one.close()


def _connected(one: socket.socket) -> bool:
    with suppress(OSError):
        one.getpeername()
        return True
    return False


async def winner(*addresses: Address, seconds: float = 10.0) -> tuple[str, dict[str, str]]:
    connected, address, others = await connect(list(addresses), seconds=seconds)
    connected.close()
    return str(address), others


@both_loops
def test_ipv6_refused_means_ipv4_is_used_and_reported(loop):
    async def main() -> None:
        async with ChaosRelay(host=FOUR) as there:
            with names(SIX, FOUR):
                transcript = Transcript(Redactor())
                session = await open_session(profile(there.port, "two.test"), ANONYMOUS, terms(), transcript)
                await session.quit()
        resolved, connected = transcript.stages[:2]
        assert resolved.learned["addresses"] == [SIX, FOUR]
        assert connected.learned == {"address": FOUR, "family": "IPv4", "other_attempts": {SIX: "refused"}}

    run(main(), loop)


@both_loops
def test_ipv6_is_used_where_it_answers_and_the_hello_names_it(loop):
    async def main() -> None:
        async with ChaosRelay(host=SIX) as there:
            with names(FOUR, SIX):
                transcript = Transcript(Redactor())
                made = terms(hello_name="[IPv6:::1]")
                session = await open_session(profile(there.port, "two.test"), ANONYMOUS, made, transcript)
                await session.quit()
            assert there.mistakes == []
        assert transcript.stages[1].learned == {"address": SIX, "family": "IPv6"}

    run(main(), loop)


@both_loops
def test_an_address_that_does_not_answer_gets_a_quarter_of_a_second(loop):
    async def main() -> None:
        async with relay() as there, deaf(port=there.port):
            began = time.monotonic()
            address, others = await winner(at("127.0.0.2", there.port), at(FOUR, there.port))
            assert address == FOUR
            assert others == {}  # it has not failed: it was too slow
            assert time.monotonic() - began >= 0.2  # RFC 8305 section 5 has 250 ms

    run(main(), loop)


@both_loops
def test_a_refusal_makes_way_at_once_also_beside_one_that_does_not_answer(loop):
    async def main() -> None:
        async with relay() as there, deaf(port=there.port):
            six, slow, four = at(SIX, there.port), at("127.0.0.2", there.port), at(FOUR, there.port)
            assert await winner(slow, six, four) == (FOUR, {SIX: "refused"})

    run(main(), loop)


@both_loops
def test_all_failures_are_reported(loop):
    async def main() -> None:
        async with deaf() as port:
            failing = connect([at(SIX, port), at("127.0.0.2", port), at(FOUR, port)], seconds=1.0)
            evidence = await evidence_of(failing)
            assert (evidence.stage, evidence.kind) == ("connect", "refused")  # the kind that tells most
            assert evidence.facts["attempts"] == {SIX: "refused", "127.0.0.2": "timeout", FOUR: "refused"}

    run(main(), loop)


@both_loops
def test_silence_everywhere_is_a_time_out(loop):
    async def main() -> None:
        async with deaf() as port:
            evidence = await evidence_of(connect([at("127.0.0.2", port)], seconds=0.5))
            assert (evidence.stage, evidence.kind) == ("connect", "timeout")
            assert evidence.facts["attempts"] == {"127.0.0.2": "timeout"}

    run(main(), loop)


@both_loops
def test_a_port_where_nobody_listens_is_a_refusal(loop):
    evidence = run(evidence_of(connect([at(FOUR, nobody_at(FOUR))], seconds=5)), loop)
    assert (evidence.stage, evidence.kind) == ("connect", "refused")


@both_loops
def test_what_was_reached_is_kept_although_another_attempt_is_slow_to_give_up(loop, monkeypatch):
    """Whoever waits for it may be called off meanwhile, and then nobody would close it."""
    made: list[socket.socket] = []
    attempt = connecting._attempt

    async def slow_to_give_up(address: Address) -> socket.socket:
        try:
            made.append(await attempt(address))
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
            raise
        return made[-1]

    async def main() -> None:
        monkeypatch.setattr(connecting, "_attempt", slow_to_give_up)
        async with relay() as there, deaf(port=there.port):
            racing = asyncio.create_task(connect([at("127.0.0.2", there.port), at(FOUR, there.port)], seconds=5))
            await until(lambda: bool(made))
            await asyncio.sleep(0.01)
            racing.cancel()
            connected, _, _ = await racing
            assert made == [connected]
            connected.close()
            await asyncio.sleep(0.15)

    run(main(), loop)


@both_loops
def test_one_that_comes_about_while_it_is_given_up_is_closed(loop, monkeypatch):
    made: list[socket.socket] = []
    attempt = connecting._attempt

    async def too_late(address: Address) -> socket.socket:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(5)
        made.append(await attempt(address))
        return made[-1]

    async def main() -> None:
        async with relay() as there:
            monkeypatch.setattr(connecting, "_attempt", too_late)
            racing = asyncio.create_task(connect([at(FOUR, there.port)], seconds=5))
            await asyncio.sleep(0.05)
            for _ in range(2):  # by two who have each lost their patience
                racing.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await racing
            await until(lambda: bool(made))
            await asyncio.sleep(0.01)
            assert made[0].fileno() == -1

    run(main(), loop)


@both_loops
def test_a_race_that_is_called_off_leaves_no_socket(loop):
    async def main() -> None:
        async with deaf() as port:
            racing = asyncio.create_task(connect([at("127.0.0.2", port)] * 3, seconds=30))
            await asyncio.sleep(0.6)  # two or three are under way
            racing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await racing

    run(main(), loop)


def test_addresses_take_turns_by_family_ipv6_first():
    async def main() -> None:
        with names("192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.3"):
            found = await resolve("many.test", 25, seconds=5)
        assert [str(one) for one in found] == ["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]

    run(main())


def test_no_more_than_ten_addresses_are_tried():
    async def main() -> None:
        with names(*(f"192.0.2.{number}" for number in range(1, 40))):
            assert len(await resolve("many.test", 25, seconds=5)) == 10

    run(main())


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("LOCALHOST", "LOCALHOST"),
        ("[::1]", "::1"),
        ("b\u00fccher.test", "xn--bcher-kva.test"),
        ("B\u00dcCHER.test", "xn--bcher-kva.test"),
        ("a.test.", "a.test."),
    ],
)
def test_a_host_is_looked_up_as_dns_writes_it(host, asked, monkeypatch):
    seen = []

    async def look_up(host: str, port: int) -> list[tuple[object, ...]]:
        seen.append(host)
        return []

    monkeypatch.setattr(connecting, "look_up", look_up)
    assert run(evidence_of(resolve(host, 25, seconds=5))).kind == "no_address"
    assert seen == [asked]


@pytest.mark.parametrize(
    ("host", "named"),
    [("a.test.", "a.test"), ("B\u00fccher.test.", "xn--bcher-kva.test"), ("[::1]", "::1"), ("A.test", "A.test")],
)
def test_a_host_is_named_to_others_without_brackets_and_final_dot(host, named):
    assert connecting.ascii_host(host) == named


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "no such name"), "name_unknown"),
        (socket.gaierror(socket.EAI_AGAIN, "no server"), "dns_unavailable"),
        (socket.gaierror(-5, "no data"), "no_address"),
        (UnicodeError("label too long"), "name_unknown"),
        (TimeoutError(), "dns_unavailable"),
    ],
)
@both_loops
def test_what_keeps_a_name_from_being_resolved_is_told_apart(problem, kind, loop, monkeypatch):
    async def look_up(host: str, port: int) -> list[tuple[object, ...]]:
        raise problem

    monkeypatch.setattr(connecting, "look_up", look_up)
    evidence = run(evidence_of(resolve("odd.test", 25, seconds=5)), loop)
    assert (evidence.stage, evidence.kind) == ("resolve", kind)


@pytest.mark.parametrize("host", ["a..test", "." * 3, "x" * 64 + ".test", "\u200b.test", "xn--\u00fc.test", "a" * 300])
def test_a_name_that_cannot_be_one_is_unknown_and_no_accident(host):
    evidence = run(evidence_of(resolve(host, 25, seconds=5)))
    assert (evidence.stage, evidence.kind) == ("resolve", "name_unknown")


def test_name_servers_that_do_not_answer_are_not_waited_for(monkeypatch):
    async def look_up(host: str, port: int) -> list[tuple[object, ...]]:
        await asyncio.sleep(1000)
        return []

    monkeypatch.setattr(connecting, "look_up", look_up)
    patient = terms()
    short = Terms(patient.trust, patient.tokens, None, patience=Patience(resolve=0.1))
    with pytest.raises(StageFailed) as failure:
        run(open_session(profile(25, "slow.test"), ANONYMOUS, short))
    assert (failure.value.evidence.stage, failure.value.evidence.kind) == ("resolve", "dns_unavailable")
