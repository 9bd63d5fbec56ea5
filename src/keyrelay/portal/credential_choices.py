"""Where the credentials of the profile may come from: what the form offers for each of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from keyrelay.access.identity import Identity
from keyrelay.access.permissions import READ_PAM
from keyrelay.pam.catalogue import Catalogue
from keyrelay.pam.model import Provider
from keyrelay.portal.forms import Form
from keyrelay.portal.smtp_form import HERE, KEEP, NAMES
from keyrelay.profile.draft import draft_of
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import HIDDEN_FIELDS, SECRET_FIELDS, SecretField
from keyrelay.secrets.model import Stored

MOST_PROVIDERS = 25


@dataclass(frozen=True, slots=True)
class ParameterField:
    """An instance-level parameter of a provider, as a field of the form."""

    name: str
    label: str
    value: str
    required: bool


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """A provider that a credential may come from. ``name`` is None where the person may not read it."""

    id: int
    name: str | None
    type: str
    chosen: bool
    parameters: tuple[ParameterField, ...]


@dataclass(frozen=True, slots=True)
class CredentialChoice:
    """One credential. ``kept_since``: when the value was given that is stored now, if there is one to keep."""

    field: SecretField
    label: str
    hidden: bool
    kept_since: datetime | None
    source: str
    providers: tuple[ProviderChoice, ...]


def credential_choices(
    form: Form, current: Snapshot, catalogue: Catalogue, identity: Identity
) -> dict[SecretField, CredentialChoice]:
    """The choices for each credential by field, as the form has them now."""
    usable = [one for one in catalogue.providers.values() if _usable(one) and identity.may(f"{READ_PAM}{one.id}/")]
    usable.sort(key=lambda one: one.name.casefold())
    draft = draft_of(current.profile)
    choices = {}
    for field in SECRET_FIELDS:
        hidden, source = field in HIDDEN_FIELDS, getattr(draft, field)
        kept = source.given_at if hidden and isinstance(source, Stored) else None
        chosen = form.text(f"{field}.source") or KEEP
        if chosen == KEEP and kept is None:
            chosen = HERE
        choices[field] = CredentialChoice(field, NAMES[field], hidden, kept, chosen, _providers(form, field, usable))
    return choices


def _usable(provider: Provider) -> bool:
    """Whether the profile could refer to it (``Catalogue.violations``)."""
    return not provider.remote and provider.type.backend is not None


def _providers(form: Form, field: SecretField, usable: list[Provider]) -> tuple[ProviderChoice, ...]:
    chosen = form.text(f"{field}.provider")
    offered = [one for place, one in enumerate(usable) if place < MOST_PROVIDERS or str(one.id) == chosen]
    choices = [
        ProviderChoice(one.id, one.name, one.type.name, str(one.id) == chosen, tuple(_parameters(form, field, one)))
        for one in offered
    ]
    if chosen.isascii() and chosen.isdigit() and not any(choice.chosen for choice in choices):
        choices.append(_unreadable(form, field, int(chosen)))
    return tuple(choices)


def _parameters(form: Form, field: SecretField, provider: Provider) -> Iterable[ParameterField]:
    for name, parameter in provider.type.levels(instance=True).items():
        value = form.raw(f"{field}.parameter.{provider.id}.{name}")
        label = parameter.display_name or name
        yield ParameterField(name, label, value, parameter.required)


def _unreadable(form: Form, field: SecretField, number: int) -> ProviderChoice:
    """The one that is chosen already, with the parameters that the profile shows anyway."""
    begins = f"{field}.parameter.{number}."
    given = [(name.removeprefix(begins), value) for name, value in form.pairs if name.startswith(begins)]
    parameters = tuple(ParameterField(name, name, value, required=False) for name, value in given)
    return ProviderChoice(number, None, "", chosen=True, parameters=parameters)
