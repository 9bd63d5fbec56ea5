"""Where one process takes submissions in over HTTP: from a request to a message that is durable, and its answer."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from starlette.requests import Request

from keyrelay import traces
from keyrelay.access.identity import Identity
from keyrelay.access.limits import Limit, Meter
from keyrelay.api.answers import JSON, Answer, Header
from keyrelay.api.conventions import media_type, read_body, require_json
from keyrelay.api.operations import Call, Services, address_of, lacking
from keyrelay.api.submission_bodies import Handed, Names, Read, from_json, from_rfc822
from keyrelay.errors import (
    BadInput,
    BodyTooLarge,
    KeyrelayError,
    NoProfile,
    StoreUnavailable,
    TooManyMessages,
    UnsupportedMediaType,
    Violation,
)
from keyrelay.outbox.foresight import TOO_LARGE_FOR_RELAY, Foresight
from keyrelay.outbox.letter import Bounds
from keyrelay.outbox.queue import Key, Order, Receipt
from keyrelay.outbox.repeats import earlier

_PATH = b"/api/v1/messages/"
_RFC822 = "message/rfc822"
_KEY = re.compile(r"[!-~]{1,255}")
_BESIDE = 1024 * 1024  # octets: a larger body is read in a thread, beside the event loop
_MOST_IN_PIECES = 512 * 1024 * 1024  # octets, of all bodies together that do not come at once
_SLOWEST = 128 * 1024  # octets a second
_AROUND = 64 * 1024  # octets of JSON that are not the message
_SMALLER = "Send a smaller message, or raise KEYRELAY_MESSAGE_MEGABYTES."
_REPLAYED: Header = (b"idempotency-replayed", b"true")

_encode = msgspec.json.Encoder().encode

Result = TypeVar("Result")


class Taken(msgspec.Struct, frozen=True):
    """A message that is being made durable."""

    receipt: asyncio.Future[Receipt]
    message_id: str | None

    @property
    def answer(self) -> Answer:
        """When it is durable. Raises why it is not."""
        return _accepted(self.receipt.result().id, self.message_id)


class Entrance:
    """Takes submissions in for one process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._outbox = services.outbox()
        self._foresight = Foresight(self._outbox.mailer, services.store)
        self._bounds = Bounds.of(services.settings)
        self._in_pieces = 0
        most, setting = services.settings.submissions_per_minute, "KEYRELAY_SUBMISSIONS_PER_MINUTE"
        self._users = Limit("messages of user", most, "Messages of one user", setting, TooManyMessages)
        most, setting = services.settings.address_submissions_per_minute, "KEYRELAY_ADDRESS_SUBMISSIONS_PER_MINUTE"
        self._addresses = Limit("messages from address", most, "Messages from one address", setting, TooManyMessages)

    async def take_in(self, call: Call) -> Answer:
        """Answer when the message is durable."""
        form = _form(call.request)
        size = self._bounds.size if form.read is from_rfc822 else self._bounds.size * 4 // 3 + _AROUND
        pieces = _Pieces(self)
        try:
            body = await read_body(call.request, limit=size, remedy=_SMALLER, slowest=_SLOWEST, taken=pieces.take)
            return await self._answer(call, form, body)
        finally:
            pieces.give_back()

    async def _answer(self, call: Call, form: _Form, body: bytes) -> Answer:
        key = None
        if form.key is not None:
            key = Key(form.key, await _beside(body, lambda: form.digest(call.identity.name, body)))
        try:
            return await self._submit(call, form, body, key)
        except KeyrelayError as error:
            # What was taken in is not refused when it comes again, whatever has changed since.
            order = Order(call.identity.name, key=key)
            known = None if isinstance(error, StoreUnavailable) else await self._known(order)
            if known is not None:
                return known
            raise _told(error) from None

    async def _submit(self, call: Call, form: _Form, body: bytes, key: Key | None) -> Answer:
        snapshot = await self._services.keeper.snapshot()
        if snapshot.profile is None:
            raise NoProfile("No profile is configured yet.")
        await self._services.purses.take(*self._meters(call.identity.name, address_of(call.request)))
        names = Names(call.identity)
        allowance, now = names.allowance(snapshot.profile, self._bounds), datetime.now(UTC)
        try:
            handed: Handed = await _beside(body, lambda: form.read(body, form.query, allowance, now))
        except BadInput:
            if names.lacking:
                raise lacking(call.identity, *names.lacking) from None
            raise
        await self._foresight.require(handed.letter, snapshot.tag)
        order = Order(call.identity.name, handed.priority, handed.send_after, key)
        receipt = await self._outbox.queue.submit(handed.letter, order)
        traces.note(keyrelay__message=receipt.id)  # as the attempts at it have it
        if receipt.repeated and (known := await self._known(order)) is not None:
            return known
        return _accepted(receipt.id, handed.letter.message_id)

    def take_in_now(self, identity: Identity, address: str, query: str, body: bytes) -> Taken | None:
        """What ``take_in`` does with a message without a key, if it can be done without waiting.

        None when it cannot, or when anything is wrong: then nothing has happened.
        """
        keeper = self._services.keeper
        profile = keeper.loaded.profile
        if profile is None or keeper.loaded_mark != self._services.store.marks["profile"]:
            return None
        purses = self._services.purses.full(*self._meters(identity.name, address))
        if purses is None:  # before anything is read
            return None
        names = Names(identity)
        try:
            handed = from_rfc822(body, query, names.allowance(profile, self._bounds), datetime.now(UTC))
        except BadInput:
            return None
        letter, queue = handed.letter, self._outbox.queue
        if not self._foresight.is_ordinary(letter, keeper.loaded.tag) or not queue.is_open_to(len(letter.content)):
            return None
        self._services.purses.pay(purses)
        order = Order(identity.name, handed.priority, handed.send_after)
        return Taken(queue.enter(letter, order), letter.message_id)

    def _meters(self, name: str, address: str) -> tuple[Meter, Meter]:
        return Meter(self._users, name), Meter(self._addresses, address)

    async def _known(self, order: Order) -> Answer | None:
        """The answer to the same submission when it came first."""
        found = await earlier(self._services.store, order)
        return None if found is None else _accepted(found.id, found.message_id, _REPLAYED)

    def hold(self, octets: int) -> None:
        """Raise StoreUnavailable when there is too much to hold."""
        if self._in_pieces + octets > _MOST_IN_PIECES:
            raise StoreUnavailable("More is handed in at once than keyrelay can hold.", remedy="Try again later.")
        self._in_pieces += octets

    def let_go(self, octets: int) -> None:
        self._in_pieces -= octets


