"""From a host name to a connected socket: all its addresses, tried as RFC 8305 says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, zip_longest

import idna

from keyrelay.network.failures import network_kind
from keyrelay.network.names import look_up
from keyrelay.relay.model import Kind, failed

_NEXT_AFTER_SECONDS = 0.25  # RFC 8305 section 5, "Connection Attempt Delay"
_MOST_ADDRESSES = 10


@dataclass(frozen=True, slots=True)
class Address:
    """An address of the relay, numeric, with the port."""

    family: socket.AddressFamily
    sockaddr: tuple[str, int] | tuple[str, int, int, int]

    def __str__(self) -> str:
        host, _, *more = self.sockaddr
        scope = more[1] if more else 0  # an address that holds for one link alone needs it (RFC 4007 section 11)
        return f"{host}%{scope}" if scope and "%" not in host else host


def ascii_host(host: str) -> str:
    """The host as TLS and SMTP know it: IDNA names in their ASCII form, IP addresses without brackets.

    A final dot tells name servers that the name is whole, and is no part of it anywhere else (RFC 6066 section 3).
    """
    return _in_dns(host).removesuffix(".")


def _in_dns(host: str) -> str:
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    return bare if bare.isascii() else idna.encode(bare.lower()).decode("ascii")


async def resolve(host: str, port: int, *, seconds: float) -> list[Address]:
    """The addresses of ``host``, families in turn, IPv6 first. Raises StageFailed at ``resolve``."""
    try:
        async with asyncio.timeout(seconds):
            found = await look_up(_in_dns(host), port)
    except TimeoutError:
        raise failed("resolve", "dns_unavailable") from None
    except (OSError, UnicodeError) as problem:
        kind = network_kind(problem) if isinstance(problem, OSError) else "name_unknown"
        raise failed("resolve", kind) from None
    addresses = [Address(family, sockaddr) for family, _, _, _, sockaddr in found]
    six = [address for address in addresses if address.family == socket.AF_INET6]
    four = [address for address in addresses if address.family == socket.AF_INET]
    in_turn = [address for address in chain.from_iterable(zip_longest(six, four)) if address is not None]
    if not in_turn:
        raise failed("resolve", "no_address")
    return in_turn[:_MOST_ADDRESSES]


async def connect(addresses: list[Address], *, seconds: float) -> tuple[socket.socket, Address, dict[str, str]]:
    """The first connection that comes about, its address, and why the others did not.

    Each address gets a quarter of a second before the next is tried beside it; one that fails makes way at once.
    Raises StageFailed at ``connect`` when none does within ``seconds``.
    """
    failures: dict[str, str] = {}
    running: dict[asyncio.Task[socket.socket], Address] = {}
    waiting = list(addresses)
    try:
        async with asyncio.timeout(seconds):
            while waiting or running:
                if waiting:
                    address = waiting.pop(0)
                    running[asyncio.create_task(_attempt(address), name=f"keyrelay-connect-{address}")] = address
                wait = _NEXT_AFTER_SECONDS if waiting else None
                done, _ = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    address = running.pop(task)
                    problem = task.exception()
                    if problem is None:
                        return task.result(), address, failures
                    assert isinstance(problem, OSError)  # noqa: S101 - what a socket raises
                    failures[str(address)] = network_kind(problem)
    except TimeoutError:
        failures |= {str(address): "timeout" for address in running.values()}
    finally:
        _give_up(running)
    raise failed("connect", _said_most(failures), attempts=failures)


async def _attempt(address: Address) -> socket.socket:
    connection = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, address.sockaddr)
    except BaseException:
        connection.close()
        raise
    return connection


def _give_up(running: Iterable[asyncio.Task[socket.socket]]) -> None:
    """Without waiting for them: whoever waits can be cancelled, and would lose a connection that has come about."""
    for task in running:
        task.add_done_callback(_close)
        task.cancel()


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _said_most(failures: dict[str, str]) -> Kind:
    """The kind that tells most: a refusal was an answer, a time-out was none."""
    order: tuple[Kind, ...] = ("refused", "forbidden", "timeout", "unreachable", "closed")
    return next((kind for kind in order if kind in failures.values()), "unreachable")
