"""The page about trouble lists what the doctor looks at and what a bundle holds, and shows commands that work."""

from __future__ import annotations

import re

import pages

from keyrelay.doctor import shown
from keyrelay.doctor.bundle.archive import MEMBERS, REPORT
from keyrelay.doctor.checks import CHECKS
from keyrelay.doctor.database import _INTEGRITY_SECONDS
from keyrelay.doctor.trail import _ENTRIES
from keyrelay.relay.model import STAGES

PAGE = pages.read("docs/troubleshooting.md")


def test_the_table_of_checks_is_that_of_the_doctor():
    assert pages.rows(PAGE, "Check") == [[f"`{check.id}`", check.about] for check in CHECKS]


def test_the_table_of_files_is_that_of_the_bundle():
    told = {**REPORT, **{member.name: member.about for member in MEMBERS}}
    assert pages.rows(PAGE, "File") == [[f"`{name}`", about] for name, about in told.items()]


def test_every_stage_of_the_explained_test_has_its_row():
    named = [re.findall(r"`(\w+)`", first) for first, _ in pages.rows(PAGE, "What failed")]
    assert [stage for row in named for stage in row] == list(STAGES)


def test_every_command_and_every_setting_of_the_page_is_there():
    named = list(pages.commands(PAGE))
    assert {("doctor",), ("support-bundle", "bundle.zip")} <= {tuple(tokens) for tokens in named}
    for tokens in named:
        pages.require_command(tokens)
    pages.require_settings(PAGE)


def test_marks_and_bounds_are_those_of_the_code():
    for mark in ("ok", "warning", "failure"):
        assert shown.MARKS[mark] in PAGE
    assert f"newest {_ENTRIES} entries" in PAGE
    assert (_INTEGRITY_SECONDS, "for eight seconds" in PAGE) == (8.0, True)
