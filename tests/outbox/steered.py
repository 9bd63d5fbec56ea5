"""A node whose rounds a test makes, somebody who steers it by hand, and messages in every state."""

from __future__ import annotations

from keyrelay.outbox.steering import Steering
from outboxes import LATER, NO, UNKNOWN, YES, ByHand, Time, letter, queue, said, submit

HOW_TO = {"accepted": YES, "deferred": LATER, "refused": NO, "outcome_unknown": "attempted", "held": "failed_at"}


class Desk:
    """A node by hand, somebody who steers, and messages in every state. ``changes`` counts what was made known."""

    def __init__(self, office) -> None:
        self.office = office
        self.node = ByHand(office)
        self.queue = queue(office)
        self.changes = 0
        self.steering = Steering(office, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def bring(self, state: str, clocks: Time, *addresses: str) -> str:
        """The id of a message that comes into this state, the way it would."""
        (name,) = await submit(self.queue, letter(*addresses or (f"{state}@example.org",)))
        if state == "cancelled":
            await self.steering.steer(name, "cancel")
        elif state == "expired":
            clocks.pass_by(self.office.policy.life.total_seconds() + 1)
            await self.node.round()
        elif state != "queued":
            for claim in (await self.node.round()).claims:
                if claim.id != name:
                    self.node.settle(claim, UNKNOWN, "not_begun")
                elif state != "sending":
                    await self.settle(claim, HOW_TO[state])
        return name

    async def settle(self, claim, how) -> None:
        if isinstance(how, str):
            self.node.settle(claim, UNKNOWN, how)
        else:
            self.node.settle(claim, said(claim, {one.address: how for one in claim.recipients}))
        await self.node.round(0)


async def desk_at(place, **more) -> Desk:
    return Desk(await place.office(**more))
