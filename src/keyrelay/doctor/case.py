"""What there is to look at: settings, database, keys and profile, each as far as it can be had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal

from keyrelay import server, settings, unlocking
from keyrelay.aside import Abandoning, aside
from keyrelay.audit.journal import Journal
from keyrelay.errors import DatabaseUnreachable, DataDirUnusable, KeyrelayError, SettingsInvalid
from keyrelay.outbox.overview import Overview, overview
from keyrelay.profile.keeper import newest_profile
from keyrelay.profile.model import SmtpProfile
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.master import MasterKey
from keyrelay.setting_problems import Problem
from keyrelay.settings import Settings
from keyrelay.store.reading import ReadOnlyStore, open_to_read

_SECONDS = 10.0  # for each of the things below

# A database that answers; one whose schema we know; its data keys opened; a profile in it; and both of these.
Need = Literal["nothing", "database", "data", "keys", "profile", "secrets"]

# Without them nobody knows which data is meant.
_DECISIVE = {
    "KEYRELAY_DATA_DIR",
    "KEYRELAY_DATABASE_URL",
    "KEYRELAY_MASTER_KEY",
    "KEYRELAY_PREVIOUS_MASTER_KEY",
}


@dataclass(frozen=True, slots=True)
class Case:
    """``settings`` have defaults in place of those that have ``problems``. Where there is an error, it says why not.

    ``node`` is wired as a server is, on a database that is only read; None without one that it could work on.
    ``profile`` is None when nobody has configured one, or when it is not ``readable``.
    """

    environ: Mapping[str, str]
    offline: bool
    settings: Settings
    problems: tuple[Problem, ...]
    store: ReadOnlyStore | KeyrelayError
    masters: tuple[MasterKey, ...] | KeyrelayError
    keyring: Keyring | KeyrelayError
    node: server.Node | None = None
    profile: SmtpProfile | None = None
    readable: bool = True
    overview: Overview | None = None

    @property
    def wired(self) -> server.Node:
        """The node, for a check that needs one."""
        assert self.node is not None  # noqa: S101 - it is skipped otherwise
        return self.node

    @property
    def configured(self) -> SmtpProfile:
        """The profile, for a check that needs one."""
        assert self.profile is not None  # noqa: S101 - it is skipped otherwise
        return self.profile

    @property
    def opened(self) -> ReadOnlyStore:
        """The database, for a check that needs it."""
        assert isinstance(self.store, ReadOnlyStore)  # noqa: S101 - it is skipped otherwise
        return self.store

    def _why_no_profile(self) -> str:
        return "There is no profile yet." if self.readable else "The profile cannot be read."

    def lacks(self, need: Need) -> str | None:
        """Why what is needed is not there, in a sentence; None when it is."""
        if need == "nothing":
            return None
        if isinstance(self.store, KeyrelayError):
            return "The database could not be opened."
        if need == "database":
            return None
        if self.node is None:
            return "The database cannot be worked on as it is."
        if need in {"keys", "secrets"} and isinstance(self.keyring, KeyrelayError):
            return "The data keys could not be opened."
        return self._why_no_profile() if need in {"profile", "secrets"} and self.profile is None else None


@asynccontextmanager
async def opened(environ: Mapping[str, str], *, offline: bool) -> AsyncIterator[Case]:
    """All that can be had, within a bounded time. Nothing is made, changed, or left behind."""
    asyncio.get_running_loop().set_default_executor(Abandoning())  # drivers look up names there
    read, problems = await _settings(environ)
    store = await _store(read, problems)
    try:
        masters = await _masters(read, problems)
        case = Case(environ, offline, read, problems, store, masters, _unopened(masters))
        if isinstance(store, KeyrelayError) or not store.schema.usable:
            yield case
            return
        keyring = await _keyring(store, masters)
        usable = Keyring(()) if isinstance(keyring, KeyrelayError) else keyring
        node = server.Node.wired(read, store, usable, Journal(usable))
        case = replace(case, keyring=keyring, node=node)
        try:
            yield await _with_data(case, node)
        finally:
            await node.close()
    finally:
        if isinstance(store, ReadOnlyStore):
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await store.close()


async def _settings(environ: Mapping[str, str]) -> tuple[Settings, tuple[Problem, ...]]:
    try:
        async with asyncio.timeout(_SECONDS):
            return await aside(lambda: settings.examined(environ))
    except TimeoutError:
        late = Problem("KEYRELAY_DATABASE_URL", "or another secret cannot be read from its file: that takes for ever")
        return Settings(), (late,)


async def _store(read: Settings, problems: tuple[Problem, ...]) -> ReadOnlyStore | KeyrelayError:
    if (unknown := _unknown(problems)) is not None:
        return unknown
    try:
        async with asyncio.timeout(_SECONDS):
            return await open_to_read(read)
    except TimeoutError:
        return DatabaseUnreachable(f"The database did not answer within {_SECONDS:g} seconds.")
    except KeyrelayError as problem:
        return problem


async def _masters(read: Settings, problems: tuple[Problem, ...]) -> tuple[MasterKey, ...] | KeyrelayError:
    if (unknown := _unknown(problems)) is not None:
        return unknown
    try:
        async with asyncio.timeout(_SECONDS):
            return await aside(lambda: unlocking.masters(read))
    except TimeoutError:
        return DataDirUnusable("The master key cannot be read: that takes for ever.")
    except KeyrelayError as problem:
        return problem


def _unknown(problems: tuple[Problem, ...]) -> KeyrelayError | None:
    named = sorted({problem.name for problem in problems} & _DECISIVE)
    return SettingsInvalid(f"Which data is meant is not known, because of {' and '.join(named)}.") if named else None


def _unopened(masters: tuple[MasterKey, ...] | KeyrelayError) -> Keyring | KeyrelayError:
    return masters if isinstance(masters, KeyrelayError) else Keyring(masters)


async def _keyring(store: ReadOnlyStore, masters: tuple[MasterKey, ...] | KeyrelayError) -> Keyring | KeyrelayError:
    if isinstance(masters, KeyrelayError):
        return masters
    keyring = Keyring(masters)
    try:
        async with asyncio.timeout(_SECONDS):
            await keyring.reload(store)
    except TimeoutError:
        return DatabaseUnreachable("The data keys could not be read in time.")
    except KeyrelayError as problem:
        return problem
    return keyring


async def _with_data(case: Case, node: server.Node) -> Case:
    """With what several checks look at. What cannot be read is missing: rows may be damaged in any way."""
    try:
        async with asyncio.timeout(_SECONDS):
            case = replace(case, profile=await newest_profile(node.store))
    except Exception:  # noqa: BLE001 - as it says
        case = replace(case, readable=False)
    with suppress(Exception):
        async with asyncio.timeout(_SECONDS):
            case = replace(case, overview=await overview(node.outbox.office))
    return case
