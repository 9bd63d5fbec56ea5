"""``/api/v1/messages``: what was handed in, what became of it, and what a person does about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from keyrelay.access.permissions import MODIFY_MESSAGES, READ_CONTENT, READ_MESSAGES
from keyrelay.api.answers import JSON, Answer
from keyrelay.api.conventions import Fields, read_fields
from keyrelay.api.operations import Call, Handler, Operation, Resource, Services, Style, while_the_caller_waits
from keyrelay.api.outbox_desk import OutboxDesk
from keyrelay.api.submitting import Submitting
from keyrelay.errors import BadInput, UnknownName

if TYPE_CHECKING:  # what a start does not need
    from keyrelay.outbox.listing import Detail
    from keyrelay.outbox.model import Action
    from keyrelay.outbox.records import Kept


_ALL = "/api/v1/messages"
_ONE = _ALL + "/{id}"
_ACTIONS: tuple[Action, ...] = ("cancel", "hold", "release", "resend")
# Nothing in a message may run, whoever opens it in a browser.
_FOREIGN = ((b"content-type", b"message/rfc822"), (b"content-security-policy", b"default-src 'none'; sandbox"))


def resources(style: Style, services: Services, desk: OutboxDesk, submitting: Submitting) -> list[Resource]:
    messages = Messages(services, desk)

    def resource(path: str, **operations: Operation) -> Resource:
        return Resource(path, operations, style, services)

    return [
        resource(_ALL, GET=Operation({1: messages.list}, READ_MESSAGES), POST=submitting.operation),
        resource(f"{_ALL}/resend", POST=Operation({1: messages.resend_failed}, MODIFY_MESSAGES)),
        resource(_ONE, GET=Operation({1: messages.get}, READ_MESSAGES)),
        resource(f"{_ONE}/raw", GET=Operation({1: messages.content}, READ_CONTENT)),
        *(
            resource(f"{_ONE}/{action}", POST=Operation({1: messages.steered(action)}, MODIFY_MESSAGES))
            for action in _ACTIONS
        ),
    ]


class Messages:
    """The operations on messages, for one process."""

    def __init__(self, services: Services, desk: OutboxDesk) -> None:
        self._services = services
        self._desk = desk

    # --- Looking ---------------------------------------------------------------------------------------------

    async def list(self, call: Call) -> Answer:
        from keyrelay.api.message_documents import page_document
        from keyrelay.api.message_filters import Filters
        from keyrelay.outbox import listing

        asked = Filters(call.request.query_params.multi_items())
        page = await listing.find(self._services.store, asked.search, after=asked.after, limit=asked.limit)
        snapshot = await self._services.keeper.snapshot()
        return answered(page_document(page, await self._desk.clock(), snapshot.profile))

    async def get(self, call: Call) -> Answer:
        from keyrelay.api.message_documents import detail_document

        detail = await detail_of(self._services, call.request.path_params["id"])
        snapshot = await self._services.keeper.snapshot()
        return answered(detail_document(detail, await self._desk.clock(), snapshot.profile))

    async def content(self, call: Call) -> Answer:
        return await content_of(self._services, self._desk, call.request.path_params["id"])

    # --- Steering --------------------------------------------------------------------------------------------

    def steered(self, action: Action) -> Handler:
        """The operation that does this to a message."""

        async def steer(call: Call) -> Answer:
            await read_nothing(call)
            return await self._shown(await self._desk.steering.steer(call.request.path_params["id"], action))

        return steer

    async def resend_failed(self, call: Call) -> Answer:
        from keyrelay.api.message_filters import read_resend

        since, states = read_resend(await read_fields(call.request))
        work = self._desk.steering.resend_failed(since, states)
        found = await while_the_caller_waits(call.request, work)
        return answered({"resent": found.messages, "without_content": found.gone})

    async def _shown(self, kept: Kept) -> Answer:
        from keyrelay.api.message_documents import message_document

        snapshot = await self._services.keeper.snapshot()
        return answered(message_document(kept, await self._desk.clock(), snapshot.profile))


async def detail_of(services: Services, name: str) -> Detail:
    """The message of this id with its attempts. Raises UnknownName or StoreUnavailable."""
    from keyrelay.outbox import listing

    detail = await listing.one(services.store, name)
    if detail is None:
        raise listing.unknown()
    return detail


async def content_of(services: Services, desk: OutboxDesk, name: str) -> Answer:
    """The octets of the message as they are kept, as a file. Raises UnknownName or StoreUnavailable."""
    from keyrelay.outbox import content

    name = (await detail_of(services, name)).kept.submission.id
    office = desk.office
    await office.keyring.refresh(office.store)
    octets = await content.reveal(office.store, office.keyring, name)
    if octets is None:
        raise UnknownName(
            "The content of the message is not kept any more.",
            remedy="The settings KEYRELAY_KEEP_… say how long contents are kept.",
        )
    attached = (b"content-disposition", b'attachment; filename="%s.eml"' % name.encode())
    return Answer(200, bytes(octets), (*_FOREIGN, attached))


async def read_nothing(call: Call) -> None:
    """Read a body that has nothing to say: none at all, or an object without members. Raises BadInput."""
    fields = Fields(await read_fields(call.request, optional=True), {}, exact=True)
    if fields.violations:
        raise BadInput(tuple(fields.violations))


def answered(document: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"), (JSON,))
