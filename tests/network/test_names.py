"""A name that no name server answers for keeps nobody waiting but whoever asked for it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from keyrelay.network import exchange, names
from keyrelay.network.exchange import HttpRequest, NoAnswer
from keyrelay.network.names import LookUpsBusy, look_up
from keyrelay.network.trust import Trust
from keyrelay.relay import connecting
from keyrelay.relay.connecting import resolve
from relaying import both_loops, evidence_of, run

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.25", 0))]


class Resolver:
    """A resolver that knows every name, and answers for those that begin with ``dead`` only at the end."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.end = threading.Event()

    def __call__(self, host: str, port: int, *_: Any, **__: Any) -> Any:
        self.asked.append(host)
        if host.startswith("dead"):
            self.end.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return FOUND


@pytest.fixture
def resolver(monkeypatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    monkeypatch.setattr(connecting, "look_up", look_up)  # without the fence: no name leaves this process here
    yield made
    made.end.set()
    # The next test asks for the same names, and would share what is still being asked here.
    for thread in threading.enumerate():
        if thread.name == "keyrelay-look-up":
            thread.join(30)
            assert not thread.is_alive()


@both_loops
def test_dead_names_do_not_keep_a_good_one_waiting(loop, resolver):
    async def main() -> None:
        dead = [asyncio.create_task(resolve(f"dead{number}.test", 25, seconds=0.5)) for number in range(40)]
        await asyncio.sleep(0)
        (address,) = await resolve("good.test", 25, seconds=5)
        assert address.sockaddr == ("192.0.2.25", 25)
        outcomes = await asyncio.gather(*dead, return_exceptions=True)
        assert {outcome.evidence.kind for outcome in outcomes} == {"dns_unavailable"}
        # Their threads are still there.
        (address,) = await resolve("another.test", 587, seconds=5)
        assert address.sockaddr == ("192.0.2.25", 587)

    run(main(), loop)


@both_loops
def test_a_name_is_asked_about_once_however_many_wait_for_it(loop, resolver):
    async def main() -> None:
        waiting = [asyncio.create_task(look_up("dead.test", port)) for port in range(50)]
        await asyncio.sleep(0.05)
        waiting[0].cancel()  # one who goes away leaves it to the others
        await asyncio.sleep(0)
        resolver.end.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert {type(outcome) for outcome in outcomes[1:]} == {socket.gaierror}
        assert resolver.asked == ["dead.test"]
        with pytest.raises(socket.gaierror):
            await look_up("dead.test", 25)
        assert resolver.asked == ["dead.test"] * 2  # what was said is not kept

    run(main(), loop)


@both_loops
def test_a_look_up_that_is_not_begun_is_told_apart_from_one_that_is_not_answered(loop, resolver, monkeypatch):
    monkeypatch.setattr(names, "_MOST_AT_ONCE", 2)

    async def main() -> None:
        dead = [asyncio.create_task(look_up(f"dead{number}.test", 25)) for number in range(2)]
        await asyncio.sleep(0)
        evidence = await evidence_of(resolve("good.test", 25, seconds=5))
        assert (evidence.stage, evidence.kind) == ("resolve", "dns_busy")
        resolver.end.set()
        await asyncio.gather(*dead, return_exceptions=True)
        assert await resolve("good.test", 25, seconds=5)

    run(main(), loop)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]"])
@both_loops
def test_an_address_needs_no_look_up(loop, host, monkeypatch):
    monkeypatch.setattr(names, "_MOST_AT_ONCE", 0)
    monkeypatch.setattr(connecting, "look_up", look_up)
    (address,) = run(resolve(host, 25, seconds=5), loop)
    assert str(address) == host.strip("[]")
    assert address.sockaddr[1] == 25


def test_an_address_of_one_link_keeps_its_scope():
    address = connecting.Address(socket.AF_INET6, ("fe80::1", 25, 0, 3))
    assert str(address) == "fe80::1%3"
    assert str(connecting.Address(socket.AF_INET6, ("2001:db8::1", 25, 0, 0))) == "2001:db8::1"


@both_loops
def test_what_an_http_request_asks_for_waits_in_the_same_threads(loop, resolver, monkeypatch):
    """The client's own look-ups use the event loop's, and come only after a name that is answered for."""
    request = HttpRequest("GET", "https://dead.test:8443/")

    async def main() -> None:
        with pytest.raises(NoAnswer) as caught:
            await exchange.exchange(request, Trust().for_http(), within=0.2, limit=10)
        assert caught.value.kind == "timeout"
        monkeypatch.setattr(names, "_MOST_AT_ONCE", 0)
        with pytest.raises(NoAnswer) as caught:
            await exchange.exchange(HttpRequest("GET", "https://good.test/"), Trust().for_http(), within=5, limit=10)
        assert caught.value.kind == "dns_busy"

    run(main(), loop)
    assert resolver.asked == ["dead.test"]


def test_what_is_busy_is_an_error_of_the_system():
    assert isinstance(LookUpsBusy(), OSError)
    assert str(LookUpsBusy())


def test_a_look_up_does_not_keep_the_process_from_ending():
    program = """if True:
        import asyncio, socket, time
        from keyrelay.network.names import look_up
        socket.getaddrinfo = lambda *_, **__: time.sleep(300)

        async def main():
            try:
                async with asyncio.timeout(0.1):
                    await look_up("dead.test", 25)
            except TimeoutError:
                print("given up")

        asyncio.run(main())
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("given up\n", "")
