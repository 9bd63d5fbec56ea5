"""What all operations of one process share that steer the outbox or listen to it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from keyrelay.api.operations import Services

if TYPE_CHECKING:  # what a start does not need
    from keyrelay.outbox.events import Feed
    from keyrelay.outbox.office import Office
    from keyrelay.outbox.schedule import OutboxClock
    from keyrelay.outbox.steering import Steering


class OutboxDesk:
    """Made when the application is; what it gives, when somebody needs it first."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @property
    def office(self) -> Office:
        return self._services.outbox().office

    @cached_property
    def steering(self) -> Steering:
        from keyrelay.outbox.steering import Steering

        return Steering(self.office, self._services.outbox().wake)

    @property
    def feed(self) -> Feed:
        return self._services.outbox().feed

    async def clock(self) -> OutboxClock:
        """What time it is. Raises StoreUnavailable."""
        watch = self.office.watch
        if watch.own is None:
            await self.office.open()
        return watch.clock
