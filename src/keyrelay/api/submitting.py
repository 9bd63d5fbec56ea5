"""``POST /api/v1/messages``: a message is handed in, and is safe from the answer on."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from keyrelay.access.permissions import SUBMIT
from keyrelay.api.answers import Answer
from keyrelay.api.operations import Call, Operation, Services

if TYPE_CHECKING:  # what a start does not need: the first message imports it
    from keyrelay.api.entrance import Entrance


def post(services: Services) -> Operation:
    """The operation. Who may send in some names alone is admitted, and may do just that."""

    @cache
    def entrance() -> Entrance:
        from keyrelay.api.entrance import Entrance

        return Entrance(services)

    async def take_in(call: Call) -> Answer:
        return await entrance().take_in(call)

    return Operation({1: take_in}, SUBMIT, in_part=True)
