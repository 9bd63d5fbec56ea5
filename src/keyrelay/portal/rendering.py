"""From a template and values to a page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from keyrelay import __version__, request_id
from keyrelay.access.identity import Identity
from keyrelay.api.answers import Answer, Header
from keyrelay.errors import BadInput, KeyrelayError
from keyrelay.portal import assets, navigation
from keyrelay.portal.page_remedies import remedy_at_a_page
from keyrelay.settings import Settings

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
Part = Callable[..., str]
_HTML: Header = (b"content-type", b"text/html; charset=utf-8")


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as a page tells it. ``fields`` are the violations by the field that they are about."""

    code: str
    message: str
    remedy: str
    fields: tuple[tuple[str, str], ...] = ()
    request_id: str | None = None

    def of(self, field: str) -> str:
        """What is wrong with a field, and with what is inside it; "" when nothing is."""
        return " ".join(told for name, told in self.fields if name == field or name.startswith(field + "."))


@dataclass(frozen=True, slots=True)
class Rendering:
    """What every page depends on. ``root`` leads from the page to ``/portal/``."""

    root: str
    settings: Settings | None
    identity: Identity | None
    form_token: str

    def to(self, target: str, /, **query: str) -> str:
        """The way to another page, by its path below ``/portal/``: relative, so that no proxy's prefix matters."""
        return self.root + quote(target, safe="/?=&#%~:+,@") + ("?" + urlencode(query) if query else "")

    def asset(self, name: str) -> str:
        return f"{self.root}static/{assets.edition()}/{name}"


async def rendered(rendering: Rendering, template: str, *, status: int = 200, **values: Any) -> Answer:
    """The answer that a template gives. ``problem`` may be among the values, or ``done``: a sentence of success."""
    part = await parts(rendering)
    return Answer(status, part(template, **values).encode("utf-8", "replace"), (_HTML,))


async def parts(rendering: Rendering) -> Part:
    """What gives the text of a template from values, as ``rendered`` does."""
    environment = await asyncio.to_thread(_environment)  # the first page waits for the import
    common = {
        "version": __version__,
        "who": rendering.identity,
        "form_token": rendering.form_token,
        "to": rendering.to,
        "asset": rendering.asset,
        "rooms": navigation.rooms(rendering.identity),
        "problem": None,
        "done": None,
    }

    def part(template: str, /, **values: Any) -> str:
        return environment.get_template(template).render({**common, **values})

    return part


def problem_of(error: KeyrelayError, names: dict[str, str] | None = None) -> Problem:
    """An error for people. ``names``: the fields as the page calls them."""
    names = names or {}
    fields: Sequence[tuple[str, str]] = ()
    message = error.message
    if isinstance(error, BadInput):
        sentences = error.sentences(lambda field: names.get(field, field.replace("_", " ").capitalize()))
        message = " ".join(sentences)
        fields = [(violation.field, told) for violation, told in zip(error.violations, sentences, strict=True)]
    return Problem(error.code, message, remedy_at_a_page(error), tuple(fields), request_id.current())


@cache
def _environment() -> jinja2.Environment:
    import jinja2  # only who asks for a page waits for it

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = moment
    environment.filters["instant"] = instant
    environment.filters["octets"] = octets
    environment.filters["number"] = "{:,}".format
    return environment


def moment(when: datetime) -> str:
    """A time for people, in UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def instant(when: datetime) -> str:
    """The same for machines: what <time datetime> takes."""
    return when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def octets(number: int) -> str:
    """A size for people, in units of 1024."""
    size = float(number)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":  # noqa: PLR2004 - of the units
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError
