"""Static secrets in Akeyless."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import Body, ask, base_url, clear, members, require_success, secret
from keyrelay.pam.backend import Means, Parameter, VaultFailed
from keyrelay.pam.sign_ins import Lease, SignIns
from keyrelay.secrets.model import SecretText, has_control

_READING = "reading the secret"
_SIGNING_IN = "signing in"
_LATEST = 2**40  # of a Unix time; a float has no room for any number that JSON may hold
_KINDS = ("static_text", "static_kv", "static_json")
_FIELD = "the field of StaticSecretFieldName"


class Akeyless:
    """Signs in with an access id and its key, and reads the static secret ``SecretName``.

    Asked: POST {Url}/auth (JSON; access-id, access-key), whose token is kept until ``creds.expiry``, then POST
    {Url}/get-secret-value (JSON; names, token). ``Url`` is the public API or a gateway (https://gateway:8081, or
    https://gateway:8080/v2). Works with version 2 and 3 of the API; ``AuthType`` access_key alone is supported.

    ``SecretType`` says how to read it: static_text gives it whole; static_json gives the field of
    ``StaticSecretFieldName``, or the whole without one; static_kv gives that field of a JSON object or of lines
    key=value. A field of spaces counts as none.

    Sources: Akeyless, "API Reference" (auth, getSecretValue) and "Static Secrets"; akeylesslabs/akeyless-python
    (AuthOutput, GetSecretValue); Keyfactor/akeyless-pam.
    """

    name: ClassVar[str] = "Akeyless"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("Url", "Akeyless URL", required=False, default="https://api.akeyless.io"),
        Parameter("AccessId", "Access ID", secret=True),
        Parameter("AccessKey", "Access Key", secret=True),
        Parameter("AuthType", "Auth Type", required=False, default="access_key"),
        Parameter("SecretName", "Secret Name", instance=True),
        Parameter("SecretType", "Secret Type", instance=True, required=False, default="static_text"),
        Parameter("StaticSecretFieldName", "Static Secret Field Name", instance=True, required=False),
    )

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._sign_ins = SignIns(clock)

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:
        base = base_url(clear(given["Url"]), "Url", means)
        if clear(given["AuthType"]).strip() != "access_key":
            raise VaultFailed("bad_parameter", "AuthType must be access_key; the others are not supported")
        name, kind, field = _asked_for(wanted)

        async def sign_in() -> Lease:
            return await _sign_in(base, given, means)

        async def read(token: SecretText) -> HttpAnswer:
            body = Body.of_json({"names": [name], "token": token.reveal()})
            return await ask("POST", f"{base}/get-secret-value", means, body=body)

        answer = await self._sign_ins.ask(given, sign_in, read)
        require_success(answer, _READING)
        values = members(answer, _READING)
        if name not in values:
            raise VaultFailed("not_found", "the answer has no secret of the name in SecretName")
        return _part(values[name], kind, field)


def _asked_for(wanted: Mapping[str, str]) -> tuple[str, str, str | None]:
    name, kind = wanted["SecretName"], wanted["SecretType"].strip()
    field = wanted.get("StaticSecretFieldName", "").strip() or None
    if has_control(name) or not name.strip():
        raise VaultFailed("bad_parameter", "SecretName is not the name of a secret")
    if kind not in _KINDS:
        raise VaultFailed("bad_parameter", f"SecretType must be one of {', '.join(_KINDS)}")
    if kind == "static_kv" and field is None:
        raise VaultFailed("parameter_missing", "StaticSecretFieldName is needed for static_kv")
    return name, kind, field


async def _sign_in(base: str, given: Mapping[str, SecretText | str], means: Means) -> Lease:
    body = Body.of_json({"access-id": clear(given["AccessId"]), "access-key": clear(given["AccessKey"])})
    answer = await ask("POST", f"{base}/auth", means, body=body)
    # All that varies in this request are the credentials.
    require_success(answer, _SIGNING_IN, {400: "denied"})
    told = members(answer, _SIGNING_IN)
    credentials = told.get("creds")
    if not isinstance(credentials, dict):
        credentials = {}
    token = told.get("token") or credentials.get("token")
    if not isinstance(token, str) or not token:
        raise VaultFailed("bad_answer", f"{_SIGNING_IN}: the answer has no token")
    return Lease(SecretText(token), _life(credentials.get("expiry")))


def _life(expiry: object) -> float | None:
    """How long until a Unix time; None if there is none, or if our clocks differ so much that it tells nothing."""
    if not isinstance(expiry, int) or isinstance(expiry, bool):
        return None
    seconds = min(expiry, _LATEST) - time.time()
    return seconds if seconds > 0 else None


def _part(value: object, kind: str, field: str | None) -> SecretText:
    if kind == "static_text" or field is None:
        return secret(_text(value) or None, "the secret")
    held = _object(value)
    if held is None and kind == "static_kv":
        held = _lines(_text(value) or "")
    if held is None:
        raise VaultFailed("bad_answer", "the secret is no JSON object")
    if field not in held:
        raise VaultFailed("not_found", "the secret has no field of the name in StaticSecretFieldName")
    return secret(_text(held[field]) or None, _FIELD)


def _object(value: object) -> Mapping[str, Any] | None:
    """The JSON object that a secret is; gateways give it as text or as it is."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _lines(text: str) -> Mapping[str, str]:
    pairs = (line.partition("=") for line in text.split("\n"))
    return {key.strip(): value.strip() for key, sign, value in reversed(list(pairs)) if sign}


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
