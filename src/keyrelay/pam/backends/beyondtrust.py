"""Passwords of managed accounts in BeyondTrust Password Safe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar
from urllib.parse import urlsplit

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import Body, anything, ask, base_url, clear, header_value, require_success, secret
from keyrelay.pam.backend import Means, Parameter, VaultFailed
from keyrelay.secrets.model import SecretText

_BASE_ENDPOINT = "/BeyondTrust/api/public/v3"
_SIGNING_IN = "signing in"
_REQUESTING = "requesting the password"
_READING = "reading the password"
_LEAVING_SECONDS = 2.0
_HIGHEST_ID = 2**31 - 1
_CREATED, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 201, 401, 403, 404
# The codes in the body of a 403.
_FORBIDDEN_BECAUSE = {
    "4031": "the user may not request this account, or it is not on this system",
    "4034": "the request waits for approval",
}
# Attributes such as Expires hold commas too, and no name of a cookie holds a space.
_NEXT_COOKIE = re.compile(r",\s*(?=[!#$%&'*+.^_`|~0-9A-Za-z-]+=)")
_COOKIE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([\x21-\x3a\x3c-\x7e]*)")


class BeyondTrustPasswordSafe:
    """Requests the password of account ``AccountId`` on system ``SystemId``, reads it, and gives the request back.

    Asked, all with ``Authorization: PS-Auth key={APIKey}; runas={Username};`` and the cookies of this one session:
    POST Auth/SignAppin; POST Requests (one minute, an open request reused); GET Credentials/{request};
    PUT Requests/{request}/Checkin; POST Auth/Signout. A request that was open before is left open, for it may be
    somebody else's, and so is one that waits for approval. Checking in and signing out happen after failures too, in
    two seconds each; when they fail, the request ends after its minute, and the session by itself.

    ``Host`` is the base endpoint, as in https://safe.example.org/BeyondTrust/api/public/v3 (which is taken when it
    has no path). When ``ClientCertificate`` has a value, which Keyfactor's extension takes for a thumbprint, the
    client certificate for vaults (KEYRELAY_VAULT_CLIENT_CERT) is shown; spaces count as none. Works with version 3 of
    the API (Password Safe 6.2 and later, Cloud too) and an API registration that asks for no user password.

    Sources: BeyondTrust, "BeyondInsight and Password Safe API Guide" (Usage, Auth, Requests, Credentials);
    BeyondTrust/go-client-library-passwordsafe, which checks in as well; Keyfactor/beyondtrust-beyondinsight-pam.
    """

    name: ClassVar[str] = "BeyondTrust-PasswordSafe"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("Host", "BeyondTrust Host"),
        Parameter("APIKey", "BeyondTrust API Key", secret=True),
        Parameter("Username", "BeyondTrust Username"),
        Parameter("ClientCertificate", "BeyondTrust Client Certificate Thumbprint", required=False),
        Parameter("SystemId", "BeyondTrust System ID", instance=True),
        Parameter("AccountId", "BeyondTrust Account ID", instance=True),
    )

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:
        base = base_url(clear(given["Host"]), "Host", means)
        account = {"SystemID": _number(wanted, "SystemId"), "AccountID": _number(wanted, "AccountId")}
        if clear(given.get("ClientCertificate", "")).strip():
            means = replace(means, trust=means.client_trust)
        session = _Session(base if urlsplit(base).path else base + _BASE_ENDPOINT, _authorization(given), means)
        await session.sign_in()
        try:
            return await session.password(account)
        finally:
            await session.leave()


@dataclass(slots=True)
class _Session:
    """One fetch's own. ``created``: requests of ours that are open, which are to be checked in."""

    base: str
    authorization: str = field(repr=False)
    means: Means
    cookies: dict[str, str] = field(default_factory=dict, repr=False)
    created: list[int] = field(default_factory=list)

    async def sign_in(self) -> None:
        answer = await self._ask("POST", "Auth/SignAppin")
        if answer.status == _UNAUTHORIZED and "www-authenticate-2fa" in answer.headers:
            raise VaultFailed("denied", f"{_SIGNING_IN}: the user needs a second factor")
        # The only thing that can be missing is the API itself.
        require_success(answer, _SIGNING_IN, {_NOT_FOUND: "bad_parameter"})

    async def password(self, account: Mapping[str, int]) -> SecretText:
        request = await self._request(account)
        answer = await self._ask("GET", f"Credentials/{request}")
        if answer.status == _NOT_FOUND:
            # It was open, and has been checked in or ended since then; asked for again, it is a new one.
            request = await self._request(account)
            answer = await self._ask("GET", f"Credentials/{request}")
        if answer.status == _FORBIDDEN and _code(answer) == "4034" and request in self.created:
            self.created.remove(request)
        _require(answer, _READING)
        password = anything(answer, _READING)
        return secret(None if password == "" else password, "the account")

    async def leave(self) -> None:
        """Whatever comes of it: what was fetched, or why not, is told all the same."""
        # Each has its own time, and no more: the fetch may have been cancelled because it took too long.
        self.means = replace(self.means, seconds=min(self.means.seconds, _LEAVING_SECONDS))
        try:
            for request in self.created:
                with suppress(VaultFailed):
                    await self._ask("PUT", f"Requests/{request}/Checkin", {"Reason": "keyrelay has read it"})
        finally:
            with suppress(VaultFailed):
                await self._ask("POST", "Auth/Signout")

    async def _request(self, account: Mapping[str, int]) -> int:
        asked = {"DurationMinutes": 1, "Reason": "keyrelay signs in at the mail relay", "ConflictOption": "reuse"}
        answer = await self._ask("POST", "Requests", {**account, **asked})
        _require(answer, _REQUESTING)
        request = anything(answer, _REQUESTING)
        if not isinstance(request, int) or isinstance(request, bool):
            raise VaultFailed("bad_answer", f"{_REQUESTING}: the answer is not the number of a request")
        if answer.status == _CREATED:
            self.created.append(request)
        return request

    async def _ask(self, method: str, path: str, document: Mapping[str, object] | None = None) -> HttpAnswer:
        headers = [("Authorization", self.authorization)]
        if self.cookies:
            headers.append(("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        body = Body() if document is None else Body.of_json(document)
        answer = await ask(method, f"{self.base}/{path}", self.means, headers=headers, body=body)
        for cookie in _NEXT_COOKIE.split(answer.headers.get("set-cookie", "")):
            if pair := _COOKIE.fullmatch(cookie.partition(";")[0].strip()):
                self.cookies[pair[1]] = pair[2]  # all go to one host and one API: the other attributes say nothing here
        return answer


def _authorization(given: Mapping[str, SecretText | str]) -> str:
    parts = []
    for word, parameter in (("key", "APIKey"), ("runas", "Username")):
        value = header_value(given[parameter], parameter)
        if ";" in value:
            raise VaultFailed("bad_parameter", f"{parameter} must not hold a semicolon")
        parts.append(f"{word}={value};")
    return f"PS-Auth {' '.join(parts)}"


def _number(wanted: Mapping[str, str], parameter: str) -> int:
    text = wanted[parameter]
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > _HIGHEST_ID:
        raise VaultFailed("bad_parameter", f"{parameter} is not a number of Password Safe")
    return int(text)


def _require(answer: HttpAnswer, what: str) -> None:
    """Raises VaultFailed for any status but success."""
    why = _FORBIDDEN_BECAUSE.get(_code(answer)) if answer.status == _FORBIDDEN else None
    if why is not None:
        raise VaultFailed("denied", f"{what}: {why}")
    # 409: somebody has an open request that cannot be shared; it ends by itself.
    require_success(answer, what, {409: "sealed"})


def _code(answer: HttpAnswer) -> str:
    """The number that the body of a 403 begins with, if it has one."""
    found = re.match(rb'\s*"?(\d{4})\b', answer.body or b"")
    return found[1].decode("ascii") if found else ""
