"""The tokens we sign in with at relays: kept while they live, renewed early, asked for once however many want one."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from keyrelay import traces
from keyrelay.relay import token_answer, token_request
from keyrelay.relay.model import Evidence, StageFailed
from keyrelay.relay.token_answer import Token
from keyrelay.relay.token_request import TokenRequest

__all__ = ["Token", "TokenRequest", "Tokens"]

_log = logging.getLogger(__name__)
_EARLY = timedelta(minutes=5)
_EARLY_SHARE = 10  # of a life that is short
_PRESUMED_LIFE = timedelta(minutes=10)  # of a token whose provider does not say
_RENEWAL_PAUSE = timedelta(seconds=30)  # so that a provider that is down does not delay every sign-in
_MOST_KEPT = 200  # a test of other settings leaves a token here too

_STOPPING = Evidence("token", "closed", detail="keyrelay is stopping")


@dataclass(frozen=True, slots=True)
class _Kept:
    token: Token
    renew_at: datetime
    ends_at: datetime

    @classmethod
    def of(cls, token: Token, now: datetime) -> _Kept:
        ends_at = token.expires_at or now + _PRESUMED_LIFE
        return cls(token, ends_at - min(_EARLY, (ends_at - now) / _EARLY_SHARE), ends_at)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Tokens:
    """The tokens of this process, for one event loop.

    ``context``: the trust, in a context that is used for nothing else (the HTTP library sets its ALPN), or what gives
    one for each request. ``seconds``: how long one request may take in all.
    """

    def __init__(
        self,
        context: ssl.SSLContext | Callable[[], ssl.SSLContext],
        *,
        seconds: float = 10.0,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._context = context
        self._seconds = seconds
        self._clock = clock
        self._hash_key = os.urandom(32)
        self._kept: dict[bytes, _Kept] = {}
        self._fetching: dict[bytes, asyncio.Task[Token | Evidence]] = {}
        self._closed = False

    async def token(self, request: TokenRequest) -> Token:
        """A token that lives: the one kept, or a new one from the provider.

        A renewal that fails gives the old one until its end. Raises StageFailed; failures are not kept.
        """
        key = self._key(request)
        kept = self._kept.get(key)
        if kept is not None and self._clock() < kept.renew_at:
            return _cached(kept)
        outcome = await self._shared(key, request)
        if isinstance(outcome, Token):
            return outcome
        kept = self._kept.get(key)
        if kept is not None and self._clock() < kept.ends_at:
            return _cached(kept)
        raise StageFailed(outcome)

    def kept(self, request: TokenRequest) -> Token | None:
        """The token kept for this request, whether or not it still lives."""
        kept = self._kept.get(self._key(request))
        return None if kept is None else kept.token

    def forget(self, request: TokenRequest) -> None:
        """Let go of a token that the relay has refused; the next caller gets a new one."""
        self._kept.pop(self._key(request), None)

    async def close(self) -> None:
        """End the requests that are under way; whoever waits for one gets StageFailed."""
        self._closed = True
        self._kept.clear()
        fetching = list(self._fetching.values())
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)
        self._fetching.clear()

    async def _shared(self, key: bytes, request: TokenRequest) -> Token | Evidence:
        if self._closed:
            return _STOPPING
        task = self._fetching.get(key)
        if task is None:
            task = self._fetching[key] = asyncio.create_task(self._fetch(key, request))
        # Unlike awaiting the task itself, a caller that is cancelled here leaves it to the others.
        await asyncio.wait([task])
        return _STOPPING if task.cancelled() else task.result()

    async def _fetch(self, key: bytes, request: TokenRequest) -> Token | Evidence:
        """A new token, or why there is none. What failed is no exception here: each caller raises one of its own."""
        with traces.span("token fetch"):
            outcome = await self._ask(key, request)
            if traces.recorded():
                kind = "fetched" if isinstance(outcome, Token) else outcome.kind
                traces.note(server__address=_host(request.endpoint), keyrelay__outcome=kind)
        return outcome

    async def _ask(self, key: bytes, request: TokenRequest) -> Token | Evidence:
        try:
            context = self._context() if callable(self._context) else self._context
            answer = await token_request.ask(request, context, within=self._seconds, clock=self._clock)
            token = token_answer.read(answer)
        except StageFailed as failure:
            self._postpone(key, failure.evidence)
            return failure.evidence
        finally:
            self._fetching.pop(key, None)
        token = replace(token, facts={**token.facts, "cached": False})
        self._keep(key, _Kept.of(token, answer.asked_at))
        return token

    def _keep(self, key: bytes, kept: _Kept) -> None:
        now = self._clock()
        self._kept = {other: old for other, old in self._kept.items() if other != key and now < old.ends_at}
        while len(self._kept) >= _MOST_KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[key] = kept

    def _postpone(self, key: bytes, why: Evidence) -> None:
        now = self._clock()
        kept = self._kept.get(key)
        if kept is None or now >= kept.ends_at:
            return
        self._kept[key] = replace(kept, renew_at=min(now + _RENEWAL_PAUSE, kept.ends_at))
        facts = {"kind": why.kind, "detail": why.detail, "ends_at": kept.ends_at.isoformat()}
        _log.warning("A token could not be renewed; the old one is used until it ends", extra={"facts": facts})

    def _key(self, request: TokenRequest) -> bytes:
        """A name for the request that tells nothing of its secrets."""
        parts = [
            request.endpoint,
            request.client_id.reveal(),
            request.client_secret.reveal(),
            request.scope,
            request.audience,
            [(header.name, header.value) for header in request.headers],
            request.client_authentication,
        ]
        return hashlib.blake2b(json.dumps(parts).encode("ascii"), key=self._hash_key, digest_size=32).digest()


def _host(endpoint: str) -> str:
    try:
        return urlsplit(endpoint).hostname or ""
    except ValueError:  # nobody was asked then
        return ""


def _cached(kept: _Kept) -> Token:
    return replace(kept.token, facts={**kept.token.facts, "cached": True})
