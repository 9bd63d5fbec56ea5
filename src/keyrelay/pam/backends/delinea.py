"""Secrets in Delinea Secret Server."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import Body, ask, base_url, clear, members, require_success, secret
from keyrelay.pam.backend import Means, Parameter, VaultFailed
from keyrelay.pam.sign_ins import Lease, SignIns
from keyrelay.secrets.model import SecretText

_READING = "reading the secret"
_SIGNING_IN = "signing in"
_HIGHEST_ID = 2**31 - 1
_LONGEST_LIFE = 86400.0 * 365
# What is shown in the place of a file's content.
_NOT_SHOWN = "*** Not Valid For Display ***"


class DelineaSecretServer:
    """Signs in with a user's name and password, reads secret ``SecretId``, and takes one field by its name or slug.

    Asked: POST {Host}/oauth2/token (form; grant_type, username, password), then GET {Host}/api/v1/secrets/{SecretId}
    with the token, which is kept for as long as ``expires_in`` says. ``Host`` has the path of the installation, as in
    https://vault.example.org/SecretServer. Works with version 1 of the REST API (Secret Server,
    formerly Thycotic, and Secret Server Cloud); web services must be enabled, and the user needs no second factor.

    A field that is not there is not found (Keyfactor's extension gives an empty text). Secret Server answers 400 with
    API_AccessDenied for a secret that the user may not see, and for some that do not exist: both are denied.

    Sources: Delinea, "Secret Server REST API" (OAuth 2 token, Secrets) and "Script Authentication Using Tokens";
    DelineaXPM/python-tss-sdk; Keyfactor/delinea-secretserver-pam.
    """

    name: ClassVar[str] = "Delinea-SecretServer"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("Host", "Secret Server URL"),
        Parameter("Username", "Secret Server Username", secret=True),
        Parameter("Password", "Secret Server Password", secret=True),
        Parameter("SecretId", "Secret ID", instance=True),
        Parameter("SecretFieldName", "Secret Field Name", instance=True),
    )

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._sign_ins = SignIns(clock)

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:
        base = base_url(clear(given["Host"]), "Host", means)
        url = f"{base}/api/v1/secrets/{_secret_id(wanted['SecretId'])}"

        async def sign_in() -> Lease:
            return await _sign_in(base, given, means)

        async def read(token: SecretText) -> HttpAnswer:
            return await ask("GET", url, means, headers=[("Authorization", f"Bearer {token.reveal()}")])

        answer = await self._sign_ins.ask(given, sign_in, read)
        if answer.status == 400:  # noqa: PLR2004 - RFC 9110 section 15.5.1
            _explain_refusal(answer)
        require_success(answer, _READING)
        return _field(members(answer, _READING), wanted["SecretFieldName"])


def _secret_id(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 0 < int(text) <= _HIGHEST_ID:
        raise VaultFailed("bad_parameter", "SecretId is not the number of a secret")
    return int(text)


async def _sign_in(base: str, given: Mapping[str, SecretText | str], means: Means) -> Lease:
    form = {"username": clear(given["Username"]), "password": clear(given["Password"]), "grant_type": "password"}
    answer = await ask("POST", f"{base}/oauth2/token", means, body=Body.of_form(form))
    # RFC 6749 section 5.2: wrong credentials are a bad request here.
    require_success(answer, _SIGNING_IN, {400: "denied"})
    told = members(answer, _SIGNING_IN)
    token, life = told.get("access_token"), told.get("expires_in")
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise VaultFailed("bad_answer", f"{_SIGNING_IN}: the answer has no token that a header may hold")
    return Lease(SecretText(token), min(life, _LONGEST_LIFE) if isinstance(life, int | float) and life > 0 else None)


def _explain_refusal(answer: HttpAnswer) -> None:
    """Raises VaultFailed if a 400 has one of the error codes that mean a refusal."""
    try:
        code = str(members(answer, _READING).get("errorCode"))
    except VaultFailed:
        return
    if code == "API_AccessDenied":
        raise VaultFailed("denied", f"{_READING}: there is none with this id, or this user may not see it")
    if code.startswith("API_ValidateSecretAccess"):
        raise VaultFailed("denied", f"{_READING}: it asks for a comment, a check-out or an approval first")


def _field(told: Mapping[str, Any], name: str) -> SecretText:
    items = told.get("items")
    if not isinstance(items, list):
        raise VaultFailed("bad_answer", f"{_READING}: the answer has no fields")
    for item in items:
        if isinstance(item, dict) and name in (item.get("fieldName"), item.get("slug")):
            value = item.get("itemValue")
            if item.get("isFile") is True or value == _NOT_SHOWN:
                raise VaultFailed("bad_parameter", "the field of SecretFieldName is a file")
            return secret(None if value == "" else value, "the field of SecretFieldName")
    raise VaultFailed("not_found", "the secret has no field of the name in SecretFieldName")
