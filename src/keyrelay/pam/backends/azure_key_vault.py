"""Azure Key Vault, signed in as this machine or as a service principal."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import Body, ask, base_url, clear, members, path_of, require_success, secret
from keyrelay.pam.backend import Means, Parameter, VaultFailed
from keyrelay.pam.backends.azure_chain import LIBRARY, chain_token
from keyrelay.pam.blocking import Library, in_thread
from keyrelay.pam.sign_ins import Lease, SignIns
from keyrelay.secrets.model import SecretText

_API_VERSION = "7.4"
_SECRET_ID = re.compile(r"[0-9A-Za-z-]{1,127}(/[0-9A-Za-z]{1,64})?")  # a name, and a version
_TENANT = re.compile(r"[0-9A-Za-z.-]{1,255}")


@dataclass(frozen=True, slots=True)
class _Cloud:
    """``authorities``: its names of the sign-in service, the one to use first; ``vaults``: the domain of its vaults."""

    authorities: tuple[str, ...]
    vaults: str


# "National clouds" and "About keys, secrets, and certificates" of Microsoft's documentation.
_CLOUDS = {
    "public": _Cloud(
        ("login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"),
        "vault.azure.net",
    ),
    "china": _Cloud(("login.chinacloudapi.cn", "login.partner.microsoftonline.cn"), "vault.azure.cn"),
    "government": _Cloud(("login.microsoftonline.us",), "vault.usgovcloudapi.net"),
}

# error.innererror.code of a 403, see "Azure Key Vault REST API Error Codes".
_FORBIDDEN = {
    "SecretDisabled": "the secret is disabled",
    "ForbiddenByFirewall": "the vault's firewall does not let this machine in",
    "ForbiddenByConnection": "the vault lets no machine in from this network",
    "ForbiddenByPolicy": "no access policy of the vault lets this identity read secrets",
    "ForbiddenByRbac": "no role lets this identity read secrets",
    "AccessDenied": "no access policy of the vault lets this identity read secrets",
}
_OAUTH_ERRORS = {  # RFC 6749 section 5.2
    "invalid_request": "it does not know the tenant, or not this kind of request",
    "invalid_client": "the client secret is wrong or has expired",
    "unauthorized_client": "it does not know the client in this tenant",
    "invalid_scope": "it does not know the vault's cloud",
    "invalid_resource": "it does not know the vault's cloud in this tenant",
}

_VAULT = Parameter("KeyVaultUri", "Key Vault URI")
_AUTHORITY = Parameter("AuthorityHost", "Authority Host", required=False, default="public")
_SECRET = Parameter("SecretId", "Secret ID", instance=True)


class AzureKeyVault:
    """A secret of Azure Key Vault, read as the identity that azure-identity's default chain finds for this machine.

    GET {KeyVaultUri}/secrets/{SecretId}?api-version=7.4 with a Bearer token, take ``value``; SecretId is a name, or
    name/version. Version 7.4 is the oldest whose shape is today's ("Get Secret" of the Key Vault REST API reference,
    7.4 to 2025-07-01), so it is known in every cloud.

    The token is for the domain that the vault is in, and never for another: a URI that somebody else owns gets nothing
    that opens a vault. As the chain's credentials are this machine's and not the provider's, AuthorityHost must be one
    of Microsoft's; the operator's AZURE_AUTHORITY_HOST may be any, and wins.
    """

    name: ClassVar[str] = "Azure-KeyVault"
    parameters: ClassVar[tuple[Parameter, ...]] = (_VAULT, _AUTHORITY, _SECRET)
    library: ClassVar[Library] = LIBRARY

    def __init__(self) -> None:
        self._sign_ins = SignIns()

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:
        place = _Place.of(wanted, given, means)
        if not place.microsofts and not os.environ.get("AZURE_AUTHORITY_HOST"):
            raise VaultFailed("bad_parameter", "AuthorityHost is none of Microsoft's; see AZURE_AUTHORITY_HOST")

        async def sign_in() -> Lease:
            return await in_thread(lambda: chain_token(place.authority, place.scope, means, discovery=place.microsofts))

        key = {"authority": place.authority, "scope": place.scope}
        return await _fetch(self._sign_ins, key, sign_in, place, means)


class AzureKeyVaultServicePrincipal:
    """The same, signed in by the OAuth 2.0 client credentials of a service principal; no library is needed.

    POST {AuthorityHost}/{TenantId}/oauth2/v2.0/token ("Microsoft identity platform and the OAuth 2.0 client credentials
    flow"), with the secret in the form.
    """

    name: ClassVar[str] = "Azure-KeyVault-ServicePrincipal"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        _VAULT,
        _AUTHORITY,
        Parameter("TenantId", "Tenant ID"),
        Parameter("ClientId", "Client ID"),
        Parameter("ClientSecret", "ClientSecret", secret=True),
        _SECRET,
    )

    def __init__(self) -> None:
        self._sign_ins = SignIns()

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:
        place = _Place.of(wanted, given, means)
        tenant, client, password = (clear(given[name]) for name in ("TenantId", "ClientId", "ClientSecret"))
        if not _TENANT.fullmatch(tenant):
            raise VaultFailed("bad_parameter", "TenantId is no tenant's id or domain")
        url = f"{place.authority}/{path_of(tenant, 'TenantId')}/oauth2/v2.0/token"
        form = {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_secret": password,
            "scope": place.scope,
        }
        return await _fetch(self._sign_ins, {"url": url, **form}, lambda: _client_token(url, form, means), place, means)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a secret is and who signs us in there; ``microsofts``: whether that is a cloud of Microsoft's own."""

    secret: str
    authority: str
    scope: str
    microsofts: bool

    @classmethod
    def of(cls, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> _Place:
        """Raises VaultFailed."""
        name = wanted["SecretId"]
        if not _SECRET_ID.fullmatch(name):
            raise VaultFailed("bad_parameter", "SecretId is no name of a secret, nor name/version")
        vault = base_url(clear(given["KeyVaultUri"]), "KeyVaultUri", means)
        authority = _authority(clear(given.get("AuthorityHost", "public")), means)
        host = (urlsplit(authority).hostname or "").lower()
        cloud = next((cloud for cloud in _CLOUDS.values() if host in cloud.authorities), None)
        scope = f"https://{_domain(vault, cloud)}/.default"
        return cls(f"{vault}/secrets/{name}?api-version={_API_VERSION}", authority, scope, cloud is not None)


def _authority(given: str, means: Means) -> str:
    ours = os.environ.get("AZURE_AUTHORITY_HOST", "").strip()
    text, parameter = (ours, "AZURE_AUTHORITY_HOST") if ours else (given.strip(), "AuthorityHost")
    if text.lower() in _CLOUDS:
        return f"https://{_CLOUDS[text.lower()].authorities[0]}"
    if ours and "://" not in text:  # the variable may be a host alone, as azure-identity has it
        text = f"https://{text}"
    return base_url(text, parameter, means)


def _domain(vault: str, cloud: _Cloud | None) -> str:
    """The domain that a vault is in, which is also what a token for it is for."""
    host = (urlsplit(vault).hostname or "").lower()
    if cloud is not None:
        if not host.endswith(f".{cloud.vaults}"):
            raise VaultFailed(
                "bad_parameter", f"KeyVaultUri is not in {cloud.vaults}, where AuthorityHost's vaults are"
            )
        return cloud.vaults
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.partition(".")[2] or host


async def _fetch(
    sign_ins: SignIns, key: Mapping[str, str], sign_in: Callable[[], Awaitable[Lease]], place: _Place, means: Means
) -> SecretText:
    async def read(token: SecretText) -> HttpAnswer:
        return await ask("GET", place.secret, means, headers=[("Authorization", f"Bearer {token.reveal()}")])

    try:
        async with asyncio.timeout(means.seconds):
            answer = await sign_ins.ask(key, sign_in, read)
    except TimeoutError:
        raise VaultFailed("timeout", f"no secret within {means.seconds:g} seconds") from None
    what = "reading the secret"
    if answer.status == 403:  # noqa: PLR2004 - RFC 9110 section 15.5.4
        raise VaultFailed("denied", _with_reason(f"{what}: status 403", _forbidden(answer)))
    require_success(answer, what)
    return secret(members(answer, what).get("value"), "the secret")


async def _client_token(url: str, form: Mapping[str, str], means: Means) -> Lease:
    answer = await ask("POST", url, means, body=Body.of_form(form))
    what = "signing in"
    if answer.status in {400, 401}:
        raise VaultFailed("denied", _with_reason(f"{what}: status {answer.status}", _oauth_error(answer)))
    require_success(answer, what)
    said = members(answer, what)
    token, life = said.get("access_token"), said.get("expires_in")
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise VaultFailed("bad_answer", f"{what}: the answer has no access_token")
    return Lease(SecretText(token), life if isinstance(life, int | float) else None)


def _oauth_error(answer: HttpAnswer) -> str | None:
    try:
        return _OAUTH_ERRORS.get(str(members(answer, "").get("error")))
    except VaultFailed:
        return None


def _forbidden(answer: HttpAnswer) -> str | None:
    try:
        error = members(answer, "").get("error")
    except VaultFailed:
        return None
    inner = error.get("innererror") if isinstance(error, dict) else None
    return _FORBIDDEN.get(str(inner.get("code"))) if isinstance(inner, dict) else None


def _with_reason(text: str, reason: str | None) -> str:
    return text if reason is None else f"{text}, {reason}"
