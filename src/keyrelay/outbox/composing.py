"""A submission as JSON: what a caller says becomes the bytes of a message, or everything wrong with it is said.

The fields: ``from``, ``to``, ``cc``, ``bcc``, ``reply_to`` (each ``pki@example.org`` or ``PKI <pki@example.org>``; all
but the first may be lists), ``subject``, ``text``, ``html``, ``headers`` (an object) and ``attachments`` (a list of
objects with ``name``, ``content`` in base64, and ``type``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from keyrelay.errors import BadInput, Violation
from keyrelay.outbox.letter import Allowance, Bounds, Letter, not_permitted, told, too_large, too_many
from keyrelay.outbox.mailboxes import read_mailboxes
from keyrelay.profile.addresses import no_address
from keyrelay.relay.headers import Mailbox
from keyrelay.relay.message import Attachment, Message, build, new_message_id
from keyrelay.relay.model import Envelope

FIELDS = frozenset({"from", "to", "cc", "bcc", "reply_to", "subject", "text", "html", "headers", "attachments"})
_ATTACHMENT = frozenset({"name", "content", "type"})
_LISTS = ("to", "cc", "bcc", "reply_to")
_LONGEST_SUBJECT = 2000
_LONGEST_VALUE = 4000
_LONGEST_NAMED = 1000
_NAME_SHOWN = 64

# What a field of Message is called here.
_CALLED = {"sender_account": "from", "sender_name": "from"}


def compose(given: Mapping[str, Any], allowance: Allowance, *, now: datetime) -> Letter:
    """The message that the members of a JSON object ask for.

    ``now`` is aware, and becomes its Date. Raises BadInput with every violation; the fields are called as in the
    object, one within a list or an object by the name of that.
    """
    said = _Said(given, allowance.bounds)
    author = said.author(allowance)
    message = Message(
        sender_name=author.name,
        sender_account=author.address,
        **{field: said.mailboxes(field) for field in _LISTS},
        subject=said.text("subject", _LONGEST_SUBJECT) or "",
        text=said.text("text", allowance.bounds.size),
        html=said.text("html", allowance.bounds.size),
        attachments=said.attachments(),
        message_id=new_message_id(author.address),
        date=now,
        headers=said.headers(),
    )
    said.check_as_a_whole(message)
    try:
        built = build(message)
    except BadInput as bad:
        raise BadInput(said.together_with(bad)) from None
    if len(built.content) > allowance.bounds.size:
        said.found.append(too_large("message", allowance.bounds.size))
    if said.found:
        raise BadInput(tuple(said.found))
    return Letter(
        Envelope(built.sender, built.recipients),
        built.content,
        built.needs_smtputf8,
        not built.content.isascii(),
        message.message_id,
    )


@dataclass(slots=True)
class _Said:
    """Reads the members, and collects what is wrong with them instead of stopping at the first."""

    given: Mapping[str, Any]
    bounds: Bounds
    found: list[Violation]

    def __init__(self, given: Mapping[str, Any], bounds: Bounds) -> None:
        self.given = given
        self.bounds = bounds
        self.found = [_unknown(key) for key in given if key not in FIELDS]

    def author(self, allowance: Allowance) -> Mailbox:
        """Who the message is from: the profile's sender, unless another is given and permitted."""
        profiles = Mailbox(allowance.sender_account, allowance.sender_name)
        text = self.text("from", _LONGEST_NAMED)
        if not text:
            return profiles
        boxes = list(self._read("from", text))
        address = told(boxes[0].address) if len(boxes) == 1 else None
        if address is None:
            if not self._has("from"):
                self.found.append(no_address("from"))
        elif not allowance.permits(address):
            self.found.append(not_permitted("from"))
        elif boxes[0].name or not allowance.is_profiles(address):
            return boxes[0]
        return profiles

    def mailboxes(self, field: str) -> tuple[Mailbox, ...]:
        value = self.given.get(field)
        if value is None:
            return ()
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            self._wrong(field, "must be an address, or a list of addresses")
            return ()
        if len(texts) > self.bounds.recipients:
            self.found.append(too_many(field, self.bounds.recipients, "addresses"))
            return ()
        return tuple(box for text in texts for box in self._read(field, text))

    def _read(self, field: str, text: str) -> Iterator[Mailbox]:
        if "@" in text and not any(mark in text for mark in ' ,:;<>"()\\'):
            yield Mailbox(text)
            return
        box = _only_mailbox(text)
        if box is not None:
            yield box
        elif not self._has(field):
            self.found.append(no_address(field))

    def text(self, field: str, longest: int) -> str | None:
        value = self.given.get(field)
        if value is None:
            return None
        if not isinstance(value, str):
            self._wrong(field, "must be text")
        elif len(value) > longest:
            self.found.append(Violation(field, "too_long", f"{{field}} has more than {longest} characters."))
        else:
            return value
        return None

    def headers(self) -> tuple[tuple[str, str], ...]:
        value = self.given.get("headers")
        if value is None:
            return ()
        if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
            self._wrong("headers", "must be an object of texts")
        elif len(value) > self.bounds.headers:
            self.found.append(too_many("headers", self.bounds.headers, "headers"))
        elif any(len(text) > _LONGEST_VALUE for text in value.values()):
            self.found.append(
                Violation("headers", "too_long", f"{{field}} has a text of more than {_LONGEST_VALUE} characters.")
            )
        elif len({name.lower() for name in value}) != len(value):
            self.found.append(Violation("headers", "duplicate", "{field} has one header in two ways of writing it."))
        else:
            return tuple(value.items())
        return ()

    def attachments(self) -> tuple[Attachment, ...]:
        value = self.given.get("attachments")
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
            self._wrong("attachments", "must be a list of objects")
        elif len(value) > self.bounds.attachments:
            self.found.append(too_many("attachments", self.bounds.attachments, "files"))
        else:
            return tuple(attachment for one in value if (attachment := self._attachment(one)) is not None)
        return ()

    def _attachment(self, one: Mapping[str, Any]) -> Attachment | None:
        if one.keys() - _ATTACHMENT:
            self.found.append(Violation("attachments", "unknown", "{field} has a key beside name, content and type."))
        name, content, media_type = one.get("name"), one.get("content"), one.get("type") or "application/octet-stream"
        if not (isinstance(name, str) and isinstance(content, str) and isinstance(media_type, str)):
            self._wrong("attachments", "needs for each file the texts name and content")
            return None
        if any(space in content for space in "\n\r \t"):  # as the program base64 writes it
            content = "".join(content.split())
        return Attachment(name=name, media_type=media_type, base64=content)

    def check_as_a_whole(self, message: Message) -> None:
        """What is wrong with all of it together. Raises BadInput when it is too large to look at more closely."""
        if message.text is None and message.html is None and not message.attachments and not self._has("text", "html"):
            self.found.append(Violation("text", "missing", "{field} is required, unless there is html or a file."))
        if len(message.to) + len(message.cc) + len(message.bcc) > self.bounds.recipients:
            self.found.append(too_many("to", self.bounds.recipients, "addresses, with cc and bcc"))
        size = sum(len(attachment.base64) for attachment in message.attachments)
        if size + len(message.text or "") + len(message.html or "") > self.bounds.size:
            self.found.append(too_large("message", self.bounds.size))
            raise BadInput(tuple(self.found))

    def together_with(self, bad: BadInput) -> tuple[Violation, ...]:
        """What was found here, and what building found in fields that nothing was said of yet."""
        spoken = {violation.field for violation in self.found}
        built = [
            Violation(_CALLED.get(violation.field, violation.field), violation.code, violation.message)
            for violation in bad.violations
        ]
        return tuple(self.found + [violation for violation in built if violation.field not in spoken])

    def _has(self, *fields: str) -> bool:
        return any(violation.field in fields for violation in self.found)

    def _wrong(self, field: str, said: str) -> None:
        self.found.append(Violation(field, "wrong_type", f"{{field}} {said}."))


def _only_mailbox(text: str) -> Mailbox | None:
    try:
        boxes = read_mailboxes(text) if len(text) <= _LONGEST_NAMED else []
    except ValueError:
        return None
    return boxes[0] if len(boxes) == 1 else None


def _unknown(key: str) -> Violation:
    shown = "".join(character if character.isprintable() else "?" for character in key[:_NAME_SHOWN])
    return Violation(shown.replace("{", "("), "unknown", "{field} is not a field of this.")
