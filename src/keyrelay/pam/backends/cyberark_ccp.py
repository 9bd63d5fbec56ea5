"""CyberArk's Central Credential Provider: one GET for one password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote, urlsplit

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import ask, base_url, clear, members, path_of, require_success, secret
from keyrelay.pam.backend import Means, Parameter, Problem, VaultFailed
from keyrelay.secrets.model import SecretText, has_control

_WHAT = "reading the password"
# They would begin another criterion of the query, escaped or not, and the product does not take them.
_NOT_IN_VALUES = "+&%;"

# "Call the Web Service using REST", Return codes.
_CODES: dict[str, tuple[Problem, str]] = {
    "AIMWS030E": ("bad_parameter", "the query is not accepted"),
    "AIMWS031E": ("bad_parameter", "AppId is missing"),
    "APPAP004E": ("not_found", "there is no such object, or the application or its provider has no right to it"),
    "APPAP007E": ("sealed", "the web service does not reach its vault"),
    "APPAP008E": ("denied", "the application is not known"),
    "APPAP081E": ("bad_parameter", "the query is not accepted"),
    "APPAP227E": ("bad_parameter", "more than one object is meant"),
    "APPAP228E": ("bad_parameter", "more than one object is meant"),
    "APPAP229E": ("bad_parameter", "more than one object is meant"),
    "APPAP282E": ("sealed", "the password is being changed right now"),
    "APPAP306E": ("denied", "the application may not ask from here: its address or client certificate is not allowed"),
    "CASVL010E": ("bad_parameter", "AppId holds characters that are not allowed"),
}


class CyberArkCentralCredentialProvider:
    """Asks https://{``Host``}/{``Site``}/api/Accounts for the object of a safe and takes ``Content``.

    The client certificate of KEYRELAY_VAULT_CLIENT_CERT is shown where the site asks for one. Works with the REST web
    service of Central Credential Provider, of PAM - Self-Hosted and Privilege Cloud. Spaces and other characters in
    a name are escaped; one with ``+``, ``&``, ``%`` or ``;`` cannot be asked for, as the product has it.

    Sources: CyberArk, "Call the Web Service using REST"; Keyfactor/cyberark-credentialprovider-pam, from which the
    semicolons in the query are.
    """

    name: ClassVar[str] = "CyberArk-CentralCredentialProvider"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("AppId", "Application ID"),
        Parameter("Host", "CyberArk Host and Port"),
        Parameter("Site", "CyberArk API Site", required=False, default="AIMWebService"),
        Parameter("Safe", "Safe", instance=True),
        Parameter("Folder", "Folder", instance=True, required=False, default="Root"),
        Parameter("Object", "Object", instance=True),
    )

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:
        site = path_of(clear(given["Site"]), "Site", slashes=True)
        application = _escaped(clear(given["AppId"]), "AppId")
        which = ";".join(f"{name}={_escaped(wanted[name], name)}" for name in ("Safe", "Folder", "Object"))
        url = f"{_base(clear(given['Host']), means)}/{site}/api/Accounts?AppID={application}&{which}"
        answer = await ask("GET", url, means, context=means.client_trust)
        _require(answer)
        content = members(answer, _WHAT).get("Content")
        if content == "":
            raise VaultFailed("not_found", "the object has no content")
        return secret(content, "the object")


def _base(host: str, means: Means) -> str:
    base = base_url(host if "://" in host else f"https://{host}", "Host", means)
    if urlsplit(base).path:
        raise VaultFailed("bad_parameter", "Host must be a name and a port, as in ccp.example.org:443")
    return base


def _escaped(text: str, parameter: str) -> str:
    if has_control(text) or any(character in text for character in _NOT_IN_VALUES):
        raise VaultFailed("bad_parameter", f"{parameter} holds a character that cannot be asked for")
    return quote(text, safe="")


def _require(answer: HttpAnswer) -> None:
    """Raises VaultFailed for any status but success, by the product's code where it names one."""
    if answer.status < 400:  # noqa: PLR2004 - RFC 9110 section 15.5
        require_success(answer, _WHAT)
        return
    try:
        code = members(answer, _WHAT).get("ErrorCode")
    except VaultFailed:  # a page of the web server in front of it
        if answer.status == 404:  # noqa: PLR2004 - Not Found
            raise VaultFailed("bad_parameter", f"{_WHAT}: status 404, no such web service; see Site") from None
        if answer.status == 403:  # noqa: PLR2004 - Forbidden
            told = "the web server refuses us; it may want a client certificate, see KEYRELAY_VAULT_CLIENT_CERT"
            raise VaultFailed("denied", f"{_WHAT}: status 403, {told}") from None
        code = None
    if isinstance(code, str) and code in _CODES:
        problem, told = _CODES[code]
        raise VaultFailed(problem, f"{_WHAT}: {code}, {told}")
    require_success(answer, _WHAT)
