"""``make bench``: how fast mail goes out over warm sessions, next to Postfix's own load generator and plain libraries.

A round measures each sender once, in a process of its own, one after the other; what the machine does beside us then
hits all of them alike. The relay is a fresh one each time, and it must have got every message.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

import send_report
from figures import Round
from machine import cores, machine
from process import Failed
from relays import Certificates, Relays, program
from senders import BODY_BYTES, SENDERS, SESSIONS
from sending import SMTP_SOURCE, Contestant, Sending

Count = Annotated[int | None, Parameter(validator=Number(gte=1))]

CONTESTANTS = (
    Contestant(SMTP_SOURCE, starttls=False),  # it speaks no TLS
    *(Contestant(name, starttls=False) for name in SENDERS),
    *(Contestant(name, starttls=True) for name in SENDERS),
)

app = App(help="Measure sending.", version_flags=[])


@app.default
def send(
    *, rounds: Count = None, seconds: Count = None, quick: Annotated[bool, Parameter(negative="")] = False
) -> None:
    """Measure keyrelay's sessions, smtp-source, aiosmtplib and smtplib, in the clear and by STARTTLS.

    Parameters
    ----------
    rounds
        How often each sender is measured. [8; quick: 3]
    seconds
        How long each measurement takes, about. [2; quick: 1]
    quick
        About a minute instead of four or five, and rougher.
    """
    for name in ("smtp-sink", SMTP_SOURCE):
        program(name)
    rounds = rounds or (3 if quick else 8)
    seconds = seconds or (1 if quick else 2)
    placed = cores()
    settings = {
        "rounds": rounds,
        "seconds": seconds,
        "sessions": SESSIONS,
        "body_bytes": BODY_BYTES,
        "relay_core": placed.servers,
        "sender_core": placed.load,
    }
    about = machine()
    with tempfile.TemporaryDirectory(prefix="keyrelay-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # smtp-sink works as another user
        sending = Sending(Relays(directory, placed, Certificates.issue(directory)))
        print("Looking at what each sender sends, and how fast it is about...", flush=True)
        counts = {each: _prepare(sending, each, seconds) for each in CONTESTANTS}
        print(f"{rounds} rounds of about {seconds} s each, {SESSIONS} sessions.", flush=True)
        measured = [_round(sending, counts, number) for number in range(1, rounds + 1)]
    results = send_report.Results(settings, about, send_report.versions(), measured)
    send_report.show(results)
    print(f"Everything that was measured: {send_report.write(results)}")


def _prepare(sending: Sending, contestant: Contestant, seconds: float) -> int:
    sending.check(contestant)
    return sending.count_for(contestant, seconds)


def _round(sending: Sending, counts: dict[Contestant, int], number: int) -> Round:
    found = {each.name: sending.measure(each, count) for each, count in counts.items()}
    told = ", ".join(f"{name} {figures['messages_per_second']:,.0f}" for name, figures in found.items())
    print(f"  round {number}: {told}", flush=True)
    return found


if __name__ == "__main__":
    try:
        app()
    except Failed as problem:
        sys.exit(f"bench: {problem}")
