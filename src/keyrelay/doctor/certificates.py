"""Certificates: our own, those we show to others, and the authorities we trust."""

from __future__ import annotations

from keyrelay import self_signed
from keyrelay.aside import aside
from keyrelay.doctor.case import Case
from keyrelay.health import certificates
from keyrelay.health.finding import Finding, ok


async def ours(case: Case) -> Finding:
    return await aside(lambda: certificates.ours_found(case.settings))


async def authority(case: Case) -> Finding:
    if not case.settings.self_signed:
        return ok("keyrelay has no authority of its own.")
    return await aside(lambda: certificates.authority_found(self_signed.authority_file(case.settings.data_dir)))


async def for_others(case: Case) -> Finding:
    return await aside(lambda: certificates.client_certificates_found(case.settings))


async def authorities(case: Case) -> Finding:
    return await aside(lambda: certificates.authorities_found(case.settings.ca_bundle))
