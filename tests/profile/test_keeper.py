"""Keeping the profile: one snapshot for all, a history that tells what changed, conditions, and restoring."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keyrelay.errors import ProfileChanged, SecretGone, StoreUnavailable, UnknownName
from keyrelay.profile.document import FieldChange
from keyrelay.profile.keeper import UNCONFIGURED, HistoryEntry, Snapshot
from keyrelay.profile.model import Anonymous, Basic, OAuthClientCredentials, RequestHeader, SmtpProfile
from keyrelay.secrets.model import SecretText, Stored
from live import ANONYMOUS, BASIC, OAUTH

_ANONYMOUS = SmtpProfile("mail.example.org", 25, use_ssl=False, sender_account="a@example.org", sender_name="A")


def basic(password: str = "first", **more: Any) -> SmtpProfile:
    fields = {
        "host": "smtp.example.org",
        "port": 587,
        "use_ssl": True,
        "sender_account": "b@example.org",
        "sender_name": "B",
    } | more
    return SmtpProfile(**fields, authentication=Basic(SecretText("mailer"), SecretText(password)))


def replaced(server, *profiles: SmtpProfile, by: str = "tester") -> list[Snapshot]:
    return [server.run(lambda node, profile=profile: node.keeper.replace(profile, by=by)) for profile in profiles]


def history(server, **more: Any) -> list[HistoryEntry]:
    return server.run(lambda node: node.keeper.history(**more))


def snapshot(server) -> Snapshot:
    return server.run(lambda node: node.keeper.snapshot())


def test_before_anything_is_configured_there_is_revision_zero(server):
    assert snapshot(server) is UNCONFIGURED
    assert (UNCONFIGURED.revision, UNCONFIGURED.profile, history(server)) == (0, None, [])


def test_all_readers_share_one_snapshot_until_something_changes(server):
    replaced(server, basic())
    first = snapshot(server)
    assert snapshot(server) is first
    server.add_user("somebody", "a good password", "/")  # another topic
    assert snapshot(server) is first
    replaced(server, _ANONYMOUS)
    second = snapshot(server)
    assert second is not first
    assert snapshot(server) is second


def test_many_readers_that_arrive_at_once_load_the_profile_once(fresh_settings, start):
    server = start(dataclasses.replace(fresh_settings, worker=False))  # it reads the profile too

    async def read_at_once(node) -> tuple[int, int]:
        await node.keeper.replace(basic(), by="tester")
        node.keeper.loaded_mark = -1
        asked = 0
        rows = node.store.rows

        async def counted(sql: str, *values: Any) -> Any:
            nonlocal asked
            asked += "profile_revision" in sql
            return await rows(sql, *values)

        node.store.rows = counted
        found = await asyncio.gather(*(node.keeper.snapshot() for _ in range(50)))
        node.store.rows = rows
        return len({id(one) for one in found}), asked

    assert server.run(read_at_once) == (1, 1)


def test_a_snapshot_tells_who_and_when_and_shows_only_the_visible_names(server):
    began = datetime.now(UTC)
    (written,) = replaced(server, basic(), by="jane")
    assert (written.revision, written.changed_by, written.restored_from) == (1, "jane", None)
    assert began - timedelta(seconds=1) <= written.changed_at <= datetime.now(UTC)
    assert written.visible == {"relay_username": "mailer"}
    assert isinstance(written.profile.authentication.relay_password, Stored)
    assert "first" not in repr(written)


def test_replacing_gives_back_what_was_written_also_when_others_are_faster(server):
    async def replace_at_once(node) -> list[Snapshot]:
        profiles = [basic(sender_name=f"PKI {number}") for number in range(8)]
        return await asyncio.gather(*(node.keeper.replace(profile, by="tester") for profile in profiles))

    written = server.run(replace_at_once)
    assert [one.profile.sender_name for one in written] == [f"PKI {number}" for number in range(8)]
    assert sorted(one.revision for one in written) == list(range(1, 9))
    assert len({one.tag for one in written}) == 8


def test_the_history_names_the_fields_that_changed_and_of_secrets_only_that_they_did(server):
    replaced(server, _ANONYMOUS, basic(), basic(password="second"))
    third, second, first = history(server)
    assert [change.field for change in first.changes] == [
        "host", "port", "use_ssl", "sender_account", "sender_name", "authentication",
    ]  # fmt: skip
    assert first.changes[0] == FieldChange("host", None, "mail.example.org")
    assert second.changes == [
        FieldChange("host", "mail.example.org", "smtp.example.org"),
        FieldChange("port", 25, 587),
        FieldChange("use_ssl", before=False, after=True),
        FieldChange("sender_account", "a@example.org", "b@example.org"),
        FieldChange("sender_name", "A", "B"),
        FieldChange("authentication", "anonymous", "basic"),
        FieldChange("relay_username", None, None, secret=True),
        FieldChange("relay_password", None, None, secret=True),
    ]
    assert {change.field for change in third.changes} == {"relay_username", "relay_password"}
    assert all(change.secret for change in third.changes)


def test_the_history_of_oauth_tells_its_plain_fields(server):
    oauth = OAuthClientCredentials(
        SecretText("client"), SecretText("hidden"), "https://login.example.org/token",
        scope="mail", request_headers=(RequestHeader("X-Tenant", "abc"),),
    )  # fmt: skip
    replaced(server, dataclasses.replace(_ANONYMOUS, authentication=oauth))
    (entry,) = history(server)
    told = {change.field: change.after for change in entry.changes}
    assert told["token_endpoint"] == "https://login.example.org/token"
    assert told["request_headers"] == [{"name": "X-Tenant", "value": "abc"}]
    assert (told["client_id"], told["client_secret"]) == (None, None)
    assert "hidden" not in repr(entry)


def test_the_history_is_limited_and_its_oldest_entry_still_tells_only_what_changed(server):
    replaced(server, *(basic(sender_name=f"PKI {number}") for number in range(6)))
    assert [entry.revision for entry in history(server, limit=4)] == [6, 5, 4, 3]
    oldest = history(server, limit=4)[-1]
    assert [change.field for change in oldest.changes if not change.secret] == ["sender_name"]
    assert [entry.revision for entry in history(server, limit=50)] == [6, 5, 4, 3, 2, 1]


def test_a_condition_is_looked_at_inside_the_transaction(server):
    (first,) = replaced(server, basic())
    seen: list[int] = []

    def not_any_more(current: Snapshot) -> bool:
        seen.append(current.revision)
        return False

    with pytest.raises(ProfileChanged):
        server.run(lambda node: node.keeper.replace(_ANONYMOUS, by="tester", expected=not_any_more))
    assert seen == [1]
    assert snapshot(server).is_still(first)
    written = server.run(lambda node: node.keeper.replace(_ANONYMOUS, by="tester", expected=first.is_still))
    assert written.revision == 2
    with pytest.raises(ProfileChanged):
        server.run(lambda node: node.keeper.replace(_ANONYMOUS, by="tester", expected=first.is_still))


def test_a_refused_change_leaves_no_secret_behind(server):
    replaced(server, basic())

    async def stored_ids(node) -> set[str]:
        return {row[0] for row in await node.store.rows("SELECT id FROM stored_secret")}

    before = server.run(stored_ids)
    with pytest.raises(ProfileChanged):
        server.run(lambda node: node.keeper.replace(basic("other"), by="tester", expected=lambda _: False))
    assert server.run(stored_ids) == before


def test_a_restore_makes_a_new_revision_like_the_old_one(server):
    first, _ = replaced(server, basic(), _ANONYMOUS)
    restored = server.run(lambda node: node.keeper.restore(1, by="operator"))
    assert (restored.revision, restored.restored_from, restored.changed_by) == (3, 1, "operator")
    assert restored.profile == first.profile
    assert restored.visible == {"relay_username": "mailer"}
    assert restored.tag != first.tag
    assert [(entry.revision, entry.restored_from) for entry in history(server)] == [(3, 1), (2, None), (1, None)]


def test_a_restore_of_what_never_was_changes_nothing(server):
    replaced(server, basic())
    for number in (0, 2, -1, 10**9):
        with pytest.raises(UnknownName):
            server.run(lambda node, number=number: node.keeper.restore(number, by="tester"))
    assert snapshot(server).revision == 1


def test_keeping_a_secret_that_is_gone_changes_nothing(server):
    replaced(server, _ANONYMOUS)
    gone = Stored("11111111-2222-3333-4444-555555555555", datetime.now(UTC))
    profile = dataclasses.replace(_ANONYMOUS, authentication=Basic(gone, gone))
    with pytest.raises(SecretGone):
        server.run(lambda node: node.keeper.replace(profile, by="tester"))
    assert snapshot(server).profile == _ANONYMOUS


def test_a_damaged_secret_is_mended_by_putting_the_profile_anew(server):
    server.put_v2(BASIC)

    async def damage(node) -> None:
        async with node.store.change("profile") as change:
            await change.run("UPDATE stored_secret SET sealed = $1", bytes(40))

    server.run(damage)
    assert server.get("/KeyfactorAPI/SMTP").status_code == 500
    for body in (OAUTH, BASIC, ANONYMOUS):
        assert server.put_v2(body).status_code == 200
    assert server.get_v2()["Host"] == ANONYMOUS["Host"]
    assert isinstance(snapshot(server).profile.authentication, Anonymous)


def test_a_change_that_meets_a_store_out_of_order_is_not_told_as_done(server, monkeypatch):
    replaced(server, basic())

    async def fail(*_, **__) -> None:
        raise StoreUnavailable("The database does not answer.")

    monkeypatch.setattr("keyrelay.secrets.stored.erase_all_but", fail)
    with pytest.raises(StoreUnavailable):
        replaced(server, _ANONYMOUS)
    monkeypatch.undo()
    assert snapshot(server).revision == 1
    assert [written.revision for written in replaced(server, _ANONYMOUS)] == [2]
