"""The bundle as a file: each member made on its own, for a bounded time, and of a bounded size."""

from __future__ import annotations

import asyncio
import io
import json
import os
import zipfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keyrelay import __version__
from keyrelay.doctor import shown
from keyrelay.doctor.bundle import data, installation, mail, reduction
from keyrelay.doctor.case import Case, Need
from keyrelay.doctor.model import Report
from keyrelay.errors import KeyrelayError, Unsuitable
from keyrelay.health.finding import Finding
from keyrelay.log import failure

_MOST_OF_ONE = 500_000  # octets before they are packed: all members together stay below 10 MB
_SECONDS = 15.0  # for each member; all are made at once


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the bundle. What ``make`` gives is written as it is if it is a text, else as JSON."""

    name: str
    about: str
    make: Callable[[Case], Awaitable[Any]]
    need: Need = "nothing"


MEMBERS: tuple[Member, ...] = (
    Member("versions.json", "versions of keyrelay, Python and the libraries it uses", installation.versions),
    Member("settings.json", "settings that are set, and values that are not secret", installation.settings),
    Member("process.json", "limits of processes, memory and processors", installation.process),
    Member("profile.json", "the profile; of names and addresses, only their shapes", mail.profile, "profile"),
    Member("providers.json", "PAM providers by number and type, without names and values", mail.providers, "data"),
    Member("outbox.json", "counts, rates and limits of the outbox, and what holds it up", mail.outbox, "data"),
    Member("attempts.json", "the newest 100 attempts: domain, stage, reply code and cause", mail.attempts, "data"),
    Member("nodes.json", "nodes that are alive, without the names of their machines", mail.nodes, "data"),
    Member("metrics.txt", "what /metrics tells of the outbox", mail.metrics, "data"),
    Member("schema.json", "version of the schema, and the names of the tables", data.schema, "database"),
    Member("tables.json", "how large the tables are", data.tables, "database"),
    Member("audit.json", "the newest 200 audit entries: category, operation and time", data.audit, "data"),
)
REPORT = {
    "doctor.txt": "what keyrelay doctor says, without names of users and mailboxes",
    "doctor.json": "the same for machines",
}

_README = """\
Support bundle of keyrelay {version}, made {at}.

What is in it:

{members}

What is not in it: passwords, keys, tokens, client secrets, values of PAM providers and local entries, messages and
their contents, recipients (only their domains), the relay's words (only its codes), names of users, machines and
mailboxes, environment variables other than keyrelay's own, and logs. Names of hosts, domains and directories are in it.

Look through it before you hand it on: every file is text.
"""


async def pack(case: Case, report: Report) -> bytes:
    """The bundle's octets."""
    texts = {"doctor.txt": shown.text(_reduced(report)), "doctor.json": _json(shown.document(_reduced(report)))}
    made = await asyncio.gather(*(_text(member, case) for member in MEMBERS))
    texts |= {member.name: text for member, text in zip(MEMBERS, made, strict=True)}
    told = {**REPORT, **{member.name: member.about for member in MEMBERS}}
    members = "\n".join(f"  {name:<15} {about}" for name, about in told.items())
    readme = _README.format(version=__version__, at=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}", members=members)
    return _zipped({"README.txt": readme, **texts})


def write(file: Path, octets: bytes) -> None:
    """Write a file that was not there, for nobody else to read. Raises Unsuitable."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as made:
            made.write(octets)
    except FileExistsError:
        raise Unsuitable(f"{file} is there already, and is not overwritten.", remedy="Name another file.") from None
    except OSError as problem:
        raise Unsuitable(f"{file} cannot be written: {problem.strerror}.", remedy="Name another file.") from None


def _reduced(report: Report) -> Report:
    return replace(
        report, results=[replace(result, finding=_without_names(result.finding)) for result in report.results]
    )


def _without_names(finding: Finding) -> Finding:
    advice = None if finding.advice is None else reduction.sentence(finding.advice)
    return replace(finding, found=reduction.sentence(finding.found), advice=advice)


async def _text(member: Member, case: Case) -> str:
    if (why := case.lacks(member.need)) is not None:
        return _missing(member, why)
    try:
        async with asyncio.timeout(_SECONDS):
            made = await member.make(case)
    except TimeoutError:
        return _missing(member, f"It could not be had within {_SECONDS:g} seconds.")
    except KeyrelayError as problem:
        return _missing(member, reduction.sentence(problem.message))
    except Exception as problem:  # noqa: BLE001 - the other members still help
        return _missing(member, f"{type(problem).__name__} at {failure(problem)['through'][-1]}.")
    text = made if isinstance(made, str) else _json(made)
    return (
        text
        if len(text.encode("utf-8", "replace")) <= _MOST_OF_ONE
        else _missing(member, "It is larger than a bundle should be.")
    )


def _missing(member: Member, why: str) -> str:
    return f"{why}\n" if member.name.endswith(".txt") else _json({"not_here": why})


def _json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _zipped(texts: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text.encode("utf-8", "replace"))
    return packed.getvalue()
