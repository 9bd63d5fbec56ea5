"""``keyrelay audit``, as an auditor types it."""

from __future__ import annotations

import csv
import io
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from live import run_keyrelay

PROFILE = (
    '{"host": "mail.example.org", "port": 25, "authentication": "anonymous",'
    ' "sender_account": "pki@example.org", "sender_name": "%s"}'
)


@pytest.fixture(scope="module")
def changed_dir(used_data_dir, tmp_path_factory):
    """A data directory whose trail tells of the first user, of two changes of the profile and of a provider."""
    data_dir = Path(shutil.copytree(used_data_dir, tmp_path_factory.mktemp("changed") / "data"))
    for command, given in (
        *((("smtp", "set", "-"), PROFILE % name) for name in ("PKI", "=1+1")),
        (("pam", "add", "Local", "--type", "LocalDB"), ""),
    ):
        run_keyrelay({"KEYRELAY_DATA_DIR": str(data_dir)}, *command, given=given).check_returncode()
    return data_dir


@pytest.fixture
def trail(changed_dir, keyrelay):
    shutil.rmtree(keyrelay.data_dir)
    shutil.copytree(changed_dir, keyrelay.data_dir)
    return keyrelay


def listed(trail, *options):
    return trail.read("audit", "list", *options)


def edited(trail, sql):
    """Somebody with the file, and without the key."""
    with closing(sqlite3.connect(trail.data_dir / "keyrelay.db")) as database, database:
        database.execute(sql)


def test_what_was_done_is_listed_newest_first_with_who_did_it(trail):
    newest, second, first = listed(trail)[:3]
    assert (newest["category"], newest["operation"], newest["name"]) == ("PAM", "Created", "Local")
    assert second["changes"] == {"sender_name": {"before": "PKI", "after": "=1+1"}}
    assert (first["operation"], second["operation"]) == ("Created", "Updated")
    assert newest["user"].endswith("(command line)")
    table = trail.ok("audit", "list")
    assert re.search(r"^Id +When +User +What +About", table)
    assert "SMTP Updated" in table
    assert "sender_name PKI → =1+1" in table


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--category", "pam"), ["Local"]),
        (("--operation", "Updated"), ["SMTP profile"]),
        (("--about", "LOCAL"), ["Local"]),
        (("--user", "nobody"), []),
        (("--since", "1h"), ["Local", "SMTP profile", "SMTP profile", "admin"]),
        (("--until", "1h"), []),
        (("--query", 'category -eq 2100 AND operation -contains "creat"'), ["SMTP profile"]),
        (("--query", "level -ge 1"), []),
        (("--limit", "1"), ["Local"]),
        (("--category", "SMTP", "--operation", "1"), ["SMTP profile"]),
    ],
)
def test_the_list_has_only_what_was_asked_for(trail, options, names):
    assert [entry["name"] for entry in listed(trail, *options)] == names


@pytest.mark.parametrize(
    "options",
    [("--limit", "0"), ("--limit", "10001"), ("--query", "nonsense"), ("--since", "yesterday")],
)
def test_what_cannot_be_asked_for_is_explained(trail, options):
    trail.refused("unsuitable", "audit", "list", *options)


def test_one_entry_is_shown_whole(trail):
    shown = trail.ok("audit", "show", "3")
    for part in ("SMTP", "Updated", "sender_name PKI → =1+1", "revision: 2"):
        assert part in shown
    assert trail.read("audit", "show", "3") == listed(trail, "--query", "id -eq 3")[0]
    trail.refused("unknown_name", "audit", "show", "99")


def test_the_trail_is_verified_and_its_end_is_printed_to_be_noted(trail):
    printed = trail.ok("audit", "verify")
    assert printed.startswith("The audit trail holds: 4 entries, from 1 on.\n")
    end = re.search(r"It ends at (4:[0-9a-f]{64})", printed)[1]
    assert trail.read("audit", "verify")["end"] == end
    trail.ok("smtp", "set", "-", given=PROFILE % "again")
    assert "5 entries" in trail.ok("audit", "verify", "--since", end)


def test_a_trail_that_was_tampered_with_ends_with_one_sentence_and_exit_code_1(trail):
    edited(trail, "UPDATE audit_entry SET actor = 'somebody else' WHERE id = 2")
    assert "Entry 2 was changed" in trail.refused("trail_broken", "audit", "verify")
    done = trail.run("audit", "verify", "--json")
    assert done.returncode == 1
    assert '"holds": false' in done.stdout
    assert "Entry 2 was changed" in done.stdout


def test_a_trail_that_was_set_back_is_found_by_an_end_that_was_noted(trail):
    backup = (trail.data_dir / "keyrelay.db").read_bytes()
    trail.ok("smtp", "set", "-", given=PROFILE % "later")
    end = trail.read("audit", "verify")["end"]
    (trail.data_dir / "keyrelay.db").write_bytes(backup)
    assert "4 entries" in trail.ok("audit", "verify")
    assert "it was set back" in trail.refused("trail_broken", "audit", "verify", "--since", end)


@pytest.mark.parametrize("mark", ["3", "3:xyz", "x:" + "0" * 64, "3:" + "0" * 63])
def test_what_is_no_end_of_a_trail_is_explained(trail, mark):
    trail.refused("unsuitable", "audit", "verify", "--since", mark)


def test_entries_are_exported_as_csv_without_formulas_and_that_is_recorded(trail):
    text = trail.ok("audit", "export")
    lines = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert [line["Id"] for line in lines] == ["1", "2", "3", "4", "5"]
    assert (lines[4]["Category"], lines[4]["Operation"]) == ("Audit", "Downloaded")
    assert "&lt;" not in lines[2]["Message"]
    one = trail.ok("audit", "export", "--query", "category -eq PAM")
    assert len(one.splitlines()) == 2


def test_a_rotation_of_the_keys_is_told(trail):
    trail.ok("keys", "rotate")
    ended, started = listed(trail, "--category", "ApplicationSetting")
    assert (started["details"]["step"], ended["details"]["step"]) == ("rotation started", "rotation ended")
    trail.ok("audit", "verify")


def test_a_moved_end_keeps_everybody_from_changing_anything_until_it_is_accepted_for_good(trail):
    edited(trail, "DELETE FROM audit_entry WHERE id = 4")
    edited(trail, "UPDATE audit_head SET last = 3, hash = (SELECT hash FROM audit_entry WHERE id = 3)")
    trail.refused("trail_broken", "smtp", "set", "-", given=PROFILE % "refused")
    assert "Entry 4 says what was found" in trail.ok("audit", "accept")
    entry = trail.read("audit", "show", "4")
    assert (entry["operation"], entry["level"], entry["details"]["last"]) == ("Reset", "Failure", 3)
    assert "its seal does not hold" in entry["details"]["broken"]
    trail.ok("smtp", "set", "-", given=PROFILE % "kept")
    assert "5 entries" in trail.ok("audit", "verify")
    trail.refused("unsuitable", "audit", "accept")


def test_what_is_broken_within_the_trail_stays_so(trail):
    edited(trail, "UPDATE audit_entry SET actor = 'x' WHERE id = 2")
    trail.refused("unsuitable", "audit", "accept")
    edited(trail, "UPDATE audit_head SET seal = ''")
    trail.ok("audit", "accept")
    assert "Entry 2 was changed" in trail.refused("trail_broken", "audit", "verify")
