"""``keyrelay send``: takes in what scripts hand to mail(1) and sendmail(8), and ends as they do (sysexits.h)."""

from __future__ import annotations

import os
import pwd
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from cyclopts import App, Parameter

from keyrelay import settings
from keyrelay.cli import moments, outbox_shown, terminal, typed_message
from keyrelay.cli.sysexits import LATER, OK, REFUSED, Usage, say, sysexits
from keyrelay.cli.taking_in import Handed, Taken, take_in, wait_for
from keyrelay.cli.terminal import AsJson
from keyrelay.cli.typed_message import File, Typed
from keyrelay.errors import (
    BadInput,
    NoProfile,
    Unsuitable,
)
from keyrelay.outbox.letter import Bounds, too_large
from keyrelay.outbox.queue import PRIORITIES, Key
from keyrelay.server import Node

# A line that cannot be understood is not the end here: main() gives it the exit code that such scripts look for.
app = App(name="send", exit_on_error=False, print_error=False)

_WAITS_SECONDS = 60.0
_LONGEST_WAIT = 86_400.0
_LATEST = timedelta(days=366)
_KEY = re.compile(r"[!-~]{1,255}")

# What sendmail and mail know, and what changes nothing here.
_Words = Annotated[list[str] | None, Parameter(show=False, allow_leading_hyphen=True)]


@dataclass(frozen=True, slots=True)
class _When:
    """What was typed beside the message, as it was typed: in words, --send-after 2h is the same an hour later."""

    priority: str
    send_after: str | None
    key: str | None


@app.default
def send(
    *addresses: str,
    subject: Annotated[str | None, Parameter(name=["-s", "--subject"], allow_leading_hyphen=True)] = None,
    cc: Annotated[list[str] | None, Parameter(name=["-c", "--cc"])] = None,
    bcc: Annotated[list[str] | None, Parameter(name=["-b", "--bcc"])] = None,
    attach: Annotated[list[str] | None, Parameter(name=["-a", "-A", "--attach"], metavar="FILE")] = None,
    skip_empty: Annotated[bool, Parameter(name=["-E", "--skip-empty"])] = False,
    recipients_inside: Annotated[bool, Parameter(name=["-t", "--recipients-inside"])] = False,
    with_headers: Annotated[bool, Parameter(name=["-i", "--with-headers"])] = False,
    envelope_sender: Annotated[str | None, Parameter(name=["-f"], metavar="ADDRESS")] = None,
    from_: Annotated[str | None, Parameter(name=["-r", "--from"], metavar="ADDRESS")] = None,
    name: Annotated[str | None, Parameter(name=["-F", "--name"], allow_leading_hyphen=True)] = None,
    send_after: Annotated[str | None, Parameter(metavar="TIME")] = None,
    priority: Literal["high", "normal", "low"] = "normal",
    key: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    wait: Annotated[str | bool, Parameter(metavar="[SECONDS]", show_default=False)] = False,
    quiet: Annotated[bool, Parameter(name=["-q", "--quiet"])] = False,
    json: AsJson = False,
    sendmails: Annotated[_Words, Parameter(name="-o")] = None,
    _words: Annotated[_Words, Parameter(name=["-e", "-B", "-N"])] = None,
    _switches: Annotated[int, Parameter(name=["-v", "-n", "-G", "-U"], count=True, show=False)] = 0,
) -> None:
    """Hand a message in, in place of mail(1) and sendmail(8).

    Parameters
    ----------
    addresses
        Who gets it. With -t these are added to those in the headers.
    subject
        Subject of a text.
    cc
        Who gets a copy. May be given several times, or with commas between.
    bcc
        Who gets a copy that the others do not see.
    attach
        File to go with a text. May be given several times. As Debian's mail has it, a header such as
        "Reply-To: ops@example.org" or "Content-Type: text/html" goes here, too.
    skip_empty
        Hand nothing in when standard input is empty.
    recipients_inside
        Read a message, and who gets it from its To, Cc and Bcc.
    with_headers
        Read a message, to the end: a line with nothing but a dot does not end it (nor without this option).
    envelope_sender
        Who the message is from, in place of the profile's sender. Without -s, -c, -b and -a, read a message.
    from_
        Who the message is from, in place of the profile's sender.
    name
        Name of whom the message is from.
    send_after
        Not before this time: 2026-03-01T08:00, or 2h from now.
    priority
        What goes first.
    key
        Idempotency key: the same message with the same key is taken in once.
    wait
        Wait until the relay has answered, up to 60 seconds or so many, and say what it said to each recipient.
    quiet
        Do not print the id of the message.
    json
        Print JSON.
    """
    with sysexits():
        typed = _typed(
            Typed(
                addresses=addresses if isinstance(wait, bool) or _is_number(wait) else (wait, *addresses),
                whole=False,
                recipients_inside=recipients_inside,
                subject=subject,
                cc=_given(cc),
                bcc=tuple(one for one in _given(bcc) if one != "m"),  # -bm says that a message is to be delivered
                attach=_given(attach),
                sender=from_ or envelope_sender,
                name=name,
            ),
            message_wanted=recipients_inside or with_headers or bool(sendmails) or envelope_sender is not None,
        )
        patience = _patience(wait)
        handed = _read(typed, _When(priority, send_after, key), skip_empty=skip_empty)
        if handed is not None:
            taken = terminal.with_node(lambda node: _hand_in(node, handed, patience, quiet=quiet, as_json=json))
            raise SystemExit(_told(taken, waited=patience > 0, quiet=quiet, as_json=json))


