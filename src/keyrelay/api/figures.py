"""What one server process counts of the requests it has answered. Plain numbers, in one thread."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from keyrelay.histogram import Histogram

if TYPE_CHECKING:  # what a start does not need
    from keyrelay.relay.diagnosis import Report

SIGN_INS = ("accepted", "missing", "refused", "limited", "undecided")
TESTS = ("passed", "failed", "given_up")
_OF_A_REQUEST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)


class Figures:
    """``quick_reads`` counts what is answered at once; everything else of a request is counted when it ends."""

    __slots__ = ("quick_reads", "requests", "seconds", "sign_ins", "tests")

    def __init__(self) -> None:
        self.quick_reads = 0
        # By the route, as it is written down and not as it was asked for, the method, and the class of the status.
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.seconds: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(_OF_A_REQUEST))
        self.sign_ins: Counter[str] = Counter()
        self.tests: Counter[str] = Counter()

    async def test(self, work: Awaitable[Report]) -> Report:
        """Wait for a test or diagnosis, and count what came of it."""
        outcome = "given_up"
        try:
            report = await work
            outcome = "passed" if report.failed is None else "failed"
            return report
        finally:
            self.tests[outcome] += 1
