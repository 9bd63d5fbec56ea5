"""``make bench-pages``: how long the pages of the portal take to begin, and how much comes over the wire.

The outbox holds as many messages as are asked for. A page is asked for by one person, over and over; then everything
that a browser needs to show it for the first time is counted.
"""

from __future__ import annotations

import http.client
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import urlencode, urljoin

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

import disk
from figures import Spread
from growth import LARGEST, Backlog, told
from installation import Serving
from keyrelay.portal.portal import ROOMS
from process import Failed, free_port

_ASKED = 30
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_NEEDED = re.compile(r'(?:href|src)="([^"]*/static/[^"]+)"')
_IMPORTED = re.compile(r'(?:from|import) *"(\./[^"]+)"')
_MESSAGE = re.compile(r'href="[./]*outbox/([0-9a-z-]{8,})"')
_LONGEST = 50.0  # milliseconds to the first byte, and
_HEAVIEST = 100_000  # bytes, the targets

_NO_PAGES = {"/audit/download", "/access/user"}  # a file, and a page of whoever its query names

app = App(help="Measure the pages of the portal.", version_flags=[])


@app.default
def pages(
    *,
    messages: Annotated[int, Parameter(validator=Number(gte=1))] = 20_000,
    full: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Measure every page, and the outbox's with its filters.

    Parameters
    ----------
    messages
        How many wait in the outbox.
    full
        A million of them: 5 GB of disk, and some minutes more.
    """
    waiting = LARGEST if full else messages
    with disk.scratch() as directory:
        with told(f"Filling the outbox with {waiting:,} messages"):
            filling = Backlog.filled(directory, waiting)
            backlog = filling.__enter__()
        try:
            with backlog.keyrelay.serving(free_port()) as serving, Visitor.signed_in(serving) as visitor:
                show(waiting, [visitor.measure(page) for page in visitor.pages()])
        finally:
            filling.__exit__(None, None, None)


class Visitor:
    """A browser, as far as the wire is concerned."""

    def __init__(self, connection: http.client.HTTPConnection, cookie: str) -> None:
        self._connection = connection
        self._headers = {"Cookie": cookie}

    @classmethod
    @contextmanager
    def signed_in(cls, serving: Serving) -> Iterator[Visitor]:
        connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=60)
        try:
            form = urlencode({"name": "admin", "password": serving.of.password})
            connection.request("POST", "/portal/sign-in", form, _FORM)
            answer = connection.getresponse()
            answer.read()
            cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
            if not cookie:
                raise Failed("The portal did not let the administrator in.")
            yield cls(connection, cookie)
        finally:
            connection.close()

    def pages(self) -> list[str]:
        found = [path for room in ROOMS for path, rights in room.items() if "GET" in rights and "{" not in path]
        found = [path for path in found if path not in _NO_PAGES]
        listed = self._get("/portal/outbox")[1].decode()
        filtered = ["?state=queued", "?state=refused", "?recipient=nobody%40example.org", "?since=2026-01-01T00:00:00Z"]
        message = _MESSAGE.search(listed)
        if message is None:
            raise Failed("The outbox shows no message.")
        return [
            f"/portal{path}" for path in [*found, *(f"/outbox{each}" for each in filtered), f"/outbox/{message[1]}"]
        ]

    def measure(self, page: str) -> tuple[str, Spread, int]:
        """The page, milliseconds to its first byte, and bytes of its first load."""
        taken = [self._get(page)[0] for _ in range(_ASKED)]
        return page, Spread.of(taken[1:]), self._weight(page)

    def _weight(self, page: str) -> int:
        body = self._get(page)[1]
        seen: set[str] = set()
        wanted = [urljoin(page, each) for each in _NEEDED.findall(body.decode())]
        size = len(body)
        while wanted:
            path = wanted.pop()
            if path in seen:
                continue
            seen.add(path)
            content = self._get(path)[1]
            size += len(content)
            if path.endswith(".js"):
                wanted += [urljoin(path, each) for each in _IMPORTED.findall(content.decode())]
        return size

    def _get(self, path: str) -> tuple[float, bytes]:
        started = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        first = time.perf_counter() - started
        body = answer.read()
        if answer.status != 200:
            raise Failed(f"GET {path} was answered {answer.status}.")
        return first * 1000, body


def show(waiting: int, measured: list[tuple[str, Spread, int]]) -> None:
    table = Table(
        "page", "milliseconds", "bytes", "target", box=SIMPLE, title=f"The portal, with {waiting:,} messages waiting"
    )
    for page, first, weight in measured:
        met = first.median < _LONGEST and weight < _HEAVIEST
        table.add_row(page, first.text("{:.1f}"), f"{weight:,}", "met" if met else "missed")
    Console(width=112).print(table)


if __name__ == "__main__":
    try:
        app()
    except Failed as problem:
        sys.exit(f"bench: {problem}")
