"""The relay: whether it can be reached and speaks as the profile wants it, without any credentials."""

from __future__ import annotations

from dataclasses import replace

from keyrelay.doctor.case import Case
from keyrelay.health.finding import Finding, failure, ok, skipped, warning
from keyrelay.profile.draft import draft_of
from keyrelay.profile.model import Anonymous, SmtpProfile
from keyrelay.relay.causes import Surroundings, explain
from keyrelay.relay.causes.model import fill, words
from keyrelay.relay.diagnosis import Order, Report
from keyrelay.relay.model import Evidence
from keyrelay.relay.transcript import StageReport

_SOON = 14  # days: a certificate of somebody else's is not ours to renew
_OURS = ("days", "seconds")  # facts that no stranger has worded
_MORE = "keyrelay smtp test shows all of it."


async def relay(case: Case) -> Finding:
    """The explained test as far as it needs no credentials: none is fetched, opened or sent."""
    if case.offline:
        return skipped("Nobody is connected to (--offline).")
    nameless = replace(case.configured, authentication=Anonymous())
    report = await case.wired.diagnoses.look(Order(nameless, "connect"))
    failed = report.failed
    if failed is not None and failed.stage.evidence is not None:
        found, advice = _why(failed.stage.evidence, case.configured, report)
        return failure(f"The relay cannot be used, as of the stage {failed.stage.stage}. {found}", f"{advice} {_MORE}")
    return _reached(case, case.configured, report)


def _reached(case: Case, profile: SmtpProfile, report: Report) -> Finding:
    tls = next(finding.stage for finding in report.findings if finding.stage.stage == "tls")
    verified, encrypted = bool(tls.learned.get("verified")), bool(tls.learned.get("encrypted"))
    signs_in = not isinstance(profile.authentication, Anonymous)
    if signs_in and not verified and not case.settings.allow_insecure_sign_in:
        detail = "unverified" if encrypted else "unencrypted"
        found, advice = _why(Evidence("auth", "insecure", detail=detail), profile, report)
        return failure(found, advice)
    days = _days_left(tls)
    if verified and days is not None and days < _SOON:
        return warning(
            f"The relay answers, and its certificate ends in {days} days.", "Tell whoever looks after the relay."
        )
    if encrypted and not verified:
        return warning("The relay answers, and its certificate cannot be verified.", _MORE)
    return ok(f"The relay answers{', over verified TLS' if verified else ', without TLS'}.")


def _days_left(tls: StageReport) -> int | None:
    """Of the relay's own certificate."""
    certificates = tls.learned.get("certificates") or ()
    return int(certificates[0]["days_left"]) if certificates else None


def _why(evidence: Evidence, profile: SmtpProfile, report: Report) -> tuple[str, str]:
    """The cause that the catalogue knows by the relay's words, told without them: they may be anything."""
    around = Surroundings(
        host=profile.host.removesuffix("."),
        port=profile.port,
        security=profile.security,
        sign_in=draft_of(profile).authentication,
        sender="",
        look=report.look.look if report.look else None,
        better_port=report.look.better_port if report.look else None,
    )
    cause = explain(evidence, around).cause
    facts = {name: evidence.facts[name] for name in _OURS if name in evidence.facts}
    known = words(Evidence(evidence.stage, evidence.kind, facts=facts), around)
    return fill(cause.sentence, known), fill(cause.remedy, known)
