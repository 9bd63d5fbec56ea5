"""``keyrelay outbox``: what was handed in, and what became of it."""

from __future__ import annotations

import json as json_lines
import sys
from collections.abc import Iterator
from typing import Annotated, Any

from cyclopts import App, Parameter

from keyrelay.api.learned import shown
from keyrelay.cli import moments, outbox_shown, terminal
from keyrelay.cli.terminal import AsJson
from keyrelay.errors import UnknownName, Unsuitable
from keyrelay.outbox.listing import MOST_ON_A_PAGE, Detail, Search
from keyrelay.outbox.model import STATES, State
from keyrelay.outbox.schedule import OutboxClock
from keyrelay.profile.model import SmtpProfile
from keyrelay.server import Node

app = App(name="outbox")
_STEERING = {
    "resend": "Send messages again that were refused, have expired or were cancelled, or try deferred ones now.",
    "cancel": "Take messages back that wait.",
    "hold": "Keep messages from going out that wait.",
    "release": "Let messages go that are held.",
    "pause": "Let nothing go out until it is resumed. Messages are still taken in.",
    "resume": "Let everything go out, whatever has held it up.",
}
for _name, _help in _STEERING.items():
    app.command(f"keyrelay.cli.outbox_steering:{_name}", name=_name, help=_help)
app.command("keyrelay.cli.outbox_standing:status", name="status", help="Show how the outbox stands.")
app.command("keyrelay.cli.outbox_standing:watch", name="watch", help="Watch the outbox, until Ctrl+C.")

Document = dict[str, Any]


@app.command(name="list")
def list_messages(
    *,
    state: Annotated[list[State] | None, Parameter(negative="")] = None,
    to: str | None = None,
    since: Annotated[str | None, Parameter(metavar="TIME")] = None,
    until: Annotated[str | None, Parameter(metavar="TIME")] = None,
    limit: int = 50,
    all_: Annotated[bool, Parameter(name="--all")] = False,
    json: AsJson = False,
) -> None:
    """List messages, newest first.

    Parameters
    ----------
    state
        Only those in this state. May be given several times.
    to
        Only those to this address.
    since
        Only those handed in since then: 2h ago, or 2026-03-01T12:30.
    until
        Only those handed in before that.
    limit
        Messages to list at the most.
    all_
        List all of them, however many there are.
    json
        Print JSON.
    """
    if limit < 1:
        raise Unsuitable("--limit must be 1 or more.", remedy="Give --all for all messages.")
    search = Search(
        frozenset(state or STATES),
        to,
        None if since is None else moments.before_now(since, "--since"),
        None if until is None else moments.before_now(until, "--until"),
    )
    printed = _Array() if json else _Lines()

    async def work(node: Node) -> bool:
        from keyrelay.api.message_documents import message_document
        from keyrelay.outbox import listing

        left: int | None = None if all_ else limit
        after, clock, profile = None, await clock_of(node), await profile_of(node)
        while left is None or left > 0:
            at_once = MOST_ON_A_PAGE if left is None else min(left, MOST_ON_A_PAGE)
            page = await listing.find(node.store, search, after=after, limit=at_once)
            for kept in page.submissions:
                printed.add(message_document(kept, clock, profile))
            left = None if left is None else left - len(page.submissions)
            after = page.next
            if after is None:
                break
        return after is not None

    more = terminal.with_node(work)
    printed.end()
    if more and sys.stdout.isatty():
        print("There are more; --all lists them.")


@app.command
def show(message: str, *, json: AsJson = False) -> None:
    """Show a message, every attempt at it, and what the relay said.

    Parameters
    ----------
    message
        Its id, as keyrelay send and keyrelay outbox list print it.
    json
        Print JSON.
    """

    async def work(node: Node) -> Document:
        from keyrelay.api.message_documents import detail_document

        return detail_document(await _detail(node, message), await clock_of(node), await profile_of(node))

    document = terminal.with_node(work)
    if json:
        terminal.show_json(document)
        return
    for line in outbox_shown.message_lines(document):
        print(line)


@app.command
def raw(message: str) -> None:
    """Write a message to standard output, as it is handed to the relay.

    Parameters
    ----------
    message
        Its id.
    """

    async def work(node: Node) -> bytes | None:
        from keyrelay.outbox import content

        await _detail(node, message)
        await node.keyring.refresh(node.store)
        return await content.reveal(node.store, node.keyring, message)

    octets = terminal.with_node(work)
    if octets is None:
        remedy = "The settings KEYRELAY_KEEP_… say how long contents are kept."
        raise UnknownName("The content of the message is not kept any more.", remedy=remedy)
    if sys.stdout.isatty():  # which takes some of what strangers write as commands
        for line in octets.decode(errors="replace").splitlines():
            print(shown(line))
    else:
        sys.stdout.buffer.write(octets)


async def _detail(node: Node, name: str) -> Detail:
    from keyrelay.outbox import listing

    detail = await listing.one(node.store, name)
    if detail is None:
        raise UnknownName("There is no message of this id.", remedy="List the messages: keyrelay outbox list.")
    return detail


async def clock_of(node: Node) -> OutboxClock:
    """What time it is in the outbox."""
    office = node.outbox.office
    if office.watch.own is None:
        await office.open()
    return office.watch.clock


async def profile_of(node: Node) -> SmtpProfile | None:
    return (await node.keeper.snapshot()).profile


# --- A list of any length, printed as it is read -------------------------------------------------------------


class _Lines:
    """For people, and for grep: a message is a line."""

    _heads = ("Handed in", "State", "Id", "To, and what was said")

    def __init__(self) -> None:
        self._begun = False

    def add(self, message: Document) -> None:
        if not self._begun:
            self._print(*self._heads)
            self._begun = True
        said = next(_telling(message), "")
        state = outbox_shown.state_text(message["state"])
        to = outbox_shown.addresses_text(message)
        self._print(outbox_shown.when(message["submitted_at"]), state, message["id"], f"{to}: {said}" if said else to)

    def end(self) -> None:
        if not self._begun:
            print("There are no such messages.")

    def _print(self, at: str, state: str, name: str, more: str) -> None:
        print(f"{at:<20}  {state:<15}  {name:<36}  {more}")


def _telling(message: Document) -> Iterator[str]:
    """What was said of those who are in the state of the message, where all is not well."""
    for recipient in message["recipients"]:
        if recipient["state"] == message["state"] != "accepted" and recipient["reply"] is not None:
            yield outbox_shown.reply_text(recipient["reply"])


class _Array:
    """For machines: an array of documents."""

    def __init__(self) -> None:
        self._begun = False

    def add(self, message: Document) -> None:
        print(",\n" if self._begun else "[\n", json_lines.dumps(message, ensure_ascii=False), sep="", end="")
        self._begun = True

    def end(self) -> None:
        print("\n]" if self._begun else "[]")
