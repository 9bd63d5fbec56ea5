"""Which back ends there are: those that come with keyrelay, and plug-ins that are installed beside it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any

from keyrelay.pam.backend import Backend, Parameter
from keyrelay.secrets.model import has_control

GROUP = "keyrelay.pam_providers"
"""The entry-point group of plug-ins (docs/pam-plug-ins.md)."""

# Texts, so that a process which needs no vault does not import them.
_BUILT_IN = (
    "mounted_file:MountedFile",
    "environment:Environment",
    "hashicorp_vault:HashicorpVault",
    "hashicorp_vault:HashicorpVaultAppRole",
    "hashicorp_vault:HashicorpVaultKubernetes",
    "cyberark_ccp:CyberArkCentralCredentialProvider",
    "delinea:DelineaSecretServer",
    "azure_key_vault:AzureKeyVault",
    "azure_key_vault:AzureKeyVaultServicePrincipal",
    "aws:AwsSecrets",
    "gcp:GcpSecrets",
    "akeyless:Akeyless",
    "beyondtrust:BeyondTrustPasswordSafe",
)
_NAME_CHARACTERS = 200

_log = logging.getLogger(__name__)


def load(*more: Backend) -> Mapping[str, Backend]:
    """Back ends by the names of their types: ``more``, those that come with keyrelay, and plug-ins.

    Each call makes new objects, which remember sign-ins: call it once for a process. A plug-in that cannot be used,
    or that takes a name there is already, is left out, and the log says why.
    """
    built_in: list[Backend] = [resolve_name(f"keyrelay.pam.backends.{place}")() for place in _BUILT_IN]
    backends = {backend.name: backend for backend in (*more, *built_in)}
    for entry in _plug_ins():
        try:
            backend = entry.load()()
            why = mistakes(backend) or _taken(backend, backends)
        except (Exception, SystemExit) as problem:  # noqa: BLE001 - whatever a stranger's code raises
            _leave_out(entry, ["it raises an error"], problem)
            continue
        if why:
            _leave_out(entry, why)
        else:
            backends[backend.name] = backend
    return MappingProxyType(backends)


def mistakes(backend: Any) -> list[str]:
    """Why an object is no back end, in half sentences; nothing for one that is."""
    name, parameters, fetch = (getattr(backend, member, None) for member in ("name", "parameters", "fetch"))
    found = [] if _is_name(name) else ["its name is not a short text without spaces around it"]
    if not isinstance(parameters, tuple) or not all(isinstance(one, Parameter) for one in parameters):
        found.append("its parameters are not a tuple of Parameter")
    else:
        found += _mistakes_of(parameters)
    if not inspect.iscoroutinefunction(fetch):
        found.append("its fetch is not an async method")
    elif not _takes(fetch, "wanted", "given", "means"):
        found.append("its fetch does not take wanted, given and means")
    return found


def _mistakes_of(parameters: tuple[Parameter, ...]) -> list[str]:
    names = [parameter.name for parameter in parameters]
    found = [] if len(set(names)) == len(names) else ["two of its parameters have one name"]
    if not any(parameter.instance for parameter in parameters):
        found.append("no parameter is instance-level, so nothing says which secret is wanted")
    for parameter in parameters:
        if not _is_name(parameter.name) or not _is_name(parameter.display_name):
            found.append("a parameter has no name or no display name, or one that is no short text")
        elif parameter.secret and parameter.instance:
            found.append(f"{parameter.name} is secret and instance-level, and references are shown")
        elif parameter.required and parameter.default is not None:
            found.append(f"{parameter.name} is required and has a default")
    return found


def _is_name(text: object) -> bool:
    return (
        isinstance(text, str) and text == text.strip() != "" and len(text) <= _NAME_CHARACTERS and not has_control(text)
    )


def _takes(function: Any, *names: str) -> bool:
    signature = inspect.signature(function)
    try:
        signature.bind(*names)
        signature.bind(**dict.fromkeys(names))
    except TypeError:
        return False
    return True


def _taken(backend: Backend, others: Iterable[str]) -> list[str]:
    taken = backend.name.casefold() in {name.casefold() for name in others}
    return [f"there is a type {backend.name} already"] if taken else []


def _plug_ins() -> list[EntryPoint]:
    try:
        # In an order that does not change with the file system, because the first of two with one name is taken.
        return sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value))
    except Exception:  # noqa: BLE001 - the metadata of any installed package may be broken
        _log.warning("The installed packages cannot be searched for PAM plug-ins", exc_info=True)
        return []


def _leave_out(entry: EntryPoint, why: list[str], problem: BaseException | None = None) -> None:
    facts = {
        "plug_in": entry.name,
        "object": entry.value,
        "package": entry.dist.name if entry.dist else None,
        "why": "; ".join(why),
    }
    _log.warning("A PAM plug-in is left out", extra={"facts": facts}, exc_info=problem)
