"""Google Cloud Secret Manager, signed in with application default credentials."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import time
from collections.abc import Mapping
from datetime import UTC
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import ask, clear, members, require_success
from keyrelay.pam.backend import Means, Parameter, VaultFailed
from keyrelay.pam.blocking import BlockingHttp, Library, in_thread
from keyrelay.pam.sign_ins import Lease, SignIns
from keyrelay.secrets.model import SecretText

_ENDPOINT = "https://secretmanager.googleapis.com"
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_LIBRARY = Library("google.auth.transport.requests", "gcp")  # without it google-auth leaves out the metadata server
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,99}")  # an id, one with a domain before it, or a number
_SECRET = re.compile(r"[0-9A-Za-z_-]{1,255}")
_READING = "reading the secret"

# error.status of a 400 and error.details[].reason of a 403 (google.rpc.Code, google.api.ErrorReason).
_REASONS = {
    "SERVICE_DISABLED": "the Secret Manager API is not enabled in this project",
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": "this machine's tokens do not reach as far as Secret Manager",
    "IAM_PERMISSION_DENIED": "this identity may not read it (secretmanager.versions.access)",
    "CONSUMER_SUSPENDED": "the project is suspended",
    "BILLING_DISABLED": "billing is disabled in this project",
}


class GcpSecrets:
    """A secret of Google Cloud Secret Manager, in its latest version.

    GET /v1/projects/{projectId}/secrets/{secretId}/versions/latest:access ("Method: projects.secrets.versions.access",
    v1) with the token of application default credentials, which google-auth finds. ``payload.data`` is base64 and must
    match ``payload.dataCrc32c`` where that is given ("Data integrity assurance"). Only global secrets: those of a
    region have another endpoint.
    """

    name: ClassVar[str] = "GCP-SecretManager"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("projectId", "Unique Google Cloud Project ID"),
        Parameter("secretId", "Secret Name", instance=True),
    )
    library: ClassVar[Library] = _LIBRARY

    def __init__(self, endpoint: str = _ENDPOINT) -> None:
        self._endpoint = endpoint
        self._sign_ins = SignIns()

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:
        project, name = clear(given["projectId"]), wanted["secretId"]
        if not _PROJECT.fullmatch(project):
            raise VaultFailed("bad_parameter", "projectId is no id of a project")
        if not _SECRET.fullmatch(name):
            raise VaultFailed("bad_parameter", "secretId is no name of a secret")
        url = f"{self._endpoint}/v1/projects/{project}/secrets/{name}/versions/latest:access"

        async def sign_in() -> Lease:
            return await in_thread(lambda: _default_sign_in(means))

        async def read(headers: SecretText) -> HttpAnswer:
            return await ask("GET", url, means, headers=list(json.loads(headers.reveal()).items()))

        try:
            async with asyncio.timeout(means.seconds):
                # The identity is this machine's, whichever provider asks.
                answer = await self._sign_ins.ask({}, sign_in, read)
        except TimeoutError:
            raise VaultFailed("timeout", f"no secret within {means.seconds:g} seconds") from None
        _require_success(answer)
        return _payload(members(answer, _READING).get("payload"))


def _default_sign_in(means: Means) -> Lease:
    """The headers that sign us in, as JSON: a token, and for people's credentials the project that pays; blocks."""
    _LIBRARY.load()
    auth, errors = (_LIBRARY.load(module) for module in ("google.auth", "google.auth.exceptions"))
    http = BlockingHttp(means)
    failures: list[VaultFailed] = []

    def request(  # google.auth.transport.Request
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> SimpleNamespace:
        content = body.encode() if isinstance(body, str) else body or b""
        try:
            answer = http.ask(method, url, headers or {}, content, timeout)
        except VaultFailed as failure:
            failures.append(failure)
            raise errors.TransportError("no answer") from None
        return SimpleNamespace(status=answer.status, headers=answer.headers, data=answer.body or b"")

    try:
        credentials, _ = auth.default(scopes=_SCOPES, request=request)
        failures.clear()  # what was asked until here was whether there is a metadata server
        credentials.refresh(request)
    except errors.DefaultCredentialsError:
        raise VaultFailed("denied", "this machine has no usable application default credentials") from None
    except errors.GoogleAuthError:
        raise (failures or [VaultFailed("denied", "Google refuses the application default credentials")])[-1] from None
    headers: dict[str, str] = {}
    credentials.apply(headers)
    ends_at = credentials.expiry
    seconds = None if ends_at is None else ends_at.replace(tzinfo=UTC).timestamp() - time.time()
    return Lease(SecretText(json.dumps(headers)), seconds)


def _require_success(answer: HttpAnswer) -> None:
    if answer.status in {400, 403}:
        error = _error(answer)
        if error.get("status") == "FAILED_PRECONDITION":
            raise VaultFailed("not_found", f"{_READING}: its latest version is disabled or destroyed")
        details = error.get("details")
        told = [one.get("reason") for one in details if isinstance(one, dict)] if isinstance(details, list) else []
        reason = next((_REASONS[one] for one in told if isinstance(one, str) and one in _REASONS), None)
        if reason is not None:
            raise VaultFailed("denied", f"{_READING}: status {answer.status}, {reason}")
    require_success(answer, _READING)


def _error(answer: HttpAnswer) -> dict[str, Any]:
    try:
        error = members(answer, _READING).get("error")
    except VaultFailed:
        return {}
    return error if isinstance(error, dict) else {}


def _payload(payload: object) -> SecretText:
    data = payload.get("data") if isinstance(payload, dict) else None
    if not isinstance(payload, dict) or not isinstance(data, str):
        raise VaultFailed("bad_answer", f"{_READING}: the answer has no data")
    try:
        content = base64.b64decode(data, validate=True)
        text = content.decode()
        checksum = None if payload.get("dataCrc32c") is None else int(payload["dataCrc32c"])
    except (binascii.Error, ValueError, TypeError):
        raise VaultFailed("bad_answer", f"{_READING}: its data is no text in base64") from None
    if checksum is not None and checksum != crc32c(content):
        raise VaultFailed("bad_answer", f"{_READING}: its data does not match its checksum")
    return SecretText(text)


def crc32c(content: bytes) -> int:
    """The CRC-32C of RFC 3720 section 12.1, which the standard library does not have."""
    table = _crc_table()
    crc = 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)
