"""Tokens of HashiCorp Vault and OpenBao: got by signing in, kept while they live, and renewed before they end."""

from __future__ import annotations

import base64
import json
import logging
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import clear, header_value, members, path_of
from keyrelay.pam.backend import Problem, VaultFailed
from keyrelay.pam.backends.mounted_file import MountedFile
from keyrelay.pam.backends.vault_api import Vault, errors, require
from keyrelay.pam.sign_ins import KeptTokens
from keyrelay.secrets.model import SecretText

Given = Mapping[str, SecretText | str]
SignIn = Callable[[], Awaitable["Lease"]]

_RENEW_AFTER = 2 / 3  # of a life, as Vault's own agent does
_RENEWAL_PAUSE = 30.0  # so that a vault that cannot renew now does not delay every fetch
_BELIEVED = 600.0
_DENIED = {401, 403}
_LOOK_UP = "auth/token/lookup-self"
_RENEW = "auth/token/renew-self"
_NOT_RENEWED: set[Problem] = {"denied", "bad_parameter", "not_found"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    """A token for a while. Times are seconds of the clock of its ``Leases``; ``seconds`` is how long a renewal gives.

    ``ours``: we signed in for it, and can do so again; otherwise it was given with the provider.
    """

    token: SecretText
    seconds: float
    renewable: bool
    ours: bool
    since: float = 0.0
    renew_at: float = math.inf
    ends_at: float = math.inf

    def beginning(self, now: float) -> Lease:
        return replace(self, since=now, renew_at=now + self.seconds * _RENEW_AFTER, ends_at=now + self.seconds)


class Leases(KeptTokens[Lease]):
    """The tokens of one provider type in this process. Whoever wants one while it is asked for shares the answer."""

    def key(self, given: Given) -> bytes:
        """As above; providers that differ in their path alone share a token."""
        return super().key({name: value for name, value in given.items() if name != "Path"})

    async def current(self, key: bytes, vault: Vault, sign_in: SignIn) -> Lease:
        """A token that lives: the one kept, if need be renewed, or a new one. Raises VaultFailed."""
        kept = self._kept.get(key)
        if kept is not None and self._clock() < kept.renew_at:
            return kept
        try:
            return await self._under_way.outcome(key, lambda: self._ask(key, vault, sign_in))
        except VaultFailed:
            if (living := self._living(key)) is not None:
                return living
            raise

    async def instead_of(
        self, refused: Lease, answer: HttpAnswer, key: bytes, vault: Vault, sign_in: SignIn
    ) -> Lease | None:
        """Another token, where the vault has refused this one; None if the token lives and only lacks the right.

        A young one that lives is believed: each sign-in leaves a token behind in the vault, for days by default.
        """
        if self._is_kept(key, refused.token):
            young = self._clock() < refused.since + _BELIEVED
            # Vault 1.17 and later say which it is ("Tokens", "Error responses").
            dead = "invalid token" in (errors(answer) or "")
            if young and not dead and await _lives(vault, refused.token):
                return None
            if self._is_kept(key, refused.token):
                del self._kept[key]
        return await self.current(key, vault, sign_in)

    def _is_kept(self, key: bytes, token: SecretText) -> bool:
        kept = self._kept.get(key)
        return kept is not None and kept.token == token

    async def _ask(self, key: bytes, vault: Vault, sign_in: SignIn) -> Lease:
        kept = self._kept.get(key)
        asked_at = self._clock()
        try:
            if kept is not None and kept.renewable and asked_at < kept.ends_at:
                lease = await _renewed(vault, kept) or await sign_in()
            else:
                lease = await sign_in()
        except VaultFailed as failure:
            self._postpone(key, failure)
            raise
        lease = lease.beginning(asked_at)
        self._keep(key, lease)
        return lease

    def _postpone(self, key: bytes, why: VaultFailed) -> None:
        kept, now = self._living(key), self._clock()
        if kept is None:
            return
        self._kept[key] = replace(kept, renew_at=min(now + _RENEWAL_PAUSE, kept.ends_at))
        facts = {"problem": why.problem, "detail": why.detail}
        _log.warning("A vault token could not be renewed; the old one is used until it ends", extra={"facts": facts})


def with_token(vault: Vault, given: Given) -> SignIn:
    """No sign-in at all: the token was given with the provider, and the vault tells how long it lives."""
    token = SecretText(header_value(given["Token"], "Token"))

    async def look_up() -> Lease:
        what = "looking up the token"
        answer = await vault.ask("GET", _LOOK_UP, token=token)
        try:
            require(answer, what)
            data = members(answer, what).get("data")
        except VaultFailed as failure:
            if failure.problem in {"sealed", "timeout"}:
                raise
            data = None  # a token without the default policy may not know, and may do its work all the same
        facts = data if isinstance(data, dict) else {}
        seconds = _seconds(facts.get("ttl")) or math.inf
        return Lease(token, seconds, renewable=facts.get("renewable") is True, ours=False)

    return look_up


def with_app_role(vault: Vault, given: Given) -> SignIn:
    """Source: "AppRole auth method (API)", Login with AppRole."""
    path = _login_path(given)

    async def sign_in() -> Lease:
        return await _login(vault, path, {"role_id": clear(given["RoleId"]), "secret_id": clear(given["SecretId"])})

    return sign_in


def with_service_account(vault: Vault, given: Given) -> SignIn:
    """Source: "Kubernetes auth method (API)", Login."""
    path = _login_path(given)

    async def sign_in() -> Lease:
        token = await _service_account_token(vault, clear(given["TokenFile"]))  # anew, because Kubernetes exchanges it
        return await _login(vault, path, {"role": clear(given["Role"]), "jwt": token.reveal()})

    return sign_in


def _login_path(given: Given) -> str:
    return f"auth/{path_of(clear(given['AuthPath']), 'AuthPath', slashes=True)}/login"


async def _login(vault: Vault, path: str, document: Mapping[str, str]) -> Lease:
    what = "signing in"
    answer = await vault.ask("POST", path, document=document)
    meanings: dict[int, tuple[Problem, str]] = {
        400: ("denied", "the role or its credentials are wrong"),  # an unknown role id is no 403 there
        404: ("bad_parameter", "nothing is mounted at AuthPath"),
        405: ("bad_parameter", "AuthPath is none of this way to sign in"),
    }
    require(answer, what, meanings)
    return _lease(answer, what)


async def _renewed(vault: Vault, lease: Lease) -> Lease | None:
    """The same token for longer, or None if the vault does not give it. Raises VaultFailed when it cannot say.

    Source: "Token auth method (API)", Renew a token (self).
    """
    what = "renewing the token"
    answer = await vault.ask("POST", _RENEW, token=lease.token, document={})
    try:
        require(answer, what)
    except VaultFailed as failure:
        if failure.problem in _NOT_RENEWED:
            return None
        raise
    renewed = _lease(answer, what, token=lease.token)
    # Near the longest life a token may have, what a renewal gives gets shorter: then it is time for a new one.
    fading = lease.ours and renewed.seconds < lease.seconds / 2
    return replace(renewed, ours=lease.ours, renewable=renewed.renewable and not fading)


async def _lives(vault: Vault, token: SecretText) -> bool:
    answer = await vault.ask("GET", _LOOK_UP, token=token)
    return answer.status not in _DENIED


def _lease(answer: HttpAnswer, what: str, token: SecretText | None = None) -> Lease:
    auth = members(answer, what).get("auth")
    if not isinstance(auth, dict):
        raise VaultFailed("bad_answer", f"{what}: the answer has no auth")
    named = auth.get("client_token")
    if token is None:
        if auth.get("mfa_requirement"):
            raise VaultFailed("denied", f"{what}: a second factor is demanded, which a program does not have")
        if not isinstance(named, str) or not re.fullmatch(r"[!-~]+", named):
            raise VaultFailed("bad_answer", f"{what}: the answer has no token")
        token = SecretText(named)
    seconds = _seconds(auth.get("lease_duration")) or math.inf  # none, or 0: until it is revoked
    return Lease(token, seconds, renewable=auth.get("renewable") is True, ours=True)


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0.0


async def _service_account_token(vault: Vault, file: str) -> SecretText:
    """The token in that file, below the one directory that the operator allows to be read.

    Whoever names the file also names the host it is sent to, so any other secret in there must not pass for one.
    """
    try:
        found = await MountedFile().fetch({"Path": file}, {}, vault.means)
    except VaultFailed as failure:
        why = failure.detail
    else:
        if _is_service_account(found.reveal()):
            return found
        why = "the file holds no token of a service account"
    raise VaultFailed("bad_parameter", f"TokenFile: {why}")


def _is_service_account(text: str) -> bool:
    """Whether it is a signed JWT whose subject is a service account (Kubernetes, "Service account tokens")."""
    parts = text.split(".")
    if len(parts) != 3 or not all(parts):  # noqa: PLR2004 - RFC 7515 section 3.1
        return False
    try:
        header, claims = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
    except (ValueError, RecursionError):
        return False
    subject = claims.get("sub") if isinstance(claims, dict) and isinstance(header, dict) else None
    return isinstance(subject, str) and subject.startswith("system:serviceaccount:")
