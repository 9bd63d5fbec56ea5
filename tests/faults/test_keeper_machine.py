"""Any sequence of changes, restores, rotations and restarts, against a model that is a plain list."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from keyrelay.errors import ProfileChanged, SecretGone
from keyrelay.profile.model import Basic, SmtpProfile
from keyrelay.secrets.model import SecretText
from keyrelay.secrets.rotation import rotate
from keyrelay.secrets.stored import reveal as resolve
from keyrelay.server import Node
from keyrelay.settings import Settings
from live import ADMIN_PASSWORD, migrated_sqlite

_KEPT = 3

names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12)
# Sender name and password; no password is an anonymous profile.
changes = st.tuples(names, st.none() | names)
Change = tuple[str, str | None]


def profile_of(change: Change) -> SmtpProfile:
    name, password = change
    profile = SmtpProfile("h.example.org", 25, use_ssl=True, sender_account="a@example.org", sender_name=name)
    if password is None:
        return profile
    return SmtpProfile(
        "h.example.org", 25, use_ssl=True, sender_account="a@example.org", sender_name=name,
        authentication=Basic(SecretText(f"user {password}"), SecretText(password)),
    )  # fmt: skip


class KeeperMachine(RuleBasedStateMachine):
    """``revisions``: what each revision is, and the revision whose secrets it has."""

    def __init__(self) -> None:
        super().__init__()
        self.revisions: list[tuple[Change, int]] = []
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        data_dir = Path(self.directory.name)
        migrated_sqlite(data_dir / "keyrelay.db")
        self.settings = Settings(data_dir=data_dir, admin_password=ADMIN_PASSWORD, history_secrets=_KEPT)

    @initialize()
    def start(self) -> None:
        self.nodes = [self.runner.run(Node.open(self.settings)) for _ in range(2)]

    def teardown(self) -> None:
        for node in self.nodes:
            self.runner.run(node.close())
        self.runner.close()
        self.directory.cleanup()

    def on(self, number: int, work: Callable[[Node], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            return await work(self.nodes[number])

        return self.runner.run(run())

    @rule(change=changes, node=st.integers(0, 1))
    def replace(self, change: Change, node: int) -> None:
        written = self.on(node, lambda node: node.keeper.replace(profile_of(change), by="machine"))
        self.revisions.append((change, len(self.revisions) + 1))
        assert written.revision == len(self.revisions)

    @rule(change=changes, node=st.integers(0, 1))
    def be_too_late(self, change: Change, node: int) -> None:
        with pytest.raises(ProfileChanged):
            self.on(node, lambda node: node.keeper.replace(profile_of(change), by="machine", expected=lambda _: False))

    @precondition(lambda self: self.revisions)
    @rule(data=st.data(), node=st.integers(0, 1))
    def restore(self, data: st.DataObject, node: int) -> None:
        number = data.draw(st.integers(1, len(self.revisions)))
        change, origin = self.revisions[number - 1]
        if change[1] is not None and origin not in self.kept():
            with pytest.raises(SecretGone):
                self.on(node, lambda node: node.keeper.restore(number, by="machine"))
            return
        written = self.on(node, lambda node: node.keeper.restore(number, by="machine"))
        self.revisions.append((change, origin))
        assert (written.revision, written.restored_from) == (len(self.revisions), number)

    @rule(node=st.integers(0, 1))
    def rotate(self, node: int) -> None:
        self.on(node, lambda node: rotate(node.store, node.keyring))
        assert len(self.on(node, lambda node: node.store.rows("SELECT id FROM data_key"))) == 1

    @rule(number=st.integers(0, 1))
    def restart(self, number: int) -> None:
        self.runner.run(self.nodes[number].close())
        self.nodes[number] = self.runner.run(Node.open(self.settings))

    @invariant()
    def the_history_is_what_happened(self) -> None:
        entries = self.on(0, lambda node: node.keeper.history(limit=1000))
        assert [entry.revision for entry in entries] == list(range(len(self.revisions), 0, -1))
        for entry in entries:
            change, origin = self.revisions[entry.revision - 1]
            assert entry.restorable == (change[1] is None or origin in self.kept())

    @invariant()
    def every_node_shows_the_newest_profile_with_its_secrets(self) -> None:
        for number in range(2):
            shown = self.on(number, lambda node: node.keeper.snapshot())
            assert shown.revision == len(self.revisions)
            if self.revisions:
                (name, password), _ = self.revisions[-1]
                assert shown.profile.sender_name == name
                assert self.on(number, revealed) == ([] if password is None else [f"user {password}", password])

    @invariant()
    def nothing_is_stored_that_nobody_needs(self) -> None:
        ((number,),) = self.on(0, lambda node: node.store.rows("SELECT COUNT(*) FROM stored_secret"))
        assert number == 2 * len(self.kept())

    def kept(self) -> set[int]:
        """The revisions whose secrets have not been erased."""
        return {origin for (_, password), origin in self.revisions[-_KEPT:] if password is not None}


async def revealed(node: Node) -> list[str]:
    profile = (await node.keeper.snapshot()).profile
    to = profile.destination.text()
    return [
        (await resolve(node.store, node.keyring, source, field=field, destination=to)).reveal()
        for field, source in profile.secrets()
    ]


TestKeeperMachine = KeeperMachine.TestCase
TestKeeperMachine.settings = hypothesis.settings(max_examples=12, stateful_step_count=15)
