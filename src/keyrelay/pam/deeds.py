"""What the audit trail tells of provider types, providers and local entries: field by field, and no secret."""

from __future__ import annotations

from typing import Any

from keyrelay.audit.model import Category, Deed, Kind, Level, Operation, changes_between
from keyrelay.pam.model import Entry, Provider, ProviderType
from keyrelay.secrets.model import Stored


def of_type(operation: Operation, kind: ProviderType) -> Deed:
    changes: dict[str, Any] = {}
    if operation is Operation.CREATED:
        changes = changes_between({}, {"name": kind.name, "parameters": [one.name for one in kind.parameters]}, ())
    return Deed(Category.PAM, operation, Kind.PROVIDER_TYPE, kind.name, kind.id, changes=changes)


def of_provider(operation: Operation, before: Provider | None, after: Provider | None, **details: int) -> Deed:
    """A provider that was made, changed or deleted. ``details``: facts beside its fields."""
    one = after or before
    assert one is not None  # noqa: S101 - there is no deed without a thing
    hidden = {f"values.{name}" for each in (before, after) if each for name in _hidden(each)}
    changes = changes_between(_fields(before), _fields(after), hidden) if after else {}
    return Deed(Category.PAM, operation, Kind.PROVIDER, one.name, str(one.id), details=details, changes=changes)


def of_entry(operation: Operation, entry: Entry, before: Entry | None = None, *, secret: bool = False) -> Deed:
    """An entry that was made, changed or deleted. ``secret``: whether its value was given."""
    changes: dict[str, Any] = {}
    if operation is not Operation.DELETED:
        known = {} if before is None else {"description": before.description}
        changes = changes_between(known, {"description": entry.description}, ())
    if secret:
        changes |= changes_between({}, {"secret_value": True}, {"secret_value"})
    details = {"provider": entry.provider}
    return Deed(
        *(Category.PAM, operation, Kind.ENTRY, entry.name, f"{entry.provider}/{entry.name}"),
        details=details,
        changes=changes,
    )


def of_trial(provider: Provider, verdict: str) -> Deed:
    """Somebody has tried whether a provider gives a secret. Which one was asked for may be a secret, put in wrongly."""
    found = verdict == "found"
    operation, level = (Operation.COMPLETED, Level.INFORMATION) if found else (Operation.FAILED, Level.FAILURE)
    details = {"verdict": verdict}
    return Deed(Category.PAM, operation, Kind.PROVIDER, provider.name, str(provider.id), level, details)


def _fields(provider: Provider | None) -> dict[str, Any]:
    if provider is None:
        return {}
    return {
        "name": provider.name,
        "type": provider.type.name,
        "remote": provider.remote,
        "area": provider.area,
        "secured_area_id": provider.secured_area_id,
        # A stored secret by its id, which is another one for another secret.
        **{
            f"values.{name}": value.id if isinstance(value, Stored) else value
            for name, value in provider.values.items()
        },
    }


def _hidden(provider: Provider) -> set[str]:
    secret = {parameter.name for parameter in provider.type.parameters if parameter.secret}
    return {name for name, value in provider.values.items() if isinstance(value, Stored) or name in secret}
