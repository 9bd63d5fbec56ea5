"""``POST /api/v1/messages``: a message is handed in, and is safe from the answer on."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from keyrelay.access.permissions import SUBMIT
from keyrelay.api.answers import Answer
from keyrelay.api.operations import Call, Operation, Services

if TYPE_CHECKING:  # what a start does not need: the first message imports it
    from keyrelay.api.entrance import Entrance


class Submitting:
    """What takes messages in, for one process."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @cached_property
    def entrance(self) -> Entrance:
        from keyrelay.api.entrance import Entrance

        return Entrance(self._services)

    @property
    def has_begun(self) -> bool:
        """Whether there was a first message."""
        return "entrance" in self.__dict__

    @property
    def operation(self) -> Operation:
        """Who may send in some names alone is admitted, and may do just that."""
        return Operation({1: self._take_in}, SUBMIT, in_part=True)

    async def _take_in(self, call: Call) -> Answer:
        return await self.entrance.take_in(call)
