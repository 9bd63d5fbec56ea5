"""Names of hosts become addresses, in threads that nobody has to wait for.

The system's resolver can take half a minute over a dead name, and nothing interrupts it. In the event loop's own
threads, of which uvloop has four for everything, a few such names would keep all others waiting, and at its end the
process.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import threading
from concurrent.futures import Future
from typing import Any

AddressInfo = tuple[Any, ...]
"""Family, type, protocol, canonical name and socket address, as getaddrinfo gives them."""

_MOST_AT_ONCE = 256  # more than the tests that may run at once can ask for, and few for a process

_under_way: dict[str, Future[list[AddressInfo]]] = {}
_access = threading.Lock()


class LookUpsBusy(OSError):
    """So many names wait for an answer that this one was not asked about."""

    def __init__(self) -> None:
        super().__init__(errno.EAGAIN, "too many names wait for an answer")


async def look_up(host: str, port: int) -> list[AddressInfo]:
    """What the system knows of a name, for TCP to this port. What is an address already needs no name server.

    Raises gaierror, LookUpsBusy, and UnicodeError for what cannot be a name.
    """
    if _is_address(host):
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    else:
        found = await asyncio.wrap_future(_asked(host))
    return [(*about, (address[0], port, *address[2:])) for *about, address in found]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _asked(host: str) -> Future[list[AddressInfo]]:
    """The look-up of this name that is under way, or a new one: however many wait for a dead name, one thread does."""
    with _access:
        if (asked := _under_way.get(host)) is not None:
            return asked
        if len(_under_way) >= _MOST_AT_ONCE:
            raise LookUpsBusy
        asked = Future()
        asked.set_running_or_notify_cancel()  # one caller who goes away leaves it to the others
        # A daemon: the end of the process does not wait for name servers.
        threading.Thread(target=_ask, args=(host, asked), name="keyrelay-look-up", daemon=True).start()
        _under_way[host] = asked
    return asked


def _ask(host: str, asked: Future[list[AddressInfo]]) -> None:
    problem: BaseException | None = None
    found: list[AddressInfo] = []
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except BaseException as raised:  # noqa: BLE001 - whoever waits gets it
        problem = raised
    with _access:
        del _under_way[host]
    if problem is None:
        asked.set_result(found)
    else:
        asked.set_exception(problem)
