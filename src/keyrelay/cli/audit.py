"""``keyrelay audit``: who did what, and whether anybody has changed the record of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from cyclopts import App, Parameter

from keyrelay.api.audit import downloaded
from keyrelay.api.learned import shown
from keyrelay.api.lists import MOST_RETURNED
from keyrelay.audit import accepting, reading, telling, verifying
from keyrelay.audit.acting import acting
from keyrelay.audit.model import Entry
from keyrelay.audit.reading import FIELDS, Search
from keyrelay.audit.verifying import Mark, Verified
from keyrelay.cli import audit_shown, moments, terminal
from keyrelay.cli.terminal import AsJson
from keyrelay.errors import BadInput, TrailBroken, UnknownName, Unsuitable
from keyrelay.query_language import AllOf, Comparison, Condition, Operator, parse
from keyrelay.server import Node

app = App(name="audit")

_AT_ONCE = 100


@app.command(name="list")
def list_entries(
    *,
    user: str | None = None,
    category: str | None = None,
    operation: str | None = None,
    about: str | None = None,
    since: Annotated[str | None, Parameter(metavar="TIME")] = None,
    until: Annotated[str | None, Parameter(metavar="TIME")] = None,
    query: str | None = None,
    limit: int = 50,
    json: AsJson = False,
) -> None:
    """List what was done, newest first.

    Parameters
    ----------
    user
        Only what this user did.
    category
        Only what is about this area, such as SMTP, PAM or AuthorizationFailure; a number will do.
    operation
        Only this, such as Updated, Deleted or Denied; a number will do.
    about
        Only what is about the thing of this name.
    since
        Only since then: 2h ago, or 2026-03-01T12:30.
    until
        Only before that.
    query
        Only what meets this query, such as 'level -ge 1 AND user -contains "smith"'.
    limit
        Entries to list at the most.
    json
        Print JSON.
    """
    if not 1 <= limit <= MOST_RETURNED:
        told = "keyrelay audit export writes all there are."
        raise Unsuitable(f"--limit must be a number from 1 to {MOST_RETURNED}.", remedy=told)
    named = {"User": user, "Category": category, "Operation": operation, "AuditIdentifier": about}
    condition = _condition(named, since, until, query)

    async def work(node: Node) -> list[Entry]:
        return await reading.find(node.store, Search(condition, descending=True, limit=limit))

    columns = {
        "Id": lambda row: str(row["id"]),
        "When": lambda row: row["timestamp"][:19].replace("T", " ") + "Z",
        "User": lambda row: shown(row["user"]) or "nobody",
        "What": lambda row: shown(f"{row['category']} {row['operation']}"),
        "About": lambda row: shown(row["name"] or row["entity_type"]),
        "": lambda row: shown(audit_shown.brief(row)),
    }
    terminal.show([audit_shown.entry_document(entry) for entry in terminal.with_node(work)], columns, as_json=json)


@app.command
def show(entry: int, *, json: AsJson = False) -> None:
    """Show all that an entry says.

    Parameters
    ----------
    entry
        Its number.
    json
        Print JSON.
    """

    async def work(node: Node) -> Entry | None:
        return await reading.one(node.store, entry)

    found = terminal.with_node(work)
    if found is None:
        raise UnknownName(f"There is no audit entry {entry}.", remedy="keyrelay audit list shows what there is.")
    document = audit_shown.entry_document(found)
    if json:
        terminal.show_json(document)
        return
    for field, value in document.items():
        if field not in {"details", "changes"} and value is not None:
            print(f"{field:<12} {shown(str(value))}")
    for field, value in document["details"].items():
        print(f"  {shown(field)}: {shown(audit_shown.readable(value))}")
    for field, value in document["changes"].items():
        print(f"  {shown(field)} {shown(audit_shown.change(value))}")


@app.command
def verify(*, since: Annotated[str | None, Parameter(metavar="ID:HASH")] = None, json: AsJson = False) -> None:
    """Look whether anybody has changed, deleted, inserted, moved or cut off anything. Exit code 1 if somebody has.

    It prints where the trail ends. Note that somewhere else: only who knows an earlier end can tell that the whole
    database was set back.

    Parameters
    ----------
    since
        An end that was noted earlier; it has to be a part of the trail.
    json
        Print JSON.
    """
    mark = None if since is None else _mark(since)

    async def work(node: Node) -> Verified:
        signer = await node.journal.signer(node.store)
        with _progress() as told:
            return await verifying.verify(node.store, signer, mark, told)

    found = terminal.with_node(work)
    if json:
        holds = found.broken is None
        end = str(found.end) if holds else None
        document = {"holds": holds, "broken": found.broken, "entries": found.entries, "first": found.first, "end": end}
        terminal.show_json(document)
        if not holds:
            raise SystemExit(1)
        return
    if found.broken is not None:
        raise TrailBroken(found.broken)
    noun = "1 entry" if found.entries == 1 else f"{found.entries} entries"
    print(f"The audit trail holds: {noun}, from {found.first} on.")
    print(f"It ends at {found.end}")


@app.command
def accept() -> None:
    """Go on after somebody has moved the end of the trail, and every change is refused (trail_broken).

    An entry says what was found, and stays. Keep a copy of the database first: it is the evidence.
    """

    async def work(node: Node) -> int:
        signer = await node.journal.signer(node.store)
        found = await verifying.verify(node.store, signer)
        told = found.broken or "nothing by now"
        return await node.store.perform(accepting.accepted(signer, acting(), told))

    print(f"Entry {terminal.with_node(work)} says what was found. Changes are recorded behind it.")


@app.command
def export(*, query: str | None = None) -> None:
    """Write entries to standard output as CSV, oldest first, however many there are.

    Parameters
    ----------
    query
        Only those that meet this query, such as 'timestamp -ge "2026-01-01"'.
    """
    condition = _condition({}, None, None, query)

    async def work(node: Node) -> None:
        async with node.store.change() as change:
            await node.journal.write(change, downloaded(None))
        sys.stdout.buffer.write(telling.heading().encode())
        some: list[Entry] = []
        async for entry in reading.every(node.store, condition):
            some.append(entry)
            if len(some) == _AT_ONCE:
                sys.stdout.buffer.write(telling.sheet(some).encode())
                some = []
        sys.stdout.buffer.write(telling.sheet(some).encode())

    terminal.with_node(work)


def _condition(
    named: dict[str, str | None], since: str | None, until: str | None, query: str | None
) -> Condition | None:
    parts: list[Condition] = [
        Comparison(field, Operator.EQUAL, value) for field, value in named.items() if value is not None
    ]
    if since is not None:
        parts.append(Comparison("Timestamp", Operator.GREATER_OR_EQUAL, moments.before_now(since, "--since")))
    if until is not None:
        parts.append(Comparison("Timestamp", Operator.LESS, moments.before_now(until, "--until")))
    if query is not None:
        try:
            asked = parse(query, FIELDS)
        except BadInput as error:
            raise Unsuitable(
                " ".join(error.sentences(lambda _: "--query")), remedy="docs/audit.md shows some."
            ) from None
        parts += [] if asked is None else [asked]
    return AllOf(tuple(parts)) if len(parts) > 1 else parts[0] if parts else None


def _mark(text: str) -> Mark:
    mark = Mark.read(text)
    if mark is None:
        raise Unsuitable("--since is no end of a trail.", remedy="Give it as keyrelay audit verify prints it: ID:HASH.")
    return mark


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; nothing anywhere else."""
    if not sys.stderr.isatty():
        yield lambda _, __: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("Verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, console=Console(stderr=True)) as bar:
        task = bar.add_task("Verifying", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=max(total, done))