async def _hand_in(node: Node, handed: Handed, patience: float, *, quiet: bool, as_json: bool) -> Taken:
    taken = await take_in(node, handed, look=as_json or patience > 0)
    if not (as_json or quiet):
        print(taken.id, flush=True)
    if not taken.somebody_sends:
        say("No server or worker gives a sign of life: the message is safe, and waits until one runs.")
    return taken if patience == 0 else await wait_for(node, taken, patience)


# --- What was typed ------------------------------------------------------------------------------------------


def _typed(typed: Typed, *, message_wanted: bool) -> Typed:
    """Whether standard input is a text or a message. Raises Usage."""
    of_a_text = typed.subject is not None or typed.cc or typed.bcc or typed.attach
    if typed.recipients_inside and of_a_text:
        raise Usage("-t reads a whole message; -s, -c, -b and -a belong to a text.")
    if not (typed.addresses or typed.recipients_inside or typed.cc or typed.bcc):
        raise Usage("Say who gets the message, or -t if its headers do.")
    return typed_message.sorted_out(typed, whole=message_wanted and not of_a_text)


def _given(values: Iterable[str] | None) -> tuple[str, ...]:
    """Without what a script has left empty."""
    return tuple(value for value in values or () if value)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text, re.ASCII) is not None


def _patience(wait: bool | str) -> float:  # noqa: FBT001 - an option whose value may be left out
    """For how many seconds to wait. A word that is no number was an address behind ``--wait``."""
    if isinstance(wait, str) and _is_number(wait):
        return min(float(wait), _LONGEST_WAIT)
    if isinstance(wait, str) and "@" not in wait:
        raise Usage("--wait takes a number of seconds.")
    return _WAITS_SECONDS if wait else 0.0


def _later(when: _When) -> datetime | None:
    """The time of the wall clock that --send-after names. Raises Usage for what is wrong beside the message."""
    if when.key is not None and not _KEY.fullmatch(when.key):
        raise Usage("A key has 1 to 255 characters, all of them visible ASCII.")
    if when.send_after is None:
        return None
    try:
        moment = moments.from_now(when.send_after, "--send-after").astimezone(UTC)
    except Unsuitable as problem:
        raise Usage(f"{problem.message} {problem.advice}") from None
    if moment > datetime.now(UTC) + _LATEST:
        raise Usage("--send-after is more than a year away.")
    return moment


def _settings() -> settings.Settings:
    """Raises CannotStart, and NoProfile where keyrelay was never used: a message must not found a new store."""
    os.environ.setdefault("KEYRELAY_LOG_LEVEL", "error")  # what goes wrong is said in one line
    read = settings.read(os.environ)
    if (file := read.sqlite_file) is not None and not file.exists():
        raise NoProfile(f"No profile is configured: there is no {file}.", remedy="Set KEYRELAY_DATA_DIR.")
    return read


def _read(typed: Typed, when: _When, *, skip_empty: bool) -> Handed | None:
    """All that is handed in, before the store is opened: whoever writes it may take hours."""
    later = _later(when)
    most = Bounds.of(_settings())
    files = typed_message.read_files(typed.attach, most)
    if sys.stdin.isatty():
        say("Type the message; Ctrl+D ends it.")
    octets = sys.stdin.buffer.read(most.size + 1)
    if len(octets) > most.size:
        raise BadInput((too_large("message", most.size),))
    if skip_empty and not octets.strip():
        return None
    if not typed.whole and not typed_message.is_text(octets):
        say("The text is not UTF-8 throughout; what is not was replaced.")
    return Handed(typed, octets, files, most, PRIORITIES[when.priority], later, _key(when, typed, octets, files), _by())


def _key(when: _When, typed: Typed, octets: bytes, files: tuple[File, ...]) -> Key | None:
    if when.key is None:
        return None
    return Key(when.key, typed_message.digest(typed, octets, files, when.priority, when.send_after))


def _by() -> str:
    """Who hands it in, as it is kept."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"


# --- What is said --------------------------------------------------------------------------------------------


def _told(taken: Taken, *, waited: bool, as_json: bool, quiet: bool) -> int:
    document = taken.document
    if as_json:
        terminal.show_json({**(document or {"id": taken.id}), "repeated": taken.repeated})
    if not waited or document is None:
        return OK
    states = {recipient["state"] for recipient in document["recipients"]}
    if not (as_json or quiet):
        for recipient in document["recipients"]:
            print(outbox_shown.recipient_line(recipient))
    if states & {"refused", "expired", "cancelled"}:
        return REFUSED
    return OK if states == {"accepted"} else LATER
