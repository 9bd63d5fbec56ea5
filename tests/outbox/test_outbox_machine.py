"""The outbox against a model: several nodes on one database, that come and go, and clocks that are turned."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from shutil import copy
from typing import Any

import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from keyrelay.errors import KeyReused, NotNow, StoreUnavailable
from keyrelay.outbox.budget import Limits, Load
from keyrelay.outbox.model import ACTIONS, WAITING, Action
from keyrelay.outbox.queue import Key, Order, Queue, Receipt
from keyrelay.outbox.records import Kept, moment
from keyrelay.outbox.settling import Claim, How
from keyrelay.outbox.steering import Steering
from keyrelay.relay.model import Evidence
from keyrelay.settings import Settings
from outboxes import (
    LATER,
    NO,
    UNKNOWN,
    YES,
    ByHand,
    Site,
    Time,
    clocks_of,
    ensure_books_are_right,
    kept,
    letter,
    per,
    policy,
    queue,
    said,
)

WINDOW, MESSAGES, RECIPIENTS = 60.0, 6, 9
LIFE = timedelta(hours=8)
AWAY = Evidence("connect", "timeout")
PERHAPS = frozenset({"outcome_unknown", "held", "expired"})  # after an attempt of which nobody knows what came
BACK = frozenset({"queued", "expired"})
AFTER = {
    "yes": frozenset({"accepted"}),
    "no": frozenset({"refused"}),
    "later": frozenset({"deferred", "expired"}),
    "away": BACK,
    "unknown": PERHAPS,
    "not_begun": BACK,
    "failed_at": frozenset({"held"}),
}
REPLIES = {"yes": YES, "no": NO, "later": LATER}
PLACES = [f"{name}@example.org" for name in ("ada", "bob", "cyd")]

entries = st.fixed_dictionaries(
    {
        "to": st.integers(1, 3),
        "priority": st.sampled_from((0, 0, 1, -1)),
        "after": st.sampled_from((None, None, -60, 30, 3000)),
        "key": st.sampled_from((None, None, None, "one", "two")),
    }
)


@dataclass(frozen=True)
class Round:
    """What is known of a round that is over: what its node settled, and of whose claims nobody knew."""

    node: str
    now: datetime
    settled: Mapping[tuple[str, int], How]
    lost: Collection[str]
    dead: Collection[str]


class OutboxMachine(RuleBasedStateMachine):
    """Subclasses say where the database is.

    ``fates``: for each attempt that is under way or over, by message and number, what became of it. ``sent``: when
    something reached the relay under a lease, and how many recipients it had. ``got``: how often each recipient got it.
    """

    site_settings: Settings

    def __init__(self) -> None:
        super().__init__()
        self.clocks = Time()
        self.stack = ExitStack()
        self.stack.enter_context(clocks_of(self.clocks))
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.site = Site(self.site_settings, self.clocks)
        self.nodes: list[ByHand] = []
        self.addresses: dict[str, tuple[str, ...]] = {}
        self.keys: dict[str, tuple[str, str]] = {}
        self.got: Counter[tuple[str, str]] = Counter()
        self.sent: list[tuple[float, int]] = []
        self.attempts: Counter[str] = Counter()
        self.fates: dict[tuple[str, int], dict[int, frozenset[str]]] = {}
        self.seen: dict[str, Kept] = {}

    def do(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        self.do(self._open())

    async def _open(self) -> None:
        await self.site.open()
        await self.site.emptied()
        self.entrance: Queue = queue(await self.site.office("in", policy=policy(life=LIFE)))
        self.steering = Steering(await self.site.office("desk", policy=policy(life=LIFE)))
        for name in ("a", "b", "c"):
            self.nodes.append(await self._node(name))

    async def _node(self, name: str) -> ByHand:
        limits = Limits(rates=per(WINDOW, MESSAGES, RECIPIENTS))
        store = self.nodes[0].office.store if self.nodes else None
        return ByHand(await self.site.office(name, store=store, policy=policy(life=LIFE), limits=limits))

    # --- What happens ----------------------------------------------------------------------------------------

    @rule(wanted=st.lists(entries, min_size=1, max_size=3))
    def submit(self, wanted: list[dict[str, Any]]) -> None:
        self.do(self._submit(wanted))

    async def _submit(self, wanted: list[dict[str, Any]]) -> None:
        letters = [letter(*PLACES[: one["to"]]) for one in wanted]
        orders = []
        for one in wanted:
            after = None if one["after"] is None else self.clocks.wall + timedelta(seconds=one["after"])
            key = None if one["key"] is None else Key(one["key"], str(one["to"]))
            orders.append(Order("me", one["priority"], after, key))
        submitting = (self.entrance.submit(each, order) for each, order in zip(letters, orders, strict=True))
        answers = await asyncio.gather(*submitting, return_exceptions=True)
        for each, order, answer in zip(letters, orders, answers, strict=True):
            if isinstance(answer, Receipt) and not answer.repeated:
                self.addresses[answer.id] = each.envelope.recipients
                assert order.key is None or order.key.text not in self.keys
                if order.key is not None:
                    self.keys[order.key.text] = (order.key.digest, answer.id)
        for order, answer in zip(orders, answers, strict=True):
            if isinstance(answer, KeyReused):
                assert self.keys[order.key.text][0] != order.key.digest
            elif answer.repeated:
                assert self.keys[order.key.text] == (order.key.digest, answer.id)
        self.seen = await kept(self.site.store)

    @rule(which=st.integers(0, 2), capacity=st.integers(0, 6))
    def go_round(self, which: int, capacity: int) -> None:
        self.do(self._round(self.nodes[which], capacity))

    @rule(which=st.integers(0, 2), lost=st.booleans())
    def the_store_fails(self, which: int, lost: bool) -> None:
        """``lost``: the transaction was committed, and only the answer did not come."""
        node = self.nodes[which]
        store, perform = node.office.store, node.office.store.perform

        async def failing(work: Any, **more: Any) -> Any:
            if lost:
                await perform(work, **more)
            raise StoreUnavailable("away")

        store.perform = failing
        try:
            self.do(self._round(node, 4, lost=lost))
        finally:
            del store.perform

    @rule(
        which=st.integers(0, 2),
        whose=st.integers(0, 5),
        results=st.lists(st.sampled_from(("yes", "yes", "later", "no")), min_size=3, max_size=3),
        instead=st.sampled_from((None, None, None, "away", "unknown", "not_begun", "failed_at")),
    )
    def an_attempt_ends(self, which: int, whose: int, results: list[str], instead: str | None) -> None:
        node = self.nodes[which]
        claims = list(node.in_hand.values())
        if not claims:
            return
        claim = claims[whose % len(claims)]
        each = {one.address: instead or results[place] for place, one in enumerate(claim.recipients)}
        self._end(node, claim, each, instead)

    def _end(self, node: ByHand, claim: Claim, each: Mapping[str, str], instead: str | None = None) -> None:
        if instead in {None, "unknown"} and self._fits(claim):
            self.sent.append((self.clocks.ticks(), len(claim.recipients)))
        for address, result in each.items():
            self.got[claim.id, address] += result in {"yes", "unknown"}
        node.settle(claim, *self._outcome(claim, each, instead))
        self.fates[claim.id, claim.kept.attempts] = {
            place: AFTER[each[one.address]] for place, one in zip(claim.kept.turn, claim.recipients, strict=True)
        }

    def _outcome(self, claim: Claim, each: Mapping[str, str], instead: str | None) -> tuple[Any, How]:
        if instead is None:
            return said(claim, {address: REPLIES[result] for address, result in each.items()}), "attempted"
        if instead in {"away", "unknown"}:
            return AWAY if instead == "away" else UNKNOWN, "attempted"
        return Evidence("data", "not_offered"), "failed_at" if instead == "failed_at" else "not_begun"

    @rule(which=st.integers(0, 2))
    def a_node_dies(self, which: int) -> None:
        """What it had in hand may have reached the relay at the last moment."""
        node = self.nodes[which]
        for claim in node.in_hand.values():
            if self._fits(claim):
                self.sent.append((self.clocks.ticks(), len(claim.recipients)))
            for one in claim.recipients:
                self.got[claim.id, one.address] += 1
        self.nodes[which] = self.do(self._node(node.office.name))

    @rule(seconds=st.sampled_from((0.2, 3, 20, 31, 61, 1000, 30_000)))
    def time_passes(self, seconds: float) -> None:
        self.clocks.pass_by(seconds)

    @rule(hours=st.sampled_from((-1, 1)))
    def the_wall_clock_is_turned(self, hours: int) -> None:
        self.clocks.turn(timedelta(hours=hours))

    @rule(whose=st.integers(0, 20), action=st.sampled_from(sorted(ACTIONS)))
    def somebody_steers(self, whose: int, action: Any) -> None:
        if self.addresses:
            self.do(self._steer(sorted(self.addresses)[whose % len(self.addresses)], action))

    async def _steer(self, name: str, action: Action) -> None:
        allowed, after = ACTIONS[action]
        was = self.seen[name]
        expected = [after if one.state in allowed else one.state for one in was.shown.recipients]
        try:
            await self.steering.steer(name, action)
        except NotNow:
            assert was.lease is not None or not {one.state for one in was.submission.recipients} & allowed
            expected = [one.state for one in was.shown.recipients]
        self.seen = await kept(self.site.store)
        assert [one.state for one in self.seen[name].shown.recipients] == expected

    @rule(which=st.integers(0, 2), until=st.sampled_from((0, 1000)), result=st.sampled_from(("yes", "no")))
    def a_node_hears_nothing_for_longer_than_its_lease(self, which: int, until: float, result: str) -> None:
        """And the others do its work meanwhile. What it finds out after that must not count."""
        node = self.nodes[which]
        others = [other for other in self.nodes if other is not node]
        for seconds in (31, 4):  # in the first round after so long the others are not taken for dead yet
            self.clocks.pass_by(seconds)
            self.do(self._round(others[0], 0))
        self.clocks.pass_by(until)
        self.do(self._round(others[1], 6))
        for claim in list(node.in_hand.values()):
            self._end(node, claim, dict.fromkeys((one.address for one in claim.recipients), result))
        self.do(self._round(node, 2))

    # --- A round, and whether it was right -------------------------------------------------------------------

    async def _round(self, node: ByHand, capacity: int, *, lost: bool | None = None) -> None:
        """``lost``: whether something happened in spite of a failure; None where there is none."""
        store = self.site.store
        before, present = self.seen, await self._present()
        found, in_hand, unsure = list(node.found), set(node.in_hand), node.unsure
        claims = ()
        try:
            claims = (await node.round(capacity)).claims
        except StoreUnavailable:
            assert lost is not None
            node.unsure = True
        else:
            assert lost is None
        after = self.seen = await kept(store)
        ((now,),) = await store.rows("SELECT now FROM outbox")
        if lost is False:
            assert after == before
            return
        assert after.keys() == before.keys()
        lost_claims = {name for name, was in before.items() if unsure and name not in in_hand}
        seen = Round(
            node.office.node,
            moment(now),
            {(one.claim.id, one.claim.kept.attempts): one.how for one in found},
            lost_claims,
            {name for name, until in present.items() if until < moment(now)},
        )
        for name, was in before.items():
            self._check(seen, was, after[name])
        got = {(claim.id, claim.kept.attempts, claim.kept.turn) for claim in claims}
        mine = {
            (name, one.attempts, one.turn)
            for name, one in after.items()
            if one.lease == node.office.node and one.attempts != before[name].attempts
        }
        assert got == mine or lost

    def _check(self, seen: Round, was: Kept, now_is: Kept) -> None:
        """Whether this may have become of a message in that round."""
        possible = self._possible(seen, was, now_is)
        if possible is None:
            assert now_is == was, "somebody else's, or still under way"
            return
        claimed = now_is.attempts == was.attempts + 1
        assert now_is.lease == (seen.node if claimed else None)
        assert claimed or now_is.attempts == was.attempts
        for place, one in enumerate(now_is.shown.recipients):
            may_be = possible[place]
            if claimed and place in now_is.turn:
                assert may_be & WAITING
                assert one.state == "sending"
            elif may_be & WAITING and seen.now >= was.submission.recipients[place].expires_at:
                assert one.state in may_be | {"expired"}
            else:
                assert one.state in may_be

    def _possible(self, seen: Round, was: Kept, now_is: Kept) -> list[frozenset[str]] | None:
        """What may have become of each recipient before anything was claimed; None when nothing may have happened."""
        name = was.submission.id
        possible: list[frozenset[str]] = [frozenset({one.state}) for one in was.shown.recipients]
        if was.lease is None:
            return possible
        turned = dict.fromkeys(was.turn, BACK)
        if was.lease == seen.node and (name, was.attempts) in seen.settled:
            turned = self.fates[name, was.attempts]
            self.attempts[name] += seen.settled[name, was.attempts] != "not_begun"
        elif was.lease != seen.node and (now_is.lease, now_is.attempts) != (was.lease, was.attempts):
            assert was.lease in seen.dead, "taken from a node that was alive"
            turned = dict.fromkeys(was.turn, PERHAPS)
            self.attempts[name] += 1
        elif was.lease != seen.node or name not in seen.lost:
            return None
        for place, states in turned.items():
            possible[place] = states
        return possible

    async def _present(self) -> dict[str, Any]:
        return {name: moment(until) for name, until in await self.site.store.rows("SELECT id, until FROM node")}

    def _fits(self, claim: Any) -> bool:
        """Whether this attempt still holds its lease."""
        one = self.seen[claim.id]
        return (one.lease, one.attempts) == (claim.kept.lease, claim.kept.attempts)

    # --- What always holds -----------------------------------------------------------------------------------

    @invariant()
    def nothing_is_lost_and_the_books_are_right(self) -> None:
        if self.nodes:
            self.do(self._ensure())

    async def _ensure(self) -> None:
        store = self.site.store
        found = await kept(store)
        assert {name: tuple(one.address for one in each.submission.recipients) for name, each in found.items()} == (
            self.addresses
        )
        await ensure_books_are_right(store)
        rows = await store.rows("SELECT message, COUNT(*) FROM attempt GROUP BY 1")
        written = {name: number for name, number in rows}  # noqa: C416 - rows are no pairs on PostgreSQL
        assert written == {name: number for name, number in self.attempts.items() if number}
        claims: Counter[str] = Counter()
        for (changes,) in await store.rows("SELECT changes FROM outbox_event"):
            claims.update(name for name, state in msgspec.json.decode(changes) if state == "sending")
        assert claims == {name: one.attempts for name, one in found.items() if one.attempts}
        for name, due_at, release_at, lease in await store.rows("SELECT id, due_at, release_at, lease FROM message"):
            waits = any(one.state in WAITING for one in found[name].submission.recipients)
            assert (due_at is not None) + (release_at is not None) + (lease is not None) == (1 if waits else 0)
        self._ensure_limits_hold()
        for (name, address), times in self.got.items():
            (one,) = [one for one in found[name].submission.recipients if one.address == address]
            pending = sum(name in node.in_hand or name in {f.claim.id for f in node.found} for node in self.nodes)
            assert times <= 1 + one.unknown + pending + (found[name].lease is not None), "a copy that nobody knows of"

    def _ensure_limits_hold(self) -> None:
        for first, _ in self.sent:
            within = [amount for at, amount in self.sent if first <= at < first + WINDOW]
            assert Load(len(within), sum(within)).messages <= MESSAGES
            assert sum(within) <= RECIPIENTS

    # --- The end ---------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.nodes:
                self.do(self._drain())
        finally:
            self.do(self.site.close())
            self.stack.close()

    async def _drain(self) -> None:
        """The nodes that were there vanish; another one brings everything to its end, whatever was done before."""
        self.clocks.turn(timedelta(hours=1000))
        node = self.nodes[0] = await self._node("last")
        self.nodes[1:] = []
        for _ in range(60):
            self.clocks.pass_by(400)
            for claim in list(node.in_hand.values()):
                self.fates[claim.id, claim.kept.attempts] = dict.fromkeys(claim.kept.turn, AFTER["yes"])
                node.settle(claim, said(claim))
            await self._round(node, 100)
            self.clocks.pass_by(5)
            await self._round(node, 0)
            found = await kept(self.site.store)
            if not any(one.state in {*WAITING, "sending"} for one in found.values()):
                return
        raise AssertionError(f"something never comes to its end: {found}")


def _run(settings: Settings, examples: int, steps: int, before_each: Any = lambda: None) -> None:
    class Here(OutboxMachine):
        site_settings = settings

        def __init__(self) -> None:
            before_each()
            super().__init__()

    run_state_machine_as_test(
        Here, settings=hypothesis_settings(max_examples=examples, stateful_step_count=steps, print_blob=True)
    )


def test_whatever_happens_on_sqlite_nothing_is_lost_or_sent_by_two_at_once(sqlite_settings, sqlite_template):
    def fresh() -> None:
        for file in sqlite_settings.sqlite_file.parent.glob("keyrelay.db*"):
            file.unlink()
        copy(sqlite_template, sqlite_settings.sqlite_file)

    _run(sqlite_settings, examples=40, steps=40, before_each=fresh)


@pytest.mark.parametrize("fresh_settings", ["postgresql"], indirect=True)
def test_whatever_happens_on_postgresql_nothing_is_lost_or_sent_by_two_at_once(fresh_settings):
    _run(fresh_settings, examples=8, steps=40)
