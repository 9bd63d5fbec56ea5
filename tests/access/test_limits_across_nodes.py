"""What callers may do, hammered at once on two server processes that share a database and nothing else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx2
import pytest

from keyrelay.access.throttle import PER_USER, PER_USER_AND_ADDRESS
from live import ADMIN_PASSWORD, ANONYMOUS, SMTP, V2, Command
from submissions import JSON, MESSAGES

ADMIN = ("admin", ADMIN_PASSWORD)
DIAGNOSES = "/api/v1/diagnoses"
NOBODY = {"profile": {"host": "localhost", "port": 9, "sender_account": "pki@example.org", "sender_name": "PKI"}}

Ask = Callable[[Command, int], httpx2.Response]


@pytest.fixture
def environment(fresh_settings) -> dict[str, str]:
    chosen = {
        "KEYRELAY_DATA_DIR": str(fresh_settings.data_dir),
        "KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "KEYRELAY_NAME_SERVERS": "none",
        "KEYRELAY_WORKER": "no",
        "KEYRELAY_TESTS_AT_ONCE": "100",
    }
    if fresh_settings.database_url:
        chosen["KEYRELAY_DATABASE_URL"] = fresh_settings.database_url
    return chosen


@pytest.fixture
def serve(environment) -> Iterator[Callable[..., Command]]:
    """Start server processes with these settings beside the ordinary ones."""
    with ExitStack() as running:

        def start(**more: int) -> Command:
            command = Command.serve(environment | {name: str(value) for name, value in more.items()})
            running.callback(command.stop)
            command.wait_until_alive()
            return command

        yield start


@pytest.fixture
def client() -> Iterator[Callable[[Command, str], httpx2.Client]]:
    """Clients at addresses of this machine, each for a whole test."""
    with ExitStack() as opened:
        made: dict[tuple[str, str], httpx2.Client] = {}

        def at(node: Command, address: str) -> httpx2.Client:
            if (node.url, address) not in made:
                transport = httpx2.HTTPTransport(local_address=address)
                client = httpx2.Client(base_url=node.url, transport=transport, headers=V2, timeout=30)
                made[node.url, address] = opened.enter_context(client)
            return made[node.url, address]

        yield at


def hammered(ask: Ask, nodes: list[Command], times: int) -> Counter[int]:
    """How often each status was answered, of so many requests to each node, four at once."""
    with ThreadPoolExecutor(4 * len(nodes)) as pool:
        answers = [pool.submit(ask, node, number) for number in range(times) for node in nodes]
        return Counter(answer.result().status_code for answer in answers)


def test_messages_on_two_nodes_keep_within_a_tenth_of_the_limit(serve, client):
    nodes = [serve(KEYRELAY_SUBMISSIONS_PER_MINUTE=150) for _ in range(2)]
    client(nodes[0], "127.0.0.1").put(SMTP, json=ANONYMOUS, auth=ADMIN).raise_for_status()

    def submit(node: Command, number: int) -> httpx2.Response:
        return client(node, f"127.0.0.{1 + number % 3}").post(MESSAGES, json=JSON, auth=ADMIN)

    answered = hammered(submit, nodes, 120)
    assert set(answered) == {202, 429}
    assert 135 <= answered[202] <= 150
    # A restart is no way round it.
    nodes[0].stop()
    again = serve(KEYRELAY_SUBMISSIONS_PER_MINUTE=150)
    assert hammered(submit, [again], 20)[202] <= 150 - answered[202]


def test_tests_on_two_nodes_keep_within_a_tenth_of_the_limit(serve, client):
    nodes = [serve(KEYRELAY_TESTS_PER_MINUTE=20, KEYRELAY_ADDRESS_TESTS_PER_MINUTE=1000) for _ in range(2)]

    def test(node: Command, number: int) -> httpx2.Response:
        return client(node, f"127.0.0.{1 + number % 3}").post(DIAGNOSES, json=NOBODY, auth=ADMIN)

    assert hammered(test, nodes, 25) == {200: 20, 429: 30}
    nodes[0].stop()
    assert hammered(test, [serve(KEYRELAY_TESTS_PER_MINUTE=20)], 5) == {429: 5}


def test_failed_sign_ins_on_two_nodes_keep_to_the_allowance_and_a_restart_does_not_help(serve, client):
    nodes = [serve() for _ in range(2)]

    def guess(node: Command, number: int) -> httpx2.Response:
        return client(node, "127.0.0.2").get(SMTP, auth=("admin", f"guess {number}"))

    began = time.monotonic()
    answered = hammered(guess, nodes, 40)
    assert set(answered) == {401, 429}
    refilled = (time.monotonic() - began) / PER_USER_AND_ADDRESS.seconds
    # One more for the other node, which may look before the first has counted.
    assert PER_USER_AND_ADDRESS.burst <= answered[401] <= PER_USER_AND_ADDRESS.burst + refilled + 1
    nodes[0].stop()
    again = serve()
    refused = guess(again, 1000)
    assert refused.status_code == 429
    time.sleep(int(refused.headers["retry-after"]))
    assert guess(again, 1001).status_code == 401


def test_an_attacked_owner_signs_in_on_both_nodes_and_on_one_that_starts_meanwhile(serve, client):
    nodes = [serve() for _ in range(2)]
    assert client(nodes[0], "127.0.0.1").get(SMTP, auth=ADMIN).status_code == 200
    crowd = [f"127.0.1.{number}" for number in range(1, 16)]

    def guess(node: Command, number: int) -> httpx2.Response:
        return client(node, crowd[number % len(crowd)]).get(SMTP, auth=("admin", f"guess {number}"))

    answered = hammered(guess, nodes, 80)
    assert set(answered) == {401, 429}
    assert answered[401] >= PER_USER.burst
    third = serve()
    for node in (*nodes, third):
        assert guess(node, 2000).status_code == 429
        assert client(node, "127.0.0.1").get(SMTP, auth=ADMIN).status_code == 200
