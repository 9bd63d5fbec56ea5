"""All checks run, whatever becomes of the others, each for a bounded time, and are told in their order."""

from __future__ import annotations

import asyncio
import re
import time

from doctoring import environment, looked
from keyrelay.doctor import shown
from keyrelay.doctor.case import opened
from keyrelay.doctor.checks import CHECKS
from keyrelay.doctor.examination import examine
from keyrelay.doctor.model import Check
from keyrelay.errors import StoreUnavailable, TrustUnusable
from keyrelay.health.finding import failure, ok, skipped, warning


def examined(*checks, told=lambda _: None, environ=None):
    async def run():
        async with opened(environ or {}, offline=True) as case:
            return await examine(case, checks, told)

    return asyncio.run(run())


def check(name, look, **more):
    return Check(name, "about it", look, **more)


async def fine(_):
    return ok("It is fine.")


async def never(_):
    await asyncio.sleep(60)


async def broken(_):
    raise KeyError("hunter2")


async def away(_):
    raise StoreUnavailable("The database does not answer.")


async def untrusted(_):
    raise TrustUnusable("The file /somewhere/hunter2 cannot be used.")


def test_a_check_that_hangs_or_breaks_keeps_no_other_from_its_answer():
    began = time.monotonic()
    checks = [check("a", never, seconds=0.2), check("b", broken), check("c", away), check("d", untrusted)]
    report = examined(*checks, check("e", fine))
    assert time.monotonic() - began < 5
    verdicts = {result.check.id: result.finding.verdict for result in report.results}
    assert verdicts == {"a": "failure", "b": "failure", "c": "failure", "d": "failure", "e": "ok"}
    found = [result.finding.found for result in report.results]
    assert "within 0.2 seconds" in found[0]
    assert re.fullmatch(r"The check itself failed: KeyError at test_examination\.py:\d+ broken\.", found[1])
    assert found[2] == "The database does not answer."
    assert "hunter2" not in str(report)


def test_results_are_told_in_order_although_all_run_at_once():
    async def slow(_):
        await asyncio.sleep(0.2)
        return ok("It took its time.")

    told = []
    began = time.monotonic()
    examined(*(check(str(number), slow) for number in range(10)), check("last", fine), told=told.append)
    assert time.monotonic() - began < 1.5
    assert [result.check.id for result in told] == [*map(str, range(10)), "last"]


def test_what_is_needed_and_not_there_is_told_as_the_reason(tmp_path):
    environ = {"KEYRELAY_DATA_DIR": str(tmp_path / "nowhere")}
    report = examined(check("a", broken, need="database"), check("b", broken, need="secrets"), environ=environ)
    assert {result.finding.verdict for result in report.results} == {"skipped"}
    assert {result.finding.found for result in report.results} == {"The database could not be opened."}


def test_every_check_has_an_id_of_its_own_and_says_what_it_looks_at():
    ids = [one.id for one in CHECKS]
    assert len(set(ids)) == len(ids)
    for one in CHECKS:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", one.id)
        assert re.fullmatch(r"[\w-][^.]+", one.about)
        assert one.seconds <= 65


def test_an_installation_that_is_well_is_all_ok_or_skipped(well_server):
    findings = looked(environment(well_server.settings), offline=True)
    wanted = {"profile", "data-dir"} if well_server.settings.database_url else {"profile"}
    assert {name for name, one in findings.items() if one.verdict not in {"ok", "skipped"}} <= wanted


# --- As it is shown ------------------------------------------------------------------------------------------


def a_report():
    async def found(finding):
        return finding

    findings = {
        "first": ok("It is."),
        "second": warning("It is \x1b[31m odd\nindeed.", "Look at it."),
        "third": failure("It is not.", "Mend it."),
        "fourth": skipped("There is none."),
        "fifth": skipped("There is none."),
    }
    return examined(*(check(name, lambda _, one=one: found(one)) for name, one in findings.items()))


def test_a_report_says_what_is_wrong_and_what_to_begin_with():
    assert shown.text(a_report()).splitlines() == [
        " ✓ first                 It is.",
        " ! second                It is [31m odd indeed.",
        "                         Look at it.",
        " ✗ third                 It is not.",
        "                         Mend it.",
        "",
        "Not looked at: fourth, fifth. There is none.",
        "1 failure, 1 warning, 1 ok, 2 skipped. Begin with third.",
    ]


def test_a_report_for_machines_has_every_check():
    document = shown.document(a_report())
    assert list(document) == ["version", "at", "verdict", "counts", "checks"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["at"])
    assert document["verdict"] == "failure"
    assert document["counts"] == {"ok": 1, "warning": 1, "failure": 1, "skipped": 2}
    assert [one["id"] for one in document["checks"]] == ["first", "second", "third", "fourth", "fifth"]
    for one in document["checks"]:
        assert list(one) == ["id", "verdict", "found", "advice", "seconds"]
