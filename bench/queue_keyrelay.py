"""What is measured of keyrelay's outbox: each figure on an installation of its own, in fresh processes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from installation import RFC822, Keyrelay, Submission
from load import Load
from machine import Cores
from process import Process, free_port
from senders import BODY_BYTES
from sink import sink

NAME = "keyrelay"
_PATIENCE = 20.0
_SECONDS = 180.0
_WARMING = 200
_SCRIPT = Path(__file__).parent / "submit.lua"


def accept(
    directory: Path, submission: Submission, clients: int, seconds: int, *, processes: int = 1
) -> dict[str, float]:
    """How many it makes durable a second, while nothing goes out; asked by wrk. ``processes`` take them in."""
    with (
        Keyrelay.fresh(directory, KEYRELAY_WORKERS=str(processes)) as keyrelay,
        keyrelay.serving(free_port()) as serving,
    ):
        body = keyrelay.data / "body"
        body.write_bytes(submission.body)
        load = Load(clients, seconds, Cores(None, None), _SCRIPT, (str(body),))
        serving.check(submission)
        serving.submit(submission, _WARMING)
        url = f"http://127.0.0.1:{serving.port}{submission.path}"
        before = serving.process.processor_seconds()
        found = load.run(NAME, url, serving.headers(submission))
        used = serving.process.processor_seconds() - before
    return {
        "messages_per_second": found["requests_per_second"],
        "messages": found["requests"],
        "p50_microseconds": found["p50_microseconds"],
        "p99_microseconds": found["p99_microseconds"],
        "processor_microseconds": used * 1e6 / found["requests"],
    }


def deliver(directory: Path, clients: int, count: int, *, apart: bool) -> dict[str, float]:
    """How fast messages go through it, from the first request to the last message at the relay.

    ``apart``: the server is one process, the worker another.
    """
    with ExitStack() as stack:
        keyrelay = stack.enter_context(Keyrelay.fresh(directory))
        relay = stack.enter_context(sink(directory, _WARMING + count))
        serving = stack.enter_context(keyrelay.serving(relay.port, worker=not apart))
        processes = [serving.process, *([stack.enter_context(keyrelay.working())] if apart else [])]
        serving.submit(RFC822, _WARMING, clients)
        relay.wait_for_bytes(_WARMING * BODY_BYTES, _PATIENCE)
        before = _used(processes)
        submitted = serving.submit(RFC822, count, clients)
        seconds = relay.wait_for_last(_SECONDS) - submitted.began
        used = _used(processes) - before
    return {
        "messages_per_second": count / seconds,
        "messages": count,
        "accepted_per_second": count / (submitted.ended - submitted.began),
        "processor_microseconds": used * 1e6 / count,
        "client_microseconds": submitted.processor_seconds * 1e6 / count,
    }


def drain(directory: Path, count: int, database: str | None) -> dict[str, float]:
    """How fast a worker sends what was submitted before it was started."""
    with Keyrelay.fresh(directory, database) as keyrelay, sink(directory, count) as relay:
        with keyrelay.serving(relay.port) as serving:
            serving.submit(RFC822, count)
        before = relay.read_bytes()
        with keyrelay.working() as worker:
            started = relay.wait_for_first(before, worker, _PATIENCE)
            used = worker.processor_seconds()
            seconds = relay.wait_for_last(_SECONDS) - started
            used = worker.processor_seconds() - used
    return {"messages_per_second": count / seconds, "messages": count, "processor_microseconds": used * 1e6 / count}


def _used(processes: Sequence[Process]) -> float:
    return sum(process.processor_seconds() for process in processes)
