"""The parameters of provider types as fields of forms, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from keyrelay.pam.backend import Parameter
from keyrelay.pam.blocking import Library
from keyrelay.pam.model import GivenValue, Provider, ProviderDraft, ProviderType, TypeParameter
from keyrelay.portal import pam_meanings
from keyrelay.portal.forms import Form
from keyrelay.secrets.model import FromPam, Stored

NAMES = {"name": "Name", "provider_type": "Type", "values": "Parameters"}


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter as a form asks for it. ``value`` is never that of a secret; ``since``: when one was given."""

    parameter: TypeParameter | Parameter
    name: str
    meaning: str
    value: str = ""
    since: datetime | None = None

    @property
    def about(self) -> str:
        """What violations call it."""
        return f"values.{self.parameter.name}"

    @property
    def labelled(self) -> str:
        """What people call it, and what the API does, where that is not the same."""
        title, name = self.parameter.display_name, self.parameter.name
        return title if _plain(title) == _plain(name) or not title else f"{title} ({name})"


def _plain(text: str) -> str:
    return text.casefold().replace(" ", "")


def provider_fields(kind: ProviderType, provider: Provider | None = None, form: Form | None = None) -> list[Field]:
    """The fields of a provider: what somebody has typed, or else what is kept."""
    return list(_fields(kind, provider, form, instance=False))


def reference_fields(kind: ProviderType, form: Form | None = None) -> list[Field]:
    """The fields that say which secret of a provider is meant."""
    return list(_fields(kind, None, form, instance=True))


def _fields(kind: ProviderType, provider: Provider | None, form: Form | None, *, instance: bool) -> Iterator[Field]:
    kept = {} if provider is None else provider.values
    for parameter in kind.levels(instance=instance).values():
        name, value = _field_name(parameter), kept.get(parameter.name, "")
        since = value.given_at if isinstance(value, Stored) else None
        shown = form.text(name) if form is not None and form.has(name) else value
        hidden = parameter.secret or isinstance(shown, Stored)
        meaning = pam_meanings.of_parameter(kind.name, parameter.name)
        yield Field(parameter, name, meaning, "" if hidden else str(shown), since)


def provider_draft(form: Form, kind: ProviderType, *, new: bool) -> ProviderDraft:
    """What the form of a provider says. A secret that is left empty stays as it is, unless it is to be taken away."""
    values = []
    for parameter in kind.levels(instance=False).values():
        name = _field_name(parameter)
        given = form.raw(name) if parameter.secret else form.text(name)
        if parameter.secret and form.has(f"without-{parameter.id}"):
            given = ""
        elif parameter.secret and not given:
            continue
        values.append(GivenValue(parameter.id, parameter.name, given))
    return ProviderDraft(
        name=form.text("name"),
        type_id=kind.id if new else None,
        values=tuple(values),
        remote=form.has("remote"),
    )


def reference(form: Form, provider: Provider) -> FromPam:
    """The secret that a form names; what is left empty is not given."""
    given = {
        parameter.name: form.text(_field_name(parameter)) for parameter in provider.type.levels(instance=True).values()
    }
    return FromPam(provider.id, {name: value for name, value in given.items() if value})


def missing(kind: ProviderType) -> str | None:
    """The command that installs what a type needs, where that is missing. May read the disk."""
    library = getattr(kind.backend, "library", None)
    return library.command if isinstance(library, Library) and not library.is_there() else None


def _field_name(parameter: TypeParameter) -> str:
    return f"value-{parameter.id}"
