"""``/api/v1/outbox``: how the outbox stands, and its brake."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_documents import OPERATIONS, assert_documented

from keyrelay import __version__
from keyrelay.outbox.model import STATES
from live import ANONYMOUS
from submissions import hand_in, octets, refused, taken_in

OUTBOX = "/api/v1/outbox"


def overview(server):
    answer = server.get(OUTBOX)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_empty_outbox_has_nothing_to_tell(fresh_settings, start):
    server = start(replace(fresh_settings, worker=False))
    found = overview(server)
    assert found["counts"] == dict.fromkeys(STATES, 0)
    assert (found["octets"], found["oldest"], found["limits"]) == (0, None, [])
    assert found["most_octets"] == fresh_settings.outbox_megabytes * 1024 * 1024
    assert found["connections"] == {"used": 0, "most": None}
    assert found["pressure"] == {
        "mode": "open",
        "why": None,
        "since": None,
        "next_trial_at": None,
        "reply": None,
        "cause": None,
    }
    assert len(found["series"]) == 60


def test_what_waits_is_counted_and_the_oldest_named(fresh_settings, start):
    server = start(replace(fresh_settings, worker=False, relay_limits="office365"))
    server.put_v2(ANONYMOUS).raise_for_status()
    names = [taken_in(hand_in(server)) for _ in range(3)]
    found = overview(server)
    assert found["counts"]["queued"] == sum(found["counts"].values()) == 3
    assert found["octets"] == sum(len(octets(server, name)) for name in names)
    assert found["oldest"]["id"] == names[0]
    assert 0 <= found["oldest"]["seconds"] < 60
    assert found["rates"]["submitted"] == 0.6
    assert sum(minute["submitted"] for minute in found["series"]) == 3
    assert found["limits"] == [
        {"counted": "messages", "seconds": 60.0, "most": 30, "used": 0},
        {"counted": "recipients", "seconds": 86400.0, "most": 10_000, "used": 0},
    ]
    assert found["connections"] == {"used": 0, "most": 3}


def test_nodes_that_are_alive_are_shown(server, eventually):
    eventually(lambda: overview(server)["nodes"])
    (node,) = overview(server)["nodes"]
    assert (node["version"], node["works"], node["messages"]) == (__version__, True, 0)


def test_a_relay_that_is_away_slows_the_outbox_down_with_a_reason_for_people(server, relay, eventually):
    away = relay()
    port = away.port
    server.put_v2(ANONYMOUS | {"Host": "localhost", "Port": port}).raise_for_status()
    relay.stop(away)
    taken_in(hand_in(server))
    eventually(lambda: overview(server)["pressure"]["mode"] == "slowed")
    pressure = overview(server)["pressure"]
    assert pressure["why"] == "unreachable"
    assert pressure["reply"]["stage"] == "connect"
    assert "localhost" in pressure["cause"]["sentence"]
    assert pressure["cause"]["remedy"]
    assert pressure["since"] < pressure["next_trial_at"]
    (listed,) = [each for each in OPERATIONS if each.operation["operationId"] == "getOutbox"]
    assert_documented(listed, server.get(OUTBOX))


def test_nothing_goes_out_between_pause_and_resume(fresh_settings, start, relay, eventually):
    server = start(fresh_settings)
    taking = relay()
    server.put_v2(ANONYMOUS | {"Host": "localhost", "Port": taking.port}).raise_for_status()
    paused = server.post(f"{OUTBOX}/pause").raise_for_status().json()
    assert (paused["pressure"]["mode"], paused["pressure"]["why"]) == ("paused", "operator")
    assert server.post(f"{OUTBOX}/pause").raise_for_status().json()["pressure"]["why"] == "operator"
    taken_in(hand_in(server))
    assert overview(server)["counts"]["queued"] == 1
    assert taking.messages == []
    assert server.post(f"{OUTBOX}/resume").raise_for_status().json()["pressure"]["mode"] == "open"
    eventually(lambda: overview(server)["counts"]["accepted"] == 1)


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_the_brake_reads_no_body_but_an_empty_one(module_server, action):
    refused(module_server.post(f"{OUTBOX}/{action}", json={"minutes": 5}), 400, "bad_input", "minutes")
    assert module_server.post(f"{OUTBOX}/{action}", json={}).status_code == 200
