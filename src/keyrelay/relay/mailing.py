"""Handing mail over with the profile as it is: sessions kept open, credentials fetched when they are used.

A password that was changed in the vault needs no restart: one that the relay refuses is fetched anew, once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from keyrelay.errors import NoProfile
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import SmtpProfile
from keyrelay.relay.credentials import Opened, Opener
from keyrelay.relay.model import Envelope, StageFailed
from keyrelay.relay.opening import Terms, open_session
from keyrelay.relay.pool import Limits, SessionPool
from keyrelay.relay.session import Delivery, Session

# What a relay or a token endpoint says of credentials that are wrong.
_WRONG_AT_THE_RELAY = frozenset({454, 530, 534, 535, 538})
_WRONG_AT_THE_ENDPOINT = frozenset({400, 401, 403})


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

    async def send(self, envelope: Envelope, content: bytes, *, needs_smtputf8: bool = False) -> Delivery:
        """Hand one message over. Raises what ``Session.send`` and opening a session raise, and NoProfile."""
        snapshot = await self._snapshot()
        if snapshot.profile is None:
            raise NoProfile("No profile is configured yet.")
        opened = await self._opener.open(snapshot.profile)
        try:
            return await self._send(snapshot, opened, envelope, content, needs_smtputf8=needs_smtputf8)
        except StageFailed as failure:
            newer = await self._newer(snapshot.profile, opened, failure)
            if newer is None:
                raise
        return await self._send(snapshot, newer, envelope, content, needs_smtputf8=needs_smtputf8)

    async def close(self) -> None:
        await self._pool.close()

    async def _send(
        self, snapshot: Snapshot, opened: Opened, envelope: Envelope, content: bytes, *, needs_smtputf8: bool
    ) -> Delivery:
        profile = snapshot.profile
        assert profile is not None  # noqa: S101 - looked at before

        async def open_one() -> Session:
            return await open_session(profile, opened.credentials, self._terms)

        # User name and password are always of one fetch, and a session belongs to what it signed in with.
        async with self._pool.session((snapshot.tag, opened.credentials), open_one) as session:
            return await session.send(envelope, content, needs_smtputf8=needs_smtputf8)

    async def _newer(self, profile: SmtpProfile, opened: Opened, failure: StageFailed) -> Opened | None:
        """The credentials anew, if they were refused, come from a vault, and are others there by now."""
        if not opened.fetched or not _credentials_refused(failure):
            return None
        asked_at = max(fetched.asked_at for fetched in opened.fetched.values())
        newer = None
        with suppress(StageFailed):  # the refusal says more than a vault that is down
            newer = await self._opener.open(profile, not_before=_after(asked_at))
        return newer if newer is not None and newer.credentials != opened.credentials else None


def _after(moment: float) -> float:
    return moment + 1e-6


def _credentials_refused(failure: StageFailed) -> bool:
    evidence = failure.evidence
    if evidence.stage == "auth" and evidence.reply is not None:
        return evidence.reply.code in _WRONG_AT_THE_RELAY
    return evidence.stage == "token" and evidence.facts.get("status") in _WRONG_AT_THE_ENDPOINT
