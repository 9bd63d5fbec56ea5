"""Who listens hears every change on every node, each once and in the order in which it came about."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from keyrelay.errors import KeyrelayError, StoreUnavailable, TooManyListeners
from keyrelay.outbox import events
from keyrelay.outbox.books import Books, Turn
from keyrelay.outbox.events import Change, Feed, Lost
from keyrelay.outbox.steering import Steering
from outboxes import ByHand, letter, queue, said, site, submit
from relaying import run, until

SOON = 5.0


@pytest.fixture(autouse=True)
def _at_a_quick_pace(monkeypatch):
    monkeypatch.setattr(events, "_EVERY_SECONDS", 0.02)


async def heard(listener, number, seconds=SOON):
    """So many things, or what there was when time was up."""
    found = []
    deadline = time.monotonic() + seconds
    while len(found) < number and time.monotonic() < deadline:
        found += await listener.next(0.05)
    return found


async def nothing_more(listener):
    assert await heard(listener, 1, 0.15) == []


def told(changes):
    return [(change.id, change.state) for change in changes]


def test_a_message_is_heard_of_from_its_beginning_to_its_end(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            office = await place.office()
            node, desk, feed = ByHand(office), queue(office), Feed(place.store)
            await submit(desk)  # before anybody listens
            async with feed.listen() as listener:
                (name,) = await submit(desk)
                claims = (await node.round()).claims
                node.settle(claims[1], said(claims[1]))
                await node.round(0)
                found = await heard(listener, 4)
                assert [state for each, state in told(found) if each == name] == ["queued", "sending", "accepted"]
                assert len(found) == 4
                assert found == sorted(found, key=lambda change: change.at)
                await nothing_more(listener)
            await feed.close()

    run(main())


def test_nothing_is_lost_or_doubled_while_many_nodes_write_and_listeners_come_and_go(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            feed = Feed(place.store)
            ids: list[str] = []

            async def work(name: str) -> None:
                office = await place.office(name)
                desk, node = queue(office), ByHand(office)
                for _ in range(5):
                    ids.extend(await submit(desk, *(letter() for _ in range(6))))
                    for claim in (await node.round(6)).claims:
                        node.settle(claim, said(claim))
                    await node.round(0)
                while claims := (await node.round(50)).claims:
                    for claim in claims:
                        node.settle(claim, said(claim))
                    await node.round(0)

            async def come_and_go() -> None:
                for _ in range(20):
                    async with feed.listen() as other:
                        await other.next(0.01)

            async with feed.listen() as first, feed.listen() as second:
                await asyncio.gather(*(work(name) for name in "abc"), come_and_go())
                found = await heard(first, 3 * 90)
                assert told(await heard(second, 3 * 90)) == told(found)
                await nothing_more(first)
            counted = Counter(told(found))
            assert set(counted.values()) == {1}
            assert {name for name, _ in counted} == set(ids)
            for name in ids:
                assert [state for each, state in told(found) if each == name] == ["queued", "sending", "accepted"]
            await feed.close()

    run(main())


def test_what_was_committed_here_is_heard_at_once(fresh_settings, monkeypatch):
    monkeypatch.setattr(events, "_EVERY_SECONDS", 60.0)

    async def main():
        async with site(fresh_settings) as place:
            office, feed = await place.office(), Feed(place.store)
            steering = Steering(office, feed.poke)
            (name,) = await submit(queue(office))
            async with feed.listen() as listener:
                await steering.steer(name, "cancel")
                assert told(await heard(listener, 1)) == [(name, "cancelled")]
            await feed.close()

    run(main())


def test_a_node_that_writes_its_first_entry_is_heard_from_it_on(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            feed = Feed(place.store)
            async with feed.listen() as listener:
                for name in ("new", "newer"):
                    (made,) = await submit(queue(await place.office(name)))
                    assert told(await heard(listener, 1)) == [(made, "queued")]
            await feed.close()

    run(main())


def test_an_entry_that_was_never_committed_holds_up_nothing(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            feed, books = Feed(place.store), Books("a", "out")
            at = (await place.office()).watch.clock.wall

            def work(name, *, fails):
                yield from books.entries([Turn(name, None, "queued")], at)
                if fails:
                    raise KeyError

            async with feed.listen() as listener:
                for number, fails in enumerate((False, True, False)):
                    try:
                        await place.store.perform(work(str(number), fails=fails))
                    except KeyError:
                        assert fails
                assert told(await heard(listener, 2)) == [("0", "queued"), ("2", "queued")]
            await feed.close()

    run(main())


# --- Who is too slow, and who comes back -----------------------------------------------------------------------


def test_who_does_not_listen_for_long_has_lost_the_thread_and_is_told_so(sqlite_settings, monkeypatch):
    monkeypatch.setattr(events, "_MOST_WAITING", 10)

    async def main():
        async with site(sqlite_settings) as place:
            feed, desk = Feed(place.store), queue(await place.office())
            async with feed.listen() as slow, feed.listen() as quick:
                for _ in range(4):
                    await submit(desk, *(letter() for _ in range(4)))
                    assert len(await heard(quick, 4)) == 4
                found = await slow.next(SOON)
                assert isinstance(found[0], Lost)
                assert len(found) <= 10
                (name,) = await submit(desk)
                assert told(await heard(slow, 1)) == [(name, "queued")]
            await feed.close()

    run(main())


def test_who_comes_back_hears_the_rest_and_nothing_twice(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            feed, desk = Feed(place.store), queue(await place.office())
            async with feed.listen() as listener:
                ids = [(await submit(desk))[0] for _ in range(4)]
                found = await heard(listener, 4)
            last = await submit(desk)
            async with feed.listen(found[1].mark) as again:
                assert told(await heard(again, 3)) == [(name, "queued") for name in ids[2:] + last]
                await nothing_more(again)
            async with feed.listen(found[3].mark) as again:
                assert told(await heard(again, 1)) == [(last[0], "queued")]
            await feed.close()

    run(main())


@pytest.mark.parametrize(
    "mark", ["", "x", "-", "1-1", "\0", "0" * 500, "{name}-999", "{name}--1", "{name}-1e3", "{name}-²"]
)
def test_who_comes_with_a_mark_that_is_not_known_is_told_to_begin_anew(sqlite_settings, mark):
    async def main():
        async with site(sqlite_settings) as place:
            feed, desk = Feed(place.store), queue(await place.office())
            async with feed.listen() as listener:
                await submit(desk)
                (change,) = await heard(listener, 1)
                async with feed.listen(mark.replace("{name}", change.mark.partition("-")[0])) as other:
                    assert await other.next(SOON) == (Lost(),)
            await feed.close()

    run(main())


def test_what_was_told_too_long_ago_is_not_remembered(sqlite_settings, monkeypatch):
    monkeypatch.setattr(events, "_REMEMBERED", 3)

    async def main():
        async with site(sqlite_settings) as place:
            feed, desk = Feed(place.store), queue(await place.office())
            async with feed.listen() as listener:
                await submit(desk, *(letter() for _ in range(6)))
                found = await heard(listener, 6)
                async with feed.listen(found[2].mark) as just, feed.listen(found[1].mark) as late:
                    assert [change.mark for change in await just.next(SOON)] == [one.mark for one in found[3:]]
                    assert await late.next(SOON) == (Lost(),)
            await feed.close()

    run(main())


def test_after_a_long_time_without_the_store_listeners_begin_anew(sqlite_settings, monkeypatch):
    monkeypatch.setattr(events, "_FAR_BEHIND", 5)

    async def main():
        async with site(sqlite_settings) as place:
            feed, desk = Feed(place.store), queue(await place.office())
            rows, away = place.store.rows, True

            async def unsteady(sql, *values):
                if away:
                    raise StoreUnavailable("away")
                return await rows(sql, *values)

            async with feed.listen() as listener:
                place.store.rows = unsteady
                for _ in range(7):
                    await submit(desk)
                await nothing_more(listener)
                away = False
                assert await heard(listener, 1) == [Lost()]
                await submit(desk)
                assert isinstance((await heard(listener, 1))[0], Change)
            await feed.close()

    run(main())


# --- Bounds ----------------------------------------------------------------------------------------------------


def test_no_more_may_listen_than_there_is_room_for_and_who_leaves_makes_room(sqlite_settings, monkeypatch):
    monkeypatch.setattr(events, "_MOST_LISTENERS", 2)

    async def main():
        async with site(sqlite_settings) as place:
            feed = Feed(place.store)
            async with feed.listen():
                async with feed.listen():
                    with pytest.raises(TooManyListeners):
                        async with feed.listen():
                            pass
                async with feed.listen():
                    pass
            await feed.close()

    run(main())


def test_the_store_is_left_alone_when_nobody_listens_any_more(sqlite_settings, monkeypatch):
    monkeypatch.setattr(events, "_LINGERS_SECONDS", 0.1)

    async def main():
        async with site(sqlite_settings) as place:
            feed, desk = Feed(place.store), queue(await place.office())
            async with feed.listen() as listener:
                await submit(desk)
                (change,) = await heard(listener, 1)
            await until(lambda: feed._task is None)
            await submit(desk)  # nobody hears that
            async with feed.listen(change.mark) as again:
                assert await again.next(SOON) == (Lost(),)
                (name,) = await submit(desk)
                assert told(await heard(again, 1)) == [(name, "queued")]
            await feed.close()

    run(main())


def test_nobody_can_listen_while_the_store_is_away_and_leaves_nothing_behind(sqlite_settings, monkeypatch):
    monkeypatch.setattr(events, "_MOST_LISTENERS", 1)

    async def main():
        async with site(sqlite_settings) as place:
            feed = Feed(place.store)
            rows = place.store.rows

            async def away(*_):
                raise StoreUnavailable("away")

            place.store.rows = away
            for _ in range(2):
                with pytest.raises(KeyrelayError, match="away"):
                    async with feed.listen():
                        pass
            place.store.rows = rows
            async with feed.listen():
                pass
            await feed.close()

    run(main())
