"""An entry as text: XML that every parser reads, and a sheet in which nothing is a formula."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.audit import telling
from keyrelay.audit.model import Actor, Category, Entry, Kind, Operation

ANY_TEXT = st.text(alphabet=st.characters(), max_size=40)  # lone surrogates and control characters among them
FACTS = st.dictionaries(ANY_TEXT, ANY_TEXT | st.integers() | st.none() | st.lists(ANY_TEXT, max_size=2), max_size=3)
CHANGES = st.dictionaries(ANY_TEXT, st.just("changed") | st.fixed_dictionaries({"before": ANY_TEXT, "after": ANY_TEXT}))


def entry(**more):
    given = {"details": {}, "changes": {}, "name": "SMTP profile", "object": "1"} | more
    actor = Actor(given.pop("user", "admin"), given.pop("address", "127.0.0.1"))
    return Entry(
        *(7, "2026-11-28T21:00:00.000001+00:00", Category.SMTP, Operation.UPDATED, 0, actor, Kind.PROFILE),
        *(given["name"], given["object"], given["details"], given["changes"], "h", "s"),
    )


def test_a_message_is_made_of_user_operation_category_name_address_and_changes():
    told = entry(
        details={"revision": 2},
        changes={"host": {"before": "a<b", "after": None}, "relay_password": "changed"},
    )
    assert telling.message(told) == (
        "<AuditEntry><User>admin</User><Operation>Updated</Operation><Category>SMTP</Category><Name>SMTP profile</Name>"
        '<Address>127.0.0.1</Address><Detail name="revision"><Value>2</Value></Detail>'
        '<Change field="host"><Before>a&lt;b</Before></Change><Change field="relay_password">changed</Change>'
        "</AuditEntry>"
    )


@given(ANY_TEXT, ANY_TEXT | st.none(), FACTS, CHANGES)
def test_a_message_is_well_formed_whatever_it_tells(user, name, details, changes):
    told = telling.message(entry(user=user, name=name, details=details, changes=changes))
    root = ET.fromstring(told.encode())
    assert root.findtext("User", "") == telling._FOREIGN_TO_XML.sub("\ufffd", user)
    assert [each.get("field") for each in root.findall("Change")] == [
        telling._FOREIGN_TO_XML.sub("\ufffd", field) for field in changes
    ]


def read(text):
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


@given(ANY_TEXT, ANY_TEXT | st.none(), ANY_TEXT, CHANGES)
def test_a_sheet_is_read_as_what_it_tells_whatever_that_is(user, name, object_, changes):
    text = telling.heading() + telling.sheet([entry(user=user, name=name, object=object_, changes=changes)] * 2)
    text.encode()
    heading, *lines = read(text)
    assert tuple(heading) == telling.SHEET_COLUMNS
    assert len(lines) == 2
    for line in lines:
        assert len(line) == len(heading)
        for cell in line:
            assert not cell.lstrip().startswith(("=", "+", "-", "@"))
            assert not cell.startswith(("\t", "\r", "\n"))


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\t@", "\u00a0+", "  \n-", "\uff1d"])
def test_a_cell_that_a_spreadsheet_would_run_is_made_text(begin):
    (line,) = read(telling.sheet([entry(user=f"{begin}cmd|' /C calc'!A0", name=begin, object=begin)]))
    user, name, object_ = line[7], line[9], line[10]
    assert (user, name, object_) == (f"'{begin}cmd|' /C calc'!A0", f"'{begin}", f"'{begin}")


def test_lines_end_and_cells_are_quoted_as_rfc_4180_wants_it():
    text = telling.sheet([entry(user='a"b', name="c,d", object="e\nf")])
    assert text.endswith("\r\n")
    assert '"a""b"' in text
    assert '"c,d"' in text
    assert '"e\nf"' in text
