"""Values for PAM providers on the command line. A secret is never an argument: everybody on the machine sees those."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path

from keyrelay.cli import terminal
from keyrelay.errors import UnknownName, Unsuitable
from keyrelay.pam.catalogue import Catalogue
from keyrelay.pam.model import GivenValue, Provider, ProviderType
from keyrelay.secrets.model import SecretText

_HOW = "Write it as NAME to be asked, NAME=@FILE to read a file, or NAME=- to read standard input."


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """The values of an option that takes NAME=VALUE. Raises Unsuitable, and repeats nothing but names."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise Unsuitable(f"A value of {option} is not of the form NAME=VALUE.", remedy="Write NAME=VALUE.")
        if name in found:
            raise Unsuitable(f"{option} gives {name} more than once.", remedy="Give it once.")
        found[name] = value
    return found


def for_provider(kind: ProviderType, plain: Sequence[str], secret: Sequence[str]) -> tuple[GivenValue, ...]:
    """What --set and --set-secret give to a provider of a type; secrets are read or asked for. Raises Unsuitable."""
    known = kind.levels(instance=False)
    values = pairs("--set", plain)
    for name in values:
        if name in known and known[name].secret:
            told = f"{name} is secret, and an argument is seen by everybody on this machine."
            raise Unsuitable(told, remedy=f"Use --set-secret {name}, and regard what was given as known to others.")
    sources = dict(_source(text) for text in secret)
    if len(sources) < len(secret) or sources.keys() & values.keys():
        raise Unsuitable("A parameter is given more than once.", remedy="Give it once.")
    if list(sources.values()).count(Path("-")) > 1:
        raise Unsuitable("Standard input can hold one secret.", remedy="Read the others from files.")
    values |= {name: secret_from(file, name).reveal() for name, file in sources.items()}
    return tuple(GivenValue(None, name, value) for name, value in values.items())


def _source(text: str) -> tuple[str, Path | None]:
    name, equals, place = text.partition("=")
    if name and not equals:
        return name, None
    if name and place == "-":
        return name, Path("-")
    if name and place.startswith("@") and place != "@":
        return name, Path(place[1:])
    # What stands there is not repeated: it may be the secret itself.
    raise Unsuitable("A value of --set-secret does not say where the secret is.", remedy=_HOW)


def secret_from(file: Path | None, name: str) -> SecretText:
    """A secret from a file (- for standard input) without the line end after it, or asked for. Raises Unsuitable."""
    if file is not None:
        return SecretText(terminal.read_text(file).rstrip("\r\n"))
    if not sys.stdin.isatty():
        raise Unsuitable(f"There is no terminal to ask for {name} on.", remedy="Read it from a file or standard input.")
    try:
        first = getpass.getpass(f"{name}: ")
        same = getpass.getpass("Once more: ") == first
    except EOFError:
        raise Unsuitable(f"{name} was not given.", remedy="Try again.") from None
    if not same:
        raise Unsuitable("The two differ.", remedy="Try again.")
    return SecretText(first)


def provider_of(catalogue: Catalogue, name: str) -> Provider:
    """The provider of a name, or of a number: digits are always a number. Raises UnknownName."""
    if name.isascii() and name.isdigit():
        provider = catalogue.providers.get(int(name[:11]))
    else:
        provider = catalogue.provider_named(name)
    if provider is None:
        raise UnknownName(f"There is no PAM provider {name}.", remedy="keyrelay pam list shows them.")
    return provider


def type_of(catalogue: Catalogue, name: str) -> ProviderType:
    """The type of a name, in any case. Raises UnknownName."""
    kind = catalogue.type_named(name)
    if kind is None or kind.hidden:
        raise UnknownName(f"There is no provider type {name}.", remedy="keyrelay pam types shows them.")
    return kind


def parameters_text(kind: ProviderType, *, instance: bool) -> str:
    """The parameters of one level, each on a line: a star for those that are secret, brackets for optional ones."""
    shown = (
        (parameter.name + "*" if parameter.secret else parameter.name, parameter.required)
        for parameter in kind.levels(instance=instance).values()
    )
    return "\n".join(name if required else f"[{name}]" for name, required in shown)
