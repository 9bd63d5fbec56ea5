"""What a page's form has sent."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from starlette.requests import Request

from keyrelay.api.conventions import media_type, read_body
from keyrelay.errors import MalformedBody, UnsupportedMediaType

FORM_TOKEN = "form_token"  # noqa: S105 - the name of a field
_MOST_FIELDS = 1000
# No browser's field takes them, and PostgreSQL keeps no text with a NUL.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, in their order; line ends as they are written everywhere but in forms."""

    pairs: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # passwords are among them

    def text(self, name: str) -> str:
        """The first value of a field without the spaces around it; "" when it is not there."""
        return self.raw(name).strip()

    def raw(self, name: str) -> str:
        """The same with its spaces: a password may begin with one."""
        return next((value for key, value in self.pairs if key == name), "")

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a field that may be there several times, such as of checkboxes."""
        return tuple(value for key, value in self.pairs if key == name)

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self.pairs)


async def read_form(request: Request) -> Form:
    """Raises UnsupportedMediaType, MalformedBody, BodyTooLarge or BodyTooSlow."""
    if media_type(request.headers.get("content-type", "")) != _FORM:
        raise UnsupportedMediaType("A page takes forms only.")
    body = await read_body(request)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:  # UnicodeError among them
        raise MalformedBody("The form is not one that a browser sends.") from None
    form = Form(tuple((name, value.replace("\r\n", "\n")) for name, value in pairs))
    if any(_CONTROL.search(text) for pair in form.pairs for text in pair):
        raise MalformedBody("The form has characters in it that nobody can see.", remedy="Type the text anew.")
    return form
