"""Provider types, providers and local entries as values (contract 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keyrelay.pam.backend import Backend
from keyrelay.secrets.model import Stored

LOCAL_TYPE = "LocalDB"
DEFAULT_AREA = 1


@dataclass(frozen=True, slots=True)
class TypeParameter:
    """A parameter of a type that is kept here. ``required``, ``default``: as its back end says."""

    id: int
    name: str
    display_name: str
    secret: bool
    instance: bool
    required: bool = True
    default: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderType:
    """``backend`` is None when a type was registered that nothing here can ask."""

    id: str
    name: str
    parameters: tuple[TypeParameter, ...]
    backend: Backend | None = None
    hidden: bool = False

    def levels(self, *, instance: bool) -> dict[str, TypeParameter]:
        """The parameters of one level, by name."""
        return {parameter.name: parameter for parameter in self.parameters if parameter.instance is instance}


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider. ``values`` are its provider-level parameters' by name: those that are secret are stored apart."""

    id: int
    name: str
    type: ProviderType
    values: Mapping[str, str | Stored]
    remote: bool = False
    area: int = DEFAULT_AREA
    secured_area_id: int | None = None


@dataclass(frozen=True, slots=True)
class GivenValue:
    """A parameter's value as a caller gives it: by the parameter's id, or by its name where there is none."""

    parameter_id: int | None
    parameter_name: str | None
    value: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderDraft:
    """What a caller would like a provider to be."""

    name: str | None
    type_id: str | None
    values: tuple[GivenValue, ...] = ()
    remote: bool = False
    area: int | None = None
    secured_area_id: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a local provider, without its secret."""

    provider: int
    name: str
    description: str | None
