"""``keyrelay worker`` and ``keyrelay serve --no-worker``: who takes messages in, and who sends them."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest
from posting import NOBODY_SENDS, Post

from keyrelay.chaos.script import Script
from otlp_double import Collector
from relaying import running


def test_a_server_without_worker_keeps_messages_until_a_worker_comes(anywhere):
    post = anywhere
    with running() as relay, post.running("serve", "--no-worker") as server:
        while "Stop with" not in server.line():
            assert server.process.poll() is None
        post.profile(relay.port)
        post.until(lambda post: post.nodes() == [False])
        done = post.run("send", "-s", "x", "a@example.org", given="y")
        assert (done.returncode, done.stderr.decode()) == (0, NOBODY_SENDS)
        time.sleep(1.5)
        assert (post.counts(), relay.connections) == ({"queued": 1}, 0)
        with post.worker() as worker:
            post.until(lambda post: post.counts() == {"accepted": 1})
            assert post.nodes() == [False, True]
            assert worker.stop() == 0
        assert server.stop() == -signal.SIGTERM  # uvicorn ends by the signal itself, when all is done
    assert len(relay.messages) == 1


def test_a_server_sends_by_itself(post):
    with running() as relay, post.running("serve") as server:
        while "Stop with" not in server.line():
            assert server.process.poll() is None
        post.profile(relay.port)
        done = post.run("send", "-s", "x", "--wait", "30", "a@example.org", given="y")
        assert done.returncode == 0
        assert server.stop() == -signal.SIGTERM  # uvicorn ends by the signal itself, when all is done
    assert len(relay.messages) == 1


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl+C"])
def test_told_to_stop_it_ends_what_is_under_way_and_begins_nothing_more(post, sign):
    with running(Script(delay=0.4)) as relay:
        post.profile(relay.port)
        names = post.fill(5)
        with post.worker(RELAY_SESSIONS="1") as worker:
            deadline = time.monotonic() + 30
            while not any(line.startswith("MAIL") for _, line in list(relay.commands)):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert worker.stop(sign) == 0
            assert worker.said() == ""
    counts = post.counts()
    assert counts.keys() == {"accepted", "queued"}, "nothing is in doubt, and nothing is held by nobody"
    assert counts["accepted"] == len(relay.messages) >= 1
    assert sum(counts.values()) == len(names)
    assert post.nodes() == []


def test_two_workers_share_what_waits_and_send_nothing_twice(anywhere):
    post = anywhere
    names = post.fill(120)
    few = {"RELAY_SESSIONS": "2"}
    post.ok("outbox", "pause")
    with running(Script(delay=0.02)) as relay, post.worker(relay, **few), post.worker(**few):
        post.until(lambda post: post.nodes() == [True, True])
        post.ok("outbox", "resume")
        post.until(lambda post: post.counts() == {"accepted": 120}, seconds=60)
        sent = Counter(message.recipients for message in relay.messages)
    assert set(sent.values()) == {1}
    assert len(sent) == len(names)
    assert len(post.rows("SELECT DISTINCT node FROM attempt")) == 2


def test_a_worker_that_is_killed_leaves_its_message_to_the_others(post):
    post.fill(1)
    with running(Script(stall="body")) as relay, post.worker(relay, LEASE_SECONDS="5") as first:
        deadline = time.monotonic() + 30
        while not any(line.startswith("DATA") for _, line in list(relay.commands)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        first.process.kill()
        first.process.wait(10)
    with running() as relay, post.worker(relay, LEASE_SECONDS="5", RETRY_WAITS="1"):
        post.until(lambda post: post.counts() == {"accepted": 1}, seconds=60)
    assert len(relay.messages) == 1


def test_a_store_that_is_away_is_a_reason_not_to_start(tmp_path):
    url = "postgresql://keyrelay:hunter2@127.0.0.1:9/keyrelay"
    done = Post({"KEYRELAY_DATA_DIR": str(tmp_path), "KEYRELAY_DATABASE_URL": url}).run("worker")
    assert (done.returncode, done.stdout) == (1, b"")
    line = done.stderr.decode()
    assert line.endswith(" [database_unreachable]\n")
    assert line.count("\n") == 1
    assert "hunter2" not in line


def test_a_store_whose_key_is_away_is_a_reason_not_to_start(post):
    Path(post.environment["KEYRELAY_DATA_DIR"], "master.key").unlink()
    done = post.run("worker")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().endswith(" [master_key_missing]\n")


def test_a_store_that_another_keeps_locked_is_waited_for(post):
    """A backup or a repair by hand: the worker is there when it is over."""
    (name,) = post.fill(1)
    holder = sqlite3.connect(Path(post.environment["KEYRELAY_DATA_DIR"], "keyrelay.db"), isolation_level=None)
    try:
        with running() as relay:
            post.profile(relay.port)
            holder.execute("BEGIN IMMEDIATE")
            with post.worker():
                time.sleep(1.0)
                assert relay.connections == 0
                holder.execute("ROLLBACK")
                post.until(lambda post: post.states(name) == {"ops0@example.org": "accepted"})
    finally:
        holder.close()


def test_without_a_profile_it_waits_for_one(keyrelay):
    post = Post(keyrelay.environment)
    with post.worker() as worker:
        assert post.run("send", "a@example.org", given="x").returncode == 78
        with running() as relay:
            post.profile(relay.port)
            done = post.run("send", "--wait", "30", "a@example.org", given="x")
        assert (done.returncode, len(relay.messages)) == (0, 1)
        assert worker.stop() == 0


def test_a_worker_sends_traces_too(post):
    with running() as relay, Collector() as collector, post.worker(relay, OTLP_ENDPOINT=collector.url) as worker:
        post.fill(1)
        post.until(lambda post: post.counts() == {"accepted": 1})
        assert worker.stop() == 0
        assert collector.wait_for("outbox attempt", within=1).attributes["keyrelay.outcome"] == "accepted"
