"""``/Audit`` of the compatible API (contract 7.3)."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree as ET

import pytest

from complaints import complaint
from keyrelay.api import audit
from keyrelay.audit.model import Category, Deed, Kind, Operation
from live import ANONYMOUS, BASIC, V2

AUDIT = "/KeyfactorAPI/Audit"
KEYS = (
    *("Id", "Timestamp", "Message", "Signature", "Category", "Operation", "Level", "User", "EntityType"),
    *("AuditIdentifier", "ImmutableIdentifier"),
)
TYPE = {"Name": "Ours", "Parameters": []}


@pytest.fixture
def trail(server):
    """A server whose trail tells of its first user, of two revisions of the profile and of a provider type."""
    server.put_v2(ANONYMOUS).raise_for_status()
    server.put_v2(BASIC).raise_for_status()
    server.post("/KeyfactorAPI/PamProviders/Types", json=TYPE).raise_for_status()
    return server


def listed(server, path="", **parameters):
    return server.get(AUDIT + path, params=parameters).raise_for_status().json()


def test_entries_have_the_keys_of_the_contract_in_their_order(trail):
    entries = listed(trail)
    assert [tuple(entry) for entry in entries] == [KEYS] * 4
    assert [entry["Id"] for entry in entries] == [1, 2, 3, 4]
    first, _, third, _ = entries
    assert (first["Category"], first["Operation"], first["Level"]) == (2010, 1, 0)
    assert (first["User"], first["EntityType"], first["AuditIdentifier"]) == ("keyrelay", "User", "admin")
    assert (third["Category"], third["Operation"], third["Level"]) == (2100, 2, 0)
    assert (third["User"], third["EntityType"], third["AuditIdentifier"]) == ("admin", "SmtpProfile", "SMTP profile")
    assert third["ImmutableIdentifier"] == "1"
    assert third["Timestamp"].endswith("Z")
    assert len(third["Signature"]) == 64


def test_a_message_is_xml_of_user_operation_category_name_address_and_changes(trail):
    message = ET.fromstring(listed(trail)[2]["Message"])
    assert [message.findtext(tag) for tag in ("User", "Operation", "Category", "Name", "Address")] == [
        *("admin", "Updated", "SMTP", "SMTP profile", "127.0.0.1")
    ]
    changes = {change.get("field"): change for change in message.findall("Change")}
    assert changes["host"].findtext("After") == BASIC["Host"]
    assert changes["relay_password"].text == "changed"


def test_one_entry_is_shown_by_its_number(trail):
    assert listed(trail, "/2") == listed(trail)[1]


@pytest.mark.parametrize("number", ["0", "5", "99999999999", "x", "-1", "2147483648", "%00"])
def test_an_entry_that_there_is_not_is_404(trail, number):
    complaint(trail.get(f"{AUDIT}/{number}"), 404)
    complaint(trail.get(f"{AUDIT}/{number}/Validate"), 404)


def test_a_signature_that_holds_is_true_and_one_that_does_not_is_false(trail):
    assert listed(trail, "/2/Validate") is True

    async def edited(node):
        async with node.store.change() as change:
            await change.run("UPDATE audit_entry SET actor = 'somebody else' WHERE id = 2")

    trail.run(edited)
    assert listed(trail, "/2/Validate") is False
    assert listed(trail, "/1/Validate") is True


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ('category -contains "SMTP"', [2, 3]),
        ("Category -eq 2101", [4]),
        ("operation -eq Created", [1, 2, 4]),
        ("ImmutableIdentifier -eq 1", [2, 3]),
        ('user -eq "ADMIN" AND entitytype -eq "PamProviderType"', [4]),
        ('timestamp -ge "2020-01-01" AND id -lt 3', [1, 2]),
        ('category -contains "Agent"', []),
    ],
)
@pytest.mark.parametrize("prefix", ["", "pq."])
def test_entries_are_searched_as_published_in_both_spellings_of_the_parameters(trail, query, found, prefix):
    assert [entry["Id"] for entry in listed(trail, **{f"{prefix}queryString": query})] == found


def test_entries_are_sorted_and_paged(trail):
    def ids(**more):
        return [entry["Id"] for entry in listed(trail, **more)]

    assert ids(SortAscending=1) == [4, 3, 2, 1]
    assert ids(SortField="category") == [1, 2, 3, 4]
    assert ids(SortField="Operation") == [1, 2, 4, 3]
    assert ids(SortField="Timestamp", SortAscending=1, ReturnLimit=1, PageReturned=2) == [3]
    assert ids(ReturnLimit=0) == []


@pytest.mark.parametrize("field", ["User", "Message", "nonsense"])
def test_another_sort_field_is_refused_by_name(trail, field):
    refused = trail.get(AUDIT, params={"SortField": field})
    assert refused.json()["ErrorCode"] == "0xA011004A"
    assert field in complaint(refused, 400)


@pytest.mark.parametrize("path", ["", "/RelatedEntities", "/Download"])
def test_a_query_that_is_none_is_refused(trail, path):
    assert "QueryString" in complaint(trail.get(AUDIT + path, params={"QueryString": "nonsense -eq 1"}), 400)
    complaint(trail.get(AUDIT + path, params={"QueryString": 'timestamp -ge "yesterday"'}), 400)


def test_more_than_a_list_may_have_is_refused(trail):
    complaint(trail.get(AUDIT, params={"ReturnLimit": 10_001}), 400)


def test_related_entries_are_about_the_same_things_and_sorted_by_time(trail):
    related = listed(trail, "/RelatedEntities", QueryString="operation -eq Updated")
    assert [entry["Id"] for entry in related] == [2, 3]
    assert [entry["Id"] for entry in listed(trail, "/RelatedEntities", SortAscending=1)] == [4, 3, 2, 1]


# --- Downloading ---------------------------------------------------------------------------------------------


def sheet(server, **parameters):
    answer = server.get(f"{AUDIT}/Download", params=parameters).raise_for_status()
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    text = answer.json()
    assert isinstance(text, str)
    assert text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_a_download_is_a_string_that_holds_csv_and_leaves_an_entry(trail):
    lines = sheet(trail, QueryString="category -eq SMTP", SortField="Timestamp", SortAscending=1)
    assert tuple(lines[0]) == KEYS
    assert [line["Id"] for line in lines] == ["3", "2"]
    assert {line["Category"] for line in lines} == {"SMTP"}
    assert lines[1]["Message"] == listed(trail)[1]["Message"]
    last = listed(trail)[-1]
    assert (last["Category"], last["Operation"], last["User"]) == (Category.AUDIT, Operation.DOWNLOADED, "admin")


def test_a_download_holds_no_formula_whatever_things_are_called(trail):
    names = ['=HYPERLINK("https://evil.example")', "+1", "-1", "@SUM(A1)", "\tx", " =1+1", 'a"b,c', "ü€\u2028"]

    async def named(node):
        async with node.store.change() as change:
            await node.journal.write(
                change, *(Deed(Category.PAM, Operation.CREATED, Kind.ENTRY, name) for name in names)
            )

    trail.run(named)
    lines = sheet(trail, QueryString="entitytype -eq PamLocalEntry")
    found = [line["AuditIdentifier"] for line in lines]
    assert found == [*(f"'{name}" for name in names[:6]), *names[6:]]


def test_a_download_of_too_many_entries_is_refused_clearly(trail, monkeypatch):
    monkeypatch.setattr(audit, "MOST_DOWNLOADED", 2)
    told = complaint(trail.get(f"{AUDIT}/Download"), 400)
    assert "2 entries" in told
    assert "keyrelay audit export" in told
    assert len(sheet(trail, QueryString="category -eq SMTP")) == 2


def test_a_download_is_sent_in_pieces(trail, monkeypatch):
    monkeypatch.setattr(audit, "_AT_ONCE", 1)
    assert [line["Id"] for line in sheet(trail)] == ["1", "2", "3", "4"]


def test_nobody_reads_the_trail_without_the_right_to(trail):
    trail.add_user("reader", "long enough 1", "/system_settings/")
    for path in ("", "/1", "/1/Validate", "/RelatedEntities", "/Download"):
        refused = trail.get(AUDIT + path, auth=("reader", "long enough 1"))
        assert "/auditing/read/" in complaint(refused, 403)


def test_version_1_is_the_only_one(trail):
    complaint(trail.get(AUDIT, headers=V2), 400)


def test_a_long_list_is_the_same_as_its_pages(trail, monkeypatch):
    whole = listed(trail)
    monkeypatch.setattr(audit, "_AT_ONCE", 1)
    assert listed(trail) == whole
