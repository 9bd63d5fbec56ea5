"""``keyrelay outbox status`` and ``watch``: how the outbox stands, once or as it goes."""

from __future__ import annotations

import asyncio
import json as json_lines
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from keyrelay.amounts import span_text
from keyrelay.cli import outbox_shown, terminal
from keyrelay.cli.sysexits import say
from keyrelay.cli.terminal import AsJson
from keyrelay.errors import StoreUnavailable
from keyrelay.server import Node

if TYPE_CHECKING:
    from rich.console import RenderableType

_MEGABYTE = 1024 * 1024
_OFTEN, _SELDOM = 0.2, 3600.0  # seconds

Document = dict[str, Any]


def status(*, json: AsJson = False) -> None:
    """Show how the outbox stands.

    Parameters
    ----------
    json
        Print JSON.
    """
    document = terminal.with_node(_look)
    if json:
        terminal.show_json(document)
        return
    for line in outbox_shown.standing_lines(document):
        print(line)


def watch(*, every: Annotated[float, Parameter(metavar="SECONDS")] = 1.0, json: AsJson = False) -> None:
    """Watch the outbox, until Ctrl+C.

    Parameters
    ----------
    every
        How often to look.
    json
        Print a line of JSON for each look.
    """
    pause = min(max(every, _OFTEN), _SELDOM)
    try:
        with _view(as_json=json) as show:
            terminal.with_node(lambda node: _watch(node, show, pause))
    except KeyboardInterrupt:  # that is how it ends
        return


async def _watch(node: Node, show: Callable[[Document], None], pause: float) -> None:
    answers = True
    while True:
        try:
            show(await _look(node))
            answers = True
        except StoreUnavailable as error:  # whoever watches wants to see it come back
            if answers:
                say(f"{error} {error.advice}")
            answers = False
        await asyncio.sleep(pause)


async def _look(node: Node) -> Document:
    from keyrelay.api.message_documents import overview_document
    from keyrelay.outbox.overview import overview

    office = node.outbox.office
    if office.watch.own is None:
        await office.open()
    found = await overview(office)
    most = node.settings.outbox_megabytes * _MEGABYTE
    return overview_document(found, most, (await node.keeper.snapshot()).profile)


@contextmanager
def _view(*, as_json: bool) -> Iterator[Callable[[Document], None]]:
    if as_json:
        yield lambda document: print(json_lines.dumps(document, ensure_ascii=False), flush=True)
        return
    if not sys.stdout.isatty():
        yield lambda document: print(outbox_shown.watch_line(document), flush=True)
        return
    from rich.live import Live

    board = _Board()
    with Live(auto_refresh=False, screen=False) as live:
        yield lambda document: live.update(board.drawn(document), refresh=True)


class _Board:
    """The view on a terminal. The bar is full when nothing is left of the most that was seen waiting."""

    def __init__(self) -> None:
        self._peak = 0

    def drawn(self, document: Document) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        left = outbox_shown.waiting(document)
        self._peak = max(self._peak, left) if left else 0
        total = max(self._peak, 1)
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=total, completed=total - left, width=40), Text(_left(document, left)))
        lines = [Text(line, overflow="ellipsis", no_wrap=True) for line in outbox_shown.standing_lines(document)]
        return Group(
            Text(outbox_shown.when(document["at"]), style="dim"), bar, *lines, Text("Ctrl+C ends this.", "dim")
        )


def _left(document: Document, left: int) -> str:
    rate = float(document["rates"]["accepted"])
    if not left:
        return "nothing to send"
    about = f", about {span_text(60 * left / rate)}" if rate and document["pressure"]["mode"] == "open" else ""
    return f"{left} to send{about}"
