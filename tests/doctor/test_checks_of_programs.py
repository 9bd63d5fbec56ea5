"""What keyrelay runs on."""

from __future__ import annotations

from datetime import date

from doctoring import judged, looked
from keyrelay.doctor.programs import locale_found, uvloop_found
from keyrelay.health.programs import openssl_found, python_found


def test_this_machine_can_run_it():
    findings = looked({}, "python", "openssl", "uvloop", "locale")
    assert {name: finding.verdict for name, finding in findings.items()} == dict.fromkeys(findings, "ok")


def test_a_python_is_judged_by_its_age():
    today = date(2026, 11, 28)
    judged(python_found((3, 11, 7), today), "ok", "3.11.7")
    judged(python_found((3, 99, 0), today), "ok")
    judged(python_found((3, 11, 7), date(2028, 1, 1)), "warning", "2027-10-31")
    judged(python_found((3, 10, 4), today), "failure", "too old")


def test_an_openssl_without_fixes_is_a_warning():
    judged(openssl_found(3, "OpenSSL 3.0.19"), "ok")
    judged(openssl_found(1, "OpenSSL 1.1.1w"), "warning", "1.1.1w")


def test_an_event_loop_that_cannot_be_loaded_is_a_failure():
    judged(uvloop_found("uvloop"), "ok")
    judged(uvloop_found("uvloop_for_another_machine"), "failure")


def test_a_language_that_lacks_letters_is_a_warning():
    judged(locale_found("UTF-8", "utf-8"), "ok")
    judged(locale_found("ANSI_X3.4-1968", "utf-8"), "warning", "ANSI_X3.4-1968")
    judged(locale_found("UTF-8", "ascii"), "warning")
