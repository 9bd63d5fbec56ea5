"""``keyrelay outbox resend|cancel|hold|release|pause|resume``: what a person does by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Literal

from cyclopts import Parameter

from keyrelay.api.learned import shown
from keyrelay.cli import moments, outbox_shown, terminal
from keyrelay.errors import NotNow, UnknownName, Unsuitable
from keyrelay.outbox.listing import MOST_ON_A_PAGE, Search, find
from keyrelay.outbox.model import WAITING, Action, State
from keyrelay.outbox.overview import overview
from keyrelay.outbox.steering import FAILED, Resent, Steering
from keyrelay.server import Node

_MANY = 20  # messages, from which on somebody is asked

Yes = Annotated[bool, Parameter(name=["--yes", "-y"])]


def resend(
    *messages: str,
    failed: bool = False,
    since: Annotated[str | None, Parameter(metavar="TIME")] = None,
    state: list[Literal["refused", "expired"]] | None = None,
    yes: Yes = False,
) -> None:
    """Send messages again that were refused, have expired or were cancelled, or try deferred ones now.

    Parameters
    ----------
    messages
        Their ids.
    failed
        All that were refused or have expired, instead of those named.
    since
        With --failed: those that ended since then, 2h ago or 2026-03-01T12:30.
    state
        With --failed: only those that were refused, or only those that have expired.
    yes
        Do not ask, however many there are.
    """
    if failed == bool(messages):
        raise Unsuitable("Nothing says which messages.", remedy="Name their ids, or say --failed --since TIME.")
    if not failed:
        _steer_each(messages, "resend")
        return
    if since is None:
        raise Unsuitable("Nothing says since when.", remedy="Say how long ago they failed: --failed --since 2h.")
    _resend_failed(moments.before_now(since, "--since"), frozenset(state or FAILED), yes=yes)


def cancel(*messages: str, all_waiting: bool = False, yes: Yes = False) -> None:
    """Take messages back that wait.

    Parameters
    ----------
    messages
        Their ids.
    all_waiting
        All that wait, instead of those named.
    yes
        Do not ask.
    """
    if all_waiting == bool(messages):
        raise Unsuitable("Nothing says which messages.", remedy="Name their ids, or say --all-waiting.")
    if not all_waiting:
        _steer_each(messages, "cancel")
        return
    count = _count(WAITING)
    if count == 0:
        print("No message waits.")
    elif _agreed(f"Cancel {_messages(count)}?", yes=yes):
        _cancel_all(count)


def hold(*messages: str) -> None:
    """Keep messages from going out that wait, until they are released or cancelled.

    Parameters
    ----------
    messages
        Their ids.
    """
    if not messages:
        raise Unsuitable("Nothing says which messages.", remedy="Name their ids: keyrelay outbox list --state queued.")
    _steer_each(messages, "hold")


def release(*messages: str) -> None:
    """Let messages go that are held.

    Parameters
    ----------
    messages
        Their ids.
    """
    if not messages:
        raise Unsuitable("Nothing says which messages.", remedy="Name their ids: keyrelay outbox list --state held.")
    _steer_each(messages, "release")


def pause() -> None:
    """Let nothing go out until it is resumed. Messages are still taken in."""

    async def work(node: Node) -> None:
        await _steering(node).pause()

    terminal.with_node(work)
    print("The outbox is paused. What is under way is finished; keyrelay outbox resume lets the rest go.")


def resume() -> None:
    """Let everything go out, whatever has held it up."""

    async def work(node: Node) -> None:
        await _steering(node).resume()

    terminal.with_node(work)
    print("The outbox is open.")


# --- One by one ----------------------------------------------------------------------------------------------


def _steer_each(ids: Sequence[str], action: Action) -> None:
    """Do this to each message. What cannot be done with one keeps no other from it."""

    async def work(node: Node) -> bool:
        steering = _steering(node)
        well = True
        for name in ids:
            try:
                kept = await steering.steer(name, action)
            except (UnknownName, NotNow) as error:
                print(f"keyrelay: {shown(name)}: {error} {error.advice} [{error.code}]", file=sys.stderr)
                well = False
            else:
                print(f"{name} is {outbox_shown.state_text(kept.state)}.")
        return well

    if not terminal.with_node(work):
        raise SystemExit(1)


# --- Many at once --------------------------------------------------------------------------------------------


def _resend_failed(since: datetime, states: frozenset[State], *, yes: bool) -> None:
    most = _count(states)
    # Since when they failed is found out on the way.
    if most > _MANY and not _agreed(f"Send up to {_messages(most)} again?", yes=yes):
        return

    async def work(node: Node) -> Resent:
        with _progress("Sending again", most) as told:
            return await _steering(node).resend_failed(since, states, lambda done: told(done.messages + done.gone))

    done = terminal.with_node(work)
    print(f"{_messages(done.messages)} will be sent again.")
    if done.gone:
        print(f"The content of {_messages(done.gone)} is not kept any more.")


def _cancel_all(count: int) -> None:
    async def work(node: Node) -> tuple[int, int]:
        steering, after, cancelled, left = _steering(node), None, 0, 0
        with _progress("Cancelling", count) as told:
            while True:
                page = await find(node.store, Search(states=WAITING), after=after, limit=MOST_ON_A_PAGE)
                for kept in page.submissions:
                    try:
                        await steering.steer(kept.submission.id, "cancel")
                        cancelled += 1
                    except (UnknownName, NotNow):  # it went out meanwhile
                        left += 1
                    told(cancelled + left)
                if (after := page.next) is None:
                    return cancelled, left

    cancelled, left = terminal.with_node(work)
    print(f"{_messages(cancelled)} cancelled.")
    if left:
        print(f"{_messages(left)} could not be: being sent at that moment, or sent already.")


def _count(states: frozenset[State]) -> int:
    async def work(node: Node) -> int:
        if node.outbox.office.watch.own is None:
            await node.outbox.office.open()
        counts = (await overview(node.outbox.office)).counts
        return sum(counts[state] for state in states)

    return terminal.with_node(work)


def _agreed(question: str, *, yes: bool) -> bool:
    """Whether somebody says yes, who is asked if possible."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Unsuitable(f"{question} Nobody can be asked here.", remedy="Say --yes to do it without a question.")
    if input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}:
        return True
    print("Nothing was done.")
    return False


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; anywhere else a line now and then."""
    if not sys.stdout.isatty():
        yield _Lines(what, total).told
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done, total=max(total, done))


class _Lines:
    """Says ten times on the way how far it has come."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._step = max(total // 10, 100)
        self._next = self._step

    def told(self, done: int) -> None:
        if done >= self._next:
            print(f"{self._what}: {done} of {self._total}", flush=True)
            self._next = done + self._step


def _steering(node: Node) -> Steering:
    return Steering(node.outbox.office, node.outbox.wake)


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"
