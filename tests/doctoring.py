"""What tests of the doctor share: an installation as environment variables, and a look at it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from keyrelay.doctor.case import opened
from keyrelay.doctor.checks import CHECKS
from keyrelay.doctor.examination import examine
from keyrelay.health.finding import Finding
from keyrelay.settings import Settings
from live import ADMIN_PASSWORD


def environment(settings: Settings, **more: object) -> dict[str, str]:
    """The variables that name the data of these settings; ``more`` are others, without their prefix."""
    given: dict[str, object] = {
        "DATA_DIR": settings.data_dir,
        "DATABASE_URL": settings.database_url or "",
        "ADMIN_PASSWORD": ADMIN_PASSWORD,
        "NAME_SERVERS": "none",
        "PORT": 0,  # whatever runs on this machine
    }
    return {f"KEYRELAY_{name}": str(value) for name, value in {**given, **more}.items()}


def looked(environ: Mapping[str, str], *ids: str, offline: bool = False) -> dict[str, Finding]:
    """What these checks find; all of them without any."""
    checks = [check for check in CHECKS if not ids or check.id in ids]
    assert len(checks) == (len(ids) or len(CHECKS)), ids

    async def look() -> dict[str, Finding]:
        async with opened(environ, offline=offline) as case:
            report = await examine(case, checks)
        return {result.check.id: result.finding for result in report.results}

    return asyncio.run(look())


def found(environ: Mapping[str, str], name: str, verdict: str, *words: str, offline: bool = False) -> Finding:
    """What one check finds: this verdict, and a sentence that has these words; both sentences are whole ones."""
    finding = looked(environ, name, offline=offline)[name]
    return judged(finding, verdict, *words)


def judged(finding: Finding, verdict: str, *words: str) -> Finding:
    assert finding.verdict == verdict, finding
    assert finding.found.endswith("."), finding
    assert (finding.advice is None) == (verdict in {"ok", "skipped"}), finding
    for word in words:
        assert word in finding.found, finding
    return finding
