"""Many callers at once: each change happens once, one after the other, and nobody's is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import httpx2
import pytest

from live import ANONYMOUS, BASIC, SMTP, V2, LiveServer

_CLIENTS = 10
_PROFILE = "/api/v1/profile"

Item = TypeVar("Item")
Result = TypeVar("Result")


def at_once(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    with ThreadPoolExecutor(len(items)) as threads:
        return list(threads.map(work, items))


def history(server: LiveServer) -> list:
    return server.run(lambda node: node.keeper.history(limit=1000))


def test_of_many_puts_with_the_same_if_match_exactly_one_is_carried_out(server):
    tag = server.put_v2(BASIC).headers["etag"]
    for turn in range(4):
        names = [f"PKI {turn} {number}" for number in range(_CLIENTS)]
        answers = at_once(partial(put_if, [server], tag), names)
        assert sorted(answer.status_code for answer in answers) == [200] + [412] * (_CLIENTS - 1)
        (winner,) = (answer for answer in answers if answer.status_code == 200)
        assert winner.json()["SenderName"] == names[answers.index(winner)]
        assert server.get_v2() == winner.json()
        tag = winner.headers["etag"]
    assert [entry.revision for entry in history(server)] == [5, 4, 3, 2, 1]


def test_puts_on_two_nodes_with_the_same_if_match_are_carried_out_once(fresh_settings, start):
    nodes = [start(fresh_settings), start(fresh_settings)]
    tag = nodes[0].put_v2(BASIC).headers["etag"]
    for turn in range(4):
        answers = at_once(partial(put_if, nodes, tag), [f"PKI {turn} {number}" for number in range(6)])
        assert sorted(answer.status_code for answer in answers) == [200] + [412] * 5
        (tag,) = (answer.headers["etag"] for answer in answers if answer.status_code == 200)
    assert [entry.revision for entry in history(nodes[0])] == [5, 4, 3, 2, 1]


def test_puts_at_once_get_revisions_of_their_own_without_a_gap(fresh_settings, start):
    nodes = [start(fresh_settings), start(fresh_settings)]
    names = [f"PKI {number}" for number in range(60)]
    answers = at_once(lambda name: nodes[len(name) % 2].put_v2(BASIC | {"SenderName": name}), names[:30])
    answers += at_once(lambda name: nodes[int(name[4:]) % 2].put_v2(BASIC | {"SenderName": name}), names[30:])
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.json()["SenderName"] for answer in answers] == names
    told = {int(answer.headers["etag"].strip('"').partition("-")[0]): answer.json()["SenderName"] for answer in answers}
    assert sorted(told) == list(range(1, 61))
    assert {entry.revision: sender_name(entry) for entry in history(nodes[1])} == told


def test_patches_of_different_fields_at_once_all_arrive(server):
    server.put_v2(ANONYMOUS)
    patches = [
        {"host": "other.example.org"},
        {"port": 2525},
        {"use_ssl": True},
        {"sender_account": "other@example.org"},
        {"sender_name": "Other"},
    ]
    answers = at_once(lambda patch: server.patch(_PROFILE, json=patch), patches)
    assert [answer.status_code for answer in answers] == [200] * len(patches)
    shown = server.get(_PROFILE).json()
    assert {field: shown[field] for patch in patches for field in patch} == {
        field: value for patch in patches for field, value in patch.items()
    }
    assert history(server)[0].revision == 1 + len(patches)


def test_a_patch_that_names_no_etag_is_never_refused_because_others_were_faster(server):
    server.put_v2(ANONYMOUS)
    ports = list(range(2000, 2016))
    answers = at_once(lambda port: server.patch(_PROFILE, json={"port": port}), ports)
    assert [answer.status_code for answer in answers] == [200] * len(ports)
    assert [answer.json()["port"] for answer in answers] == ports


@pytest.mark.parametrize("condition", [{"if-match": '"1-0"'}, {"if-none-match": "*"}])
def test_a_condition_that_does_not_hold_changes_nothing(server, condition):
    before = server.put_v2(BASIC)
    refused = server.put(SMTP, json=ANONYMOUS, headers=V2 | condition)
    assert refused.status_code == 412
    assert set(refused.json()) == {"ErrorCode", "Message"}
    assert server.get_v2() == before.json()
    assert len(history(server)) == 1


def put_if(nodes: Sequence[LiveServer], tag: str, name: str) -> httpx2.Response:
    """PUT with If-Match, on the node that the name's last digit chooses."""
    return nodes[int(name[-1]) % len(nodes)].put(
        SMTP, json=BASIC | {"SenderName": name}, headers=V2 | {"if-match": tag}
    )


def sender_name(entry) -> str:
    (name,) = (change.after for change in entry.changes if change.field == "sender_name")
    return name
