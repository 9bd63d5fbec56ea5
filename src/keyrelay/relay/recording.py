"""Tests and diagnoses, each with its entry in the audit trail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from keyrelay.audit.journal import Journal
from keyrelay.audit.model import Category, Deed, Kind, Level, Operation
from keyrelay.errors import KeyUnknown, SecretGone, TrustUnusable
from keyrelay.relay.diagnosis import Diagnoses, Finding, Order, Report
from keyrelay.store.model import Store


class Recorded:
    """Runs tests, and records each before it gives what was found."""

    def __init__(self, diagnoses: Diagnoses, store: Store, journal: Journal) -> None:
        self._diagnoses = diagnoses
        self._store = store
        self._journal = journal
        self._given_up: set[asyncio.Task[None]] = set()

    async def run(
        self, order: Order, *, advise: bool = True, finished: Callable[[Finding], None] = lambda _: None
    ) -> Report:
        """As ``Diagnoses.run``. Raises besides what the store raises: what cannot be recorded is not told either."""
        reached: list[Finding] = []

        def noted(finding: Finding) -> None:
            reached.append(finding)
            finished(finding)

        try:
            report = await self._diagnoses.run(order, advise=advise, finished=noted)
        except asyncio.CancelledError:
            # Whoever asked has gone away, and the message may be on its way.
            task = asyncio.create_task(self._write(_given_up(order, reached)), name="keyrelay-test-entry")
            self._given_up.add(task)
            task.add_done_callback(self._given_up.discard)
            raise
        except (KeyUnknown, SecretGone, TrustUnusable) as error:
            await self._write(_told(order, Operation.FAILED, Level.FAILURE, code=error.code))
            raise
        await self._write(_deed(report))
        return report

    async def look(self, order: Order) -> Report:
        """As ``Diagnoses.run`` without advice, and without an entry: for who only reads, and sends nothing."""
        return await self._diagnoses.run(order, advise=False)

    async def close(self) -> None:
        await asyncio.gather(*self._given_up, return_exceptions=True)
        await self._diagnoses.close()

    async def _write(self, deed: Deed) -> None:
        async with self._store.change() as change:
            await self._journal.write(change, deed)


def _deed(report: Report) -> Deed:
    if (failed := report.failed) is None:
        operation = Operation.SENT if report.order.mode == "message" else Operation.COMPLETED
        return _told(report.order, operation, Level.INFORMATION)
    cause = None if failed.explanation is None else failed.explanation.cause.id
    return _told(report.order, Operation.FAILED, Level.FAILURE, stage=failed.stage.stage, cause=cause)


def _given_up(order: Order, reached: list[Finding]) -> Deed:
    stage = reached[-1].stage.stage if reached else None
    return _told(order, Operation.FAILED, Level.FAILURE, given_up="the caller went away", last_stage=stage)


def _told(order: Order, operation: Operation, level: Level, **more: str | None) -> Deed:
    profile = order.profile
    place = f"{profile.host}:{profile.port}"
    details = {"mode": order.mode, "host": profile.host, "port": profile.port, "recipient": order.recipient}
    return Deed(Category.SMTP, operation, Kind.TEST, place, place, level, {**details, **more})
