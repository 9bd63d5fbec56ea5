"""What makes a provider type, a provider and its values valid. Every violation is reported at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from keyrelay.errors import BadInput, SecretRequired, Violation
from keyrelay.pam.backend import Parameter
from keyrelay.pam.catalogue import Catalogue
from keyrelay.pam.model import LOCAL_TYPE, GivenValue, Provider, ProviderDraft, ProviderType, TypeParameter
from keyrelay.secrets.model import SecretText, Stored, has_control, is_mask

_NAME_CHARACTERS = 255
_VALUE_CHARACTERS = 16_384
_MOST_PARAMETERS = 64

Value = str | SecretText | Stored


def check_type(name: str | None, parameters: tuple[Parameter, ...]) -> None:
    """Raise BadInput with everything that is wrong with a type."""
    found = [*_name("name", name)]
    if len(parameters) > _MOST_PARAMETERS:
        found.append(Violation("parameters", "too_many", f"{{field}} has more than {_MOST_PARAMETERS} items."))
    names = [parameter.name for parameter in parameters]
    if len(set(names)) != len(names):
        found.append(Violation("parameters", "duplicate", "{field} has a Name more than once."))
    for parameter in parameters[:_MOST_PARAMETERS]:
        found.extend(_name("parameters", parameter.name, "{field}: the Name of a parameter"))
        found.extend(_text("parameters", parameter.display_name, _NAME_CHARACTERS))
    if found:
        raise BadInput(tuple(found))


def same_parameters(kind: ProviderType, parameters: tuple[Parameter, ...]) -> bool:
    """Whether a type has these parameters, whatever they are called on pages."""
    known = {(one.name, one.secret, one.instance) for one in kind.parameters}
    return known == {(one.name, one.secret, one.instance) for one in parameters}


def require_local(provider: Provider) -> None:
    """Raise BadInput for a provider that has no entries here."""
    if provider.type.name != LOCAL_TYPE:
        told = (
            f"{{field}} is of the type {provider.type.name}; entries are kept for providers of the type {LOCAL_TYPE}."
        )
        raise BadInput((Violation("provider_id", "not_local", told),))


def check_provider(draft: ProviderDraft, catalogue: Catalogue, old: Provider | None) -> dict[str, Value]:
    """The provider-level values of a draft; a secret that is not given stays where nothing else has changed.

    An empty text takes a secret away, where the type does not require it.
    Raises BadInput, or SecretRequired when that is all there is to say.
    """
    found = [*_name("name", draft.name)]
    kind = old.type if old is not None else catalogue.types.get(draft.type_id or "")
    if old is not None and draft.type_id not in {None, old.type.id}:
        told = "{field} cannot be changed: make a new provider."
        found.append(Violation("provider_type", "type_changed", told))
    if kind is None or (kind.hidden and old is None):
        missing = not draft.type_id
        told = "{field} with its Id is required." if missing else "{field}: there is no type of that Id."
        found.append(Violation("provider_type", "missing" if missing else "unknown_type", told))
        raise BadInput(tuple(found))
    values, wrong = _values(draft, kind)
    found.extend(wrong)
    if not draft.remote:
        found.extend(_missing(kind, values, old))
    if found:
        secret = all(violation.code == SecretRequired.code for violation in found)
        raise (SecretRequired if secret else BadInput)(tuple(found))
    return {name: value for name, value in {**_kept(old, values), **values}.items() if value is not None}


def _kept(old: Provider | None, values: Mapping[str, Value | None]) -> dict[str, Stored]:
    """The secrets of a provider that stay. With another value beside them they would open for nobody."""
    if old is None or _where(old.values) != _where(values):
        return {}
    return {name: value for name, value in old.values.items() if isinstance(value, Stored)}


def _values(draft: ProviderDraft, kind: ProviderType) -> tuple[dict[str, Value | None], list[Violation]]:
    """The values given, None for what is taken away; and what is wrong with them."""
    by_id = {parameter.id: parameter for parameter in kind.parameters}
    by_name = {parameter.name: parameter for parameter in kind.parameters}
    values: dict[str, Value | None] = {}
    found: list[Violation] = []
    for given in draft.values:
        parameter = _meant(given, by_id, by_name)
        if parameter is None or parameter.instance:
            if given.value:
                found.append(_misplaced(given, parameter, kind))
        elif parameter.name in values:
            found.append(_wrong(parameter.name, "duplicate", "is given more than once"))
        elif given.value:
            found.extend(_usable(parameter, given.value))
            values[parameter.name] = SecretText(given.value) if parameter.secret else given.value
        elif given.value == "" and parameter.secret and not parameter.required:
            values[parameter.name] = None
    return values, found


def _meant(
    given: GivenValue, by_id: Mapping[int, TypeParameter], by_name: Mapping[str, TypeParameter]
) -> TypeParameter | None:
    if given.parameter_id:
        return by_id.get(given.parameter_id)
    return by_name.get(given.parameter_name or "")


def _misplaced(given: GivenValue, parameter: TypeParameter | None, kind: ProviderType) -> Violation:
    if parameter is not None:
        return _wrong(parameter.name, "instance_level", "is given at each use of the provider, and not here")
    names = ", ".join(kind.levels(instance=False)) or "none"
    which = given.parameter_id or "without a known name"
    return _wrong(str(which), "unknown_parameter", f"is no parameter of {kind.name}; it takes {names}")


def _usable(parameter: TypeParameter, value: str) -> Iterator[Violation]:
    clean = value.replace("\r", "").replace("\n", "") if parameter.secret else value  # a key may be a PEM file
    if has_control(clean):
        yield _wrong(parameter.name, "control_character", "holds a control character, such as a line break")
    elif len(value) > _VALUE_CHARACTERS:
        yield _wrong(parameter.name, "too_long", f"has more than {_VALUE_CHARACTERS} characters")
    if parameter.secret and is_mask(value):
        yield _wrong(parameter.name, "mask", "is a row of mask characters, which is a picture of a secret and not one")


def _missing(kind: ProviderType, values: Mapping[str, Value | None], old: Provider | None) -> Iterator[Violation]:
    moved = old is not None and _where(old.values) != _where(values)
    for name, parameter in kind.levels(instance=False).items():
        if name in values:
            continue
        kept = old is not None and isinstance(old.values.get(name), Stored)
        if kept and moved:
            yield _wrong(name, SecretRequired.code, "must be given again, because another value has changed")
        elif parameter.required and not kept:
            yield _wrong(name, "missing", "needs a value")


def _where(values: Mapping[str, Value | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if isinstance(value, str)}


def _wrong(name: str, code: str, told: str) -> Violation:
    return Violation(f"values.{name}", code, f"{{field}}: {name.replace('{', '(')} {told}.")


def _name(field: str, name: str | None, subject: str = "{field}") -> Iterator[Violation]:
    if not name or not name.strip():
        yield Violation(field, "missing", f"{subject} is required.")
    else:
        yield from _text(field, name, _NAME_CHARACTERS)


def _text(field: str, text: str, longest: int) -> Iterator[Violation]:
    if has_control(text):
        yield Violation(field, "control_character", "{field} holds a control character, such as a line break.")
    elif len(text) > longest:
        yield Violation(field, "too_long", f"{{field}} has more than {longest} characters.")