@dataclass(slots=True)
class _Pieces:
    """What one body that comes in pieces takes of the memory for all of them."""

    entrance: Entrance
    octets: int = 0

    def take(self, octets: int) -> None:
        self.entrance.hold(octets)
        self.octets += octets

    def give_back(self) -> None:
        self.entrance.let_go(self.octets)


class _Form(msgspec.Struct, frozen=True):
    """What a request says before its body: how that is to be read, the query, and the Idempotency-Key."""

    read: Read
    query: str
    key: str | None

    def digest(self, name: str, body: bytes) -> str:
        """What is the same for the same submission of the same user, and for no other."""
        digest = hashlib.sha256(f"{name}\0{self.read is from_rfc822}\0{self.query}\0".encode())
        digest.update(body)
        return digest.hexdigest()


def _form(request: Request) -> _Form:
    """Raises BadInput or UnsupportedMediaType."""
    headers: dict[bytes, bytes] = dict(request.scope["headers"])
    given = headers.get(b"content-type", b"application/json").decode("latin-1")
    read = from_rfc822 if given == _RFC822 or media_type(given) == _RFC822 else from_json
    if read is from_json:
        require_json(given, "Send it as application/json or message/rfc822.")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedMediaType("The body is compressed.", remedy="Send it as it is.")
    key = None
    if b"idempotency-key" in headers:
        keys = request.headers.getlist("idempotency-key")
        key = keys[0]
        if len(keys) > 1 or not _KEY.fullmatch(key):
            said = "{field} must be given once, with 1 to 255 visible characters of ASCII."
            raise BadInput((Violation("Idempotency-Key", "bad_value", said),))
    return _Form(read, request.scope["query_string"].decode("latin-1"), key)


async def _beside(body: bytes, work: Callable[[], Result]) -> Result:
    """Do something with a body: at once, or in a thread when it is large."""
    return work() if len(body) <= _BESIDE else await asyncio.to_thread(work)


def _accepted(message: str, message_id: str | None, *headers: Header) -> Answer:
    body = _encode({"id": message, "state": "queued", "message_id": message_id})
    return Answer(202, body, (JSON, (b"location", _PATH + message.encode()), *headers))


def _told(error: KeyrelayError) -> KeyrelayError:
    """A message that is too large, as the status 413."""
    if not isinstance(error, BadInput):
        return error
    for violation in error.violations:
        if violation.field == "message" and violation.code == "too_large":
            return BodyTooLarge(violation.message.replace("{field}", "The message"), remedy=_SMALLER)
        if violation.code == TOO_LARGE_FOR_RELAY:
            return BodyTooLarge(violation.message.replace("{field}", "The message"), remedy="Send a smaller message.")
    return error
