"""Handing mail over with the profile as it is: sessions kept open, credentials fetched when they are used.

A password that was changed in the vault needs no restart: one that the relay refuses is fetched anew, once. What was
refused is not tried again for a while, however many messages wait: relays lock accounts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from keyrelay import traces
from keyrelay.errors import NoProfile
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import SmtpProfile
from keyrelay.relay.credentials import Opened, Opener
from keyrelay.relay.extensions import Extensions
from keyrelay.relay.model import Envelope, Evidence, StageFailed
from keyrelay.relay.opening import Terms, open_session
from keyrelay.relay.pool import Limits, SessionPool
from keyrelay.relay.session import Delivery, Session
from keyrelay.relay.sign_in import Credentials, NoSignIn

# What a relay or a token endpoint says of credentials that are wrong.
_WRONG_AT_THE_RELAY = frozenset({454, 530, 534, 535, 538})
_WRONG_AT_THE_ENDPOINT = frozenset({400, 401, 403})
_BELIEVED = 30.0  # seconds for which a refusal holds
_BETWEEN_FETCHES = 1.0  # seconds between two looks whether the vault has something newer


@dataclass(frozen=True, slots=True)
class _Key:
    """What a session rests on: the revision of the profile, and the credentials it signed in with."""

    tag: str
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why no session could be opened, and when; ``refused``: the credentials are wrong."""

    key: _Key
    evidence: Evidence
    at: float
    refused: bool


Result = TypeVar("Result")


class Mailer:
    """Sends for one node. ``snapshot`` gives the profile as it is now."""

    def __init__(
        self,
        snapshot: Callable[[], Awaitable[Snapshot]],
        opener: Opener,
        terms: Terms,
        limits: Limits | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._opener = opener
        self._terms = terms
        self._pool = SessionPool(limits or Limits())
        self._failure: _Failure | None = None
        self._proven: _Key | None = None
        self._offered: tuple[str, Extensions | None] = ("", None)
        self._opened: tuple[str, Opened] | None = None
        self._first = asyncio.Lock()
        self._looked_at = -_BETWEEN_FETCHES

    def offered(self, tag: str) -> Extensions | None:
        """What the relay offered last, to the profile of that tag; None when nobody has asked yet."""
        return self._offered[1] if self._offered[0] == tag else None

    @property
    def connections(self) -> int:
        """How many there are to the relay now."""
        return self._pool.open

    def allow(self, connections: int) -> None:
        """From now on, at most so many connections at once."""
        self._pool.allow(connections)

    async def send(self, envelope: Envelope, content: bytes, *, needs_smtputf8: bool = False) -> Delivery:
        """Hand one message over. Raises what ``Session.send`` and opening a session raise, and NoProfile."""
        return await self.with_session(lambda session: session.send(envelope, content, needs_smtputf8=needs_smtputf8))

    async def probe(self) -> None:
        """Open a session, and nothing else. Raises what opening a session raises, and NoProfile."""
        await self.with_session(_nothing)

    async def with_session(self, work: Callable[[Session], Awaitable[Result]]) -> Result:
        """Do something with a session, for one message. Raises what it raises, and what ``probe`` raises."""
        snapshot = await self._snapshot()
        profile = snapshot.profile
        if profile is None:
            raise NoProfile("No profile is configured yet.")
        traces.note(server__address=profile.host, server__port=profile.port)

        async def use(opened: Opened) -> Result:
            key = _Key(snapshot.tag, opened.credentials)
            async with self._pool.session(key, lambda: self._open(profile, key)) as session:
                return await work(session)

        opened = await self._open_credentials(snapshot.tag, profile)
        try:
            return await use(opened)
        except StageFailed as failure:
            newer = await self._newer(profile, opened, failure)
            if newer is None:
                raise
        return await use(newer)

    async def close(self) -> None:
        await self._pool.close()

    async def _open_credentials(self, tag: str, profile: SmtpProfile) -> Opened:
        """What is stored here is opened once for each profile; sessions keep it as long. Vaults are asked (or not)."""
        if self._opened is None or self._opened[0] != tag:
            opened = await self._opener.open(profile)
            if opened.fetched:
                return opened
            self._opened = (tag, opened)
        return self._opened[1]

    async def _open(self, profile: SmtpProfile, key: _Key) -> Session:
        """A session. Credentials that nobody has signed in with yet are tried by one alone, and the others wait."""
        self._require_not_refused(key)
        if key == self._proven or isinstance(key.credentials, NoSignIn):
            return await self._sign_in(profile, key)
        began = time.monotonic()
        async with self._first:
            self._require_not_refused(key)
            self._require_none_failed(key, since=began)
            if key != self._proven:
                return await self._sign_in(profile, key)
        return await self._sign_in(profile, key)

    async def _sign_in(self, profile: SmtpProfile, key: _Key) -> Session:
        try:
            session = await open_session(profile, key.credentials, self._terms)
        except StageFailed as failure:
            refused = _credentials_refused(failure)
            self._failure = _Failure(key, failure.evidence, time.monotonic(), refused)
            if refused:
                self._proven = None
            raise
        self._proven = key
        self._offered = (key.tag, session.extensions)
        return session

    def _require_not_refused(self, key: _Key) -> None:
        failure = self._failure
        if failure is not None and failure.key == key and failure.refused and time.monotonic() < failure.at + _BELIEVED:
            raise StageFailed(failure.evidence)

    def _require_none_failed(self, key: _Key, *, since: float) -> None:
        """Whoever waited for somebody's first try shares what came of it."""
        failure = self._failure
        if failure is not None and failure.key == key and failure.at >= since:
            raise StageFailed(failure.evidence)

    async def _newer(self, profile: SmtpProfile, opened: Opened, failure: StageFailed) -> Opened | None:
        """The credentials anew, if they were refused, come from a vault, and are others there by now."""
        if not opened.fetched or not _credentials_refused(failure):
            return None
        asked_at = max(fetched.asked_at for fetched in opened.fetched.values())
        if self._looked_at <= asked_at < self._looked_at + _BETWEEN_FETCHES:
            return None  # the vault has just been asked, and gave the same
        self._opener.refused(profile, opened)
        with suppress(StageFailed):  # the refusal says more than a vault that is down
            self._looked_at = self._opener.clock()
            newer = await self._opener.open(profile, not_before=asked_at + 1e-6)
            if newer.credentials != opened.credentials:
                return newer
        return None


async def _nothing(_: Session) -> None:
    pass


def _credentials_refused(failure: StageFailed) -> bool:
    evidence = failure.evidence
    if evidence.stage == "auth" and evidence.reply is not None:
        return evidence.reply.code in _WRONG_AT_THE_RELAY
    return evidence.stage == "token" and evidence.facts.get("status") in _WRONG_AT_THE_ENDPOINT
