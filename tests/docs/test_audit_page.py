"""The page about the audit trail shows commands that there are, and says what the code says."""

from __future__ import annotations

import re

import pages

from keyrelay.api.audit import MOST_DOWNLOADED
from keyrelay.audit import refusals
from keyrelay.audit.model import Category, Operation
from keyrelay.audit.reading import FIELDS
from keyrelay.audit.refusals import Refusals
from keyrelay.settings import Settings

PAGE = pages.read("docs/audit.md")


def test_every_command_of_the_page_is_one_with_options_that_it_has():
    named = list(pages.commands(PAGE))
    assert len(named) > 6
    for tokens in named:
        pages.require_command(tokens)


def test_every_setting_of_the_page_is_one():
    pages.require_settings(PAGE)


def test_categories_and_operations_of_the_table_are_those_that_are_written():
    titles = {operation.title for operation in Operation}
    numbers = {category.value: category.title for category in Category}
    for _, category, operations in pages.rows(PAGE, "What"):
        number, title = category.split()
        assert numbers[int(number)] == title
        for word in re.findall(r"Removed from Hold|[A-Z][a-z]+", operations):
            assert word in titles, word


def test_fields_that_can_be_searched_are_those_of_the_page():
    (text,) = re.findall(r"query language of .*?, over (.*?)\. Categories", PAGE, re.DOTALL)
    assert re.findall(r"`(\w+)`", text) == list(FIELDS)


def test_numbers_of_the_page_are_those_of_the_code():
    made = Refusals(None, None)
    rations = (made._strangers, made._users)
    assert [(ration.burst, 60 / ration.seconds) for ration in rations] == [(200, 6), (200, 30)]
    assert "at most 200 at once and then six a minute of strangers, and 30 a minute of those" in PAGE
    assert (refusals._EVERY, refusals._MINUTE) == (1.0, 60.0)
    assert f"at most {MOST_DOWNLOADED:,} entries at once" in PAGE
    assert Settings().keep_audit_days // 365 == 7
    assert "seven years unless you say otherwise" in PAGE
