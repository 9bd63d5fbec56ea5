"""Running the checks: all of them, whatever becomes of the others, and each for a bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from keyrelay.doctor.case import Case
from keyrelay.doctor.model import Check, Report, Result
from keyrelay.errors import KeyrelayError, TrustUnusable
from keyrelay.health.finding import Finding, failure, skipped
from keyrelay.log import failure as told_of


async def examine(case: Case, checks: Sequence[Check], told: Callable[[Result], None] = lambda _: None) -> Report:
    """Run all checks at once. ``told`` hears of each in their order, as soon as that can be."""
    at = datetime.now(UTC)
    tasks = [asyncio.create_task(_run(check, case), name=f"keyrelay-check-{check.id}") for check in checks]
    try:
        results = []
        for task in tasks:
            results.append(await task)
            told(results[-1])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return Report(at, results)


async def _run(check: Check, case: Case) -> Result:
    began = time.monotonic()
    finding = await _found(check, case)
    return Result(check, finding, round(time.monotonic() - began, 3))


async def _found(check: Check, case: Case) -> Finding:
    if (why := case.lacks(check.need)) is not None:
        return skipped(why)
    try:
        async with asyncio.timeout(check.seconds):
            return await check.look(case)
    except TimeoutError:
        return failure(
            f"It could not be found out within {check.seconds:g} seconds.",
            "Look whether the machine, the database or a file system is overloaded, and try again.",
        )
    except TrustUnusable:  # its words name files
        return failure(
            "It could not be found out, because the certificates that keyrelay trusts or shows cannot be used.",
            "See the checks ca-bundle and client-certificates.",
        )
    except KeyrelayError as problem:
        return failure(problem.message, problem.advice)
    except Exception as problem:  # noqa: BLE001 - the other checks still say something
        place = told_of(problem)["through"][-1]
        return failure(f"The check itself failed: {type(problem).__name__} at {place}.", "Please report it.")
