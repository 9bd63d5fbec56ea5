"""/metrics: figures that Prometheus can read, the same for all nodes where they are everybody's, and nothing else."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as open_parser
from prometheus_client.parser import text_string_to_metric_families

from keyrelay import __version__
from keyrelay.api.exposition import Family, written
from keyrelay.errors import StoreUnavailable
from keyrelay.outbox.figures import OUTCOMES, Histogram, Work, totals
from keyrelay.outbox.housekeeping import Housekeeping, Keeping
from keyrelay.outbox.queue import Order
from keyrelay.outbox.settling import Found
from keyrelay.relay.model import Evidence
from keyrelay.relay.session import Delivery
from live import BASIC
from outboxes import LATER, NO, UNKNOWN, YES, ByHand, letter, queue, said, site, submit
from relaying import run, running

METRICS = "/metrics"
OPEN = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5"}
PARSERS = {"plain": text_string_to_metric_families, "open": open_parser.text_string_to_metric_families}
PASSWORD = "long enough 1"


def figures(server, headers=None):
    """Every sample, by its name and labels."""
    answer = server.get(METRICS, headers=headers or {})
    assert answer.status_code == 200
    parse = PARSERS["open" if headers else "plain"]
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse(answer.text)
        for sample in family.samples
    }


def aim(server, port):
    """A profile for this relay."""
    profile = {"Host": "127.0.0.1", "Port": port, "SenderAccount": "pki@example.org", "SenderName": "PKI"}
    assert server.put_v2(profile).status_code == 200


def hand_in(server, *letters):
    async def work(node):
        await node.outbox.office.open()
        for each in letters:
            await node.outbox.queue.submit(each, Order("me"))

    server.run(work)


def state(name):
    return ("keyrelay_outbox_messages", ("state", name))


# --- Who may see it ------------------------------------------------------------------------------------------


def test_it_needs_a_permission_of_its_own(sqlite_server):
    server = sqlite_server
    server.add_user("prometheus", PASSWORD, "/metrics/read/")
    server.add_user("other", PASSWORD, "/system_settings/", "/messages/")
    url = server.url + METRICS
    assert httpx2.get(url).status_code == 401
    refused = httpx2.get(url, auth=("other", PASSWORD))
    assert refused.status_code == 403
    assert "/metrics/read/" in refused.text
    assert httpx2.get(url, auth=("prometheus", PASSWORD)).status_code == 200
    assert httpx2.get(server.url + "/KeyfactorAPI/SMTP", auth=("prometheus", PASSWORD)).status_code == 403


def test_everybody_sees_it_where_the_operator_wants_that(sqlite_settings, start):
    server = start(replace(sqlite_settings, open_metrics=True))
    answer = httpx2.get(server.url + METRICS)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert httpx2.get(server.url + METRICS, auth=("nobody", "of this name")).status_code == 200
    assert httpx2.post(server.url + METRICS).status_code == 405
    assert httpx2.get(server.url + "/KeyfactorAPI/SMTP").status_code == 401


def test_it_holds_no_address_and_nothing_secret(server):
    server.put_v2(BASIC | {"Host": "canary-host.test", "RelayPassword": {"SecretValue": "canary-password"}})
    hand_in(server, letter("canary-to@example.org", body=b"canary-body\r\n"))
    for headers in ({}, OPEN):
        text = server.get(METRICS, headers=headers).text
        assert "keyrelay_outbox_submitted_total 1" in text
        assert "canary" not in text
        assert "@" not in text
        assert str(server.settings.data_dir) not in text


# --- How it is written ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_prometheus_can_read_both_formats_and_finds_the_same_in_them(sqlite_settings, start, workers):
    server = start(replace(sqlite_settings, workers=workers, relay_limits="office365"))
    figures(server)  # that somebody has asked is a figure, too
    plain, opened = figures(server), figures(server, OPEN)
    moving = {"process_cpu_seconds_total", "process_resident_memory_bytes", "keyrelay_round_seconds_sum"}
    moving |= {"keyrelay_round_seconds_count", "keyrelay_round_seconds_bucket", "keyrelay_sign_ins_total"}
    moving |= {f"keyrelay_http_request_seconds_{part}" for part in ("bucket", "count", "sum")}
    moving |= {"keyrelay_http_requests_total"}
    assert set(plain) == set(opened)
    assert {key for key in plain if plain[key] != opened[key]} <= {key for key in plain if key[0] in moving}
    own = {key for key in plain if any(label == "process" for label, _ in key[1:])}
    assert bool(own) == (workers > 1)
    assert not any(key[0].startswith(("keyrelay_outbox", "keyrelay_limit", "keyrelay_nodes")) for key in own)


def test_the_format_is_the_one_that_is_asked_for_and_no_question_is_too_odd(sqlite_server):
    plain, opened = "text/plain; version=0.0.4; charset=utf-8", "application/openmetrics-text; version=1.0.0"
    for accept, expected in {
        "": plain,
        "*/*": plain,
        "text/html, */*;q=0.1": plain,
        "application/openmetrics-text": opened,
        "APPLICATION/OpenMetrics-Text; version=x.y\\; q=;": opened,
        "text/plain;version=0.0.4;q=1,application/openmetrics-text;q=0.5": opened,
        ",;,=;": plain,
    }.items():
        answer = sqlite_server.get(METRICS, headers={"Accept": accept})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(expected)
        assert answer.text.endswith("# EOF\n") == (expected == opened)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\\"\n')), st.floats())
def test_any_label_comes_back_as_it_was(text, value):
    for name, parse in PARSERS.items():
        family = Family("keyrelay_odd", "gauge", 'What "it"\\ means\nhere.').add(value, one=text, other="2")
        found = list(parse(written([family], open_metrics=name == "open").decode()))
        assert [(one.name, one.type, one.documentation) for one in found] == [
            ("keyrelay_odd", "gauge", 'What "it"\\ means\nhere.')
        ]
        ((sample,),) = (one.samples for one in found)
        assert sample.labels == {"one": text, "other": "2"}
        assert sample.value == value or value != value  # noqa: PLR0124 - not a number


def test_a_histogram_tells_how_many_were_up_to_each_bound():
    histogram = Histogram((1, 2.5, 10))
    for value in (0.5, 1, 2, 3, 3, 11):
        histogram.observe(value)
    for name, parse in PARSERS.items():
        family = Family("keyrelay_some_seconds", "histogram", "Some.").add_histogram(histogram, node="a")
        (found,) = parse(written([family], open_metrics=name == "open").decode())
        assert found.type == "histogram"
        assert {(one.name.rpartition("_")[2], one.labels.get("le")): one.value for one in found.samples} == {
            ("bucket", "1.0"): 2,
            ("bucket", "2.5"): 3,
            ("bucket", "10.0"): 5,
            ("bucket", "+Inf"): 6,
            ("count", None): 6,
            ("sum", None): 20.5,
        }


# --- What it tells -------------------------------------------------------------------------------------------


def test_an_empty_outbox_tells_of_every_figure_that_there_will_be(server):
    told = figures(server)
    assert told[("keyrelay_build_info", ("version", __version__))] == 1
    assert told[("keyrelay_database_up",)] == 1
    assert told[("keyrelay_outbox_submitted_total",)] == told[("keyrelay_outbox_accepted_total",)] == 0
    assert told[("keyrelay_outbox_oldest_waiting_seconds",)] == 0
    assert told[("keyrelay_outbox_content_limit_bytes",)] == 4096 * 1024 * 1024
    assert told[("keyrelay_outbox_paused", ("why", "sign_in"))] == 0
    assert told[("keyrelay_attempts_total", ("outcome", "outcome_unknown"))] == 0
    assert told[("process_start_time_seconds",)] <= datetime.now(UTC).timestamp()
    assert told[("process_resident_memory_bytes",)] > 10_000_000


def test_what_was_taken_in_and_sent_is_counted_and_by_this_process_too(fresh_settings, start, monkeypatch):
    monkeypatch.setattr("keyrelay.api.metrics._BELIEVED_SECONDS", 0.0)
    server = start(replace(fresh_settings, relay_messages_per_minute=50, relay_connections=4))
    with running() as relay:
        aim(server, relay.port)
        hand_in(server, letter("a@example.org", "b@example.org"), letter("c@example.org"))
        for _ in range(500):
            if (now := figures(server, OPEN))[state("accepted")] == 2:
                break
            time.sleep(0.02)
        assert now[("keyrelay_outbox_submitted_total",)] == now[("keyrelay_outbox_accepted_total",)] == 2
        assert now[state("queued")] == now[state("sending")] == 0
        assert now[("keyrelay_outbox_content_bytes",)] > 50
        assert now[("keyrelay_attempts_total", ("outcome", "accepted"))] == 2
        assert now[("keyrelay_recipients_accepted_total",)] == 3
        assert now[("keyrelay_attempt_seconds_count",)] == 2
        assert now[("keyrelay_attempt_seconds_sum",)] > 0
        assert now[("keyrelay_submission_group_messages_sum",)] == 2
        assert now[("keyrelay_submission_commit_seconds_count",)] > 0
        assert now[("keyrelay_round_seconds_count",)] > 0
        minute = (("counted", "messages"), ("window_seconds", "60"))
        assert now[("keyrelay_limit_used", *minute)] == 2
        assert now[("keyrelay_limit_most", *minute)] == 50
        assert now[("keyrelay_relay_connections_limit",)] == 4
        assert now[("keyrelay_nodes", ("works", "yes"))] == 1
        assert 1 <= now[("keyrelay_relay_connections_open",)] <= 2


def test_every_node_tells_the_same_of_the_outbox(fresh_settings, start):
    here, there = start(replace(fresh_settings, worker=False)), start(replace(fresh_settings, worker=False))
    hand_in(here, letter(), letter())
    for server in (here, there):
        told = figures(server)
        assert told[state("queued")] == told[("keyrelay_outbox_submitted_total",)] == 2
    assert figures(here)[("keyrelay_submission_group_messages_sum",)] == 2
    assert figures(there)[("keyrelay_submission_group_messages_sum",)] == 0


def test_a_pause_is_told_with_its_reason(sqlite_server):
    async def pause(node):
        await node.outbox.office.open()
        async with node.store.change() as change:
            await change.run("""UPDATE outbox SET pressure = '{"mode": "paused", "why": "operator"}'""")

    sqlite_server.run(pause)
    told = figures(sqlite_server)
    paused = {key[1][1]: value for key, value in told.items() if key[0] == "keyrelay_outbox_paused"}
    assert {why for why, value in paused.items() if value} == {"operator"}
    assert not any(value for key, value in told.items() if key[0] == "keyrelay_outbox_slowed")


def test_without_the_database_it_tells_that_and_what_the_process_knows(sqlite_server, monkeypatch):
    async def gone(*_):
        raise StoreUnavailable("gone")

    monkeypatch.setattr("keyrelay.outbox.figures.totals", gone)
    told = figures(sqlite_server)
    assert told[("keyrelay_database_up",)] == 0
    assert ("keyrelay_attempts_total", ("outcome", "accepted")) in told
    assert not any(key[0].startswith("keyrelay_outbox") for key in told)


def test_the_store_is_asked_once_in_a_moment_however_many_ask_us(sqlite_server, monkeypatch):
    asked = []

    async def counting(reader):
        asked.append(reader)
        return await totals(reader)

    monkeypatch.setattr("keyrelay.api.metrics._BELIEVED_SECONDS", 1000.0)
    monkeypatch.setattr("keyrelay.outbox.figures.totals", counting)
    for _ in range(5):
        figures(sqlite_server)
    assert len(asked) == 1


def test_totals_never_get_less_while_messages_are_forgotten(fresh_settings):
    async def main():
        async with site(fresh_settings) as here:
            node = ByHand(await here.office())
            store, desk = node.office.store, queue(node.office)
            await submit(desk, *(letter() for _ in range(9)))
            claims = (await node.round()).claims
            for number, claim in enumerate(claims):
                node.settle(claim, said(claim, {"ops@example.org": (YES, NO, LATER)[number % 3]}))
            await node.round(0)
            before = await totals(store)
            assert (before.submitted, before.accepted) == (9, 3)
            house = Housekeeping(node.office, Keeping(*[timedelta(0)] * 4), pause=0)
            assert (await house.look())["messages"] + 3 == 9
            assert await totals(store) == before
            await submit(desk, letter())
            assert (await totals(store)).submitted == 10

    run(main())


BUSY, NEVER = Evidence("data", "reply", LATER), Evidence("sender", "reply", NO)


@pytest.mark.parametrize(
    ("result", "how", "outcome"),
    [
        (Delivery(YES, (("a@x", YES), ("b@x", NO)), YES), "attempted", "accepted"),
        (Delivery(YES, (("a@x", NO),), None), "attempted", "refused"),
        (Delivery(YES, (("a@x", YES),), LATER), "attempted", "deferred"),
        (UNKNOWN, "attempted", "outcome_unknown"),
        (BUSY, "attempted", "deferred"),
        (NEVER, "attempted", "refused"),
        (Evidence("connect", "refused"), "attempted", "given_back"),
        (UNKNOWN, "failed_at", "failed"),
        (UNKNOWN, "not_begun", "not_begun"),
    ],
)
def test_an_attempt_counts_by_what_came_of_it(result, how, outcome):
    async def main():
        work = Work()
        now = datetime.now(UTC)

        async def attempt():
            return Found(None, result, 1, now, now, how)

        await work.attempt(attempt())
        assert {name: number for name, number in work.attempts.items() if number} == {outcome: 1}
        assert outcome in OUTCOMES
        assert work.attempt_seconds.counts[-1] == 1
        assert work.recipients_accepted == (1 if outcome == "accepted" else 0)

    run(main())
