"""Clients that hand messages in until each has its 202, and the judge who compares what everybody says at the end."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx2
from recording_relay import GREY, REFUSED, Taken, digest

from live import ADMIN_PASSWORD

MESSAGES = "/api/v1/messages"
SENDER = "pki@example.org"
WAITING = frozenset({"queued", "sending", "deferred", "outcome_unknown"})
_ADMIN = ("admin", ADMIN_PASSWORD)
_LONGEST_TRY = 120  # seconds for which a client tries to get one message in
_ASKS_AGAIN = 0.02  # of the clients that have their 202, as if it had been lost on its way


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as a client made it; ``key`` is its Idempotency-Key, and names it."""

    key: str
    recipients: tuple[str, ...]
    body: bytes

    @property
    def message_id(self) -> str:
        return f"<{self.key}@example.org>"

    @property
    def octets(self) -> bytes:
        lines = (
            f"From: PKI <{SENDER}>",
            f"To: {', '.join(self.recipients)}",
            f"Subject: number {self.key}",
            f"Message-ID: {self.message_id}",
            "Date: Sun, 01 Mar 2026 12:30:05 +0000",
        )
        return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + self.body


def letter(key: str, rng: random.Random) -> Letter:
    """Most go to one; some to two or three, of whom the relay refuses one, or takes it at the second try."""
    recipients = [f"to-{key}@example.org"]
    kind = rng.random()
    if kind < 0.03:
        recipients.append(f"{REFUSED}{key}@example.org")
    if 0.02 < kind < 0.06:
        recipients.append(f"{GREY}{key}@example.org")
    lines = [f"{rng.getrandbits(240):x}" for _ in range(rng.choice((1, 3, 30, 60)))]
    body = "".join(f".{line}\r\n" if place % 7 == 0 else f"{line}\r\n" for place, line in enumerate(lines))
    return Letter(key, tuple(recipients), body.encode())


@dataclass
class Clients:
    """Hand in ``total`` messages within ``seconds``, however often they have to ask.

    ``receipts``: the ids that the 202s to a key have named. ``answers``: how often what was answered, or not.
    """

    urls: Sequence[str]
    total: int
    seconds: float
    seed: int
    number: int = 16
    letters: dict[str, Letter] = field(default_factory=dict)
    receipts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    answers: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for number in range(self.number):
            client = _Client(self, range(number, self.total, self.number), random.Random(f"{self.seed} {number}"))
            self._threads.append(threading.Thread(target=client.run, daemon=True))
            self._threads[-1].start()

    def wait(self, tend: Callable[[], None]) -> None:
        """Until each has its 202s. ``tend`` is called all the time."""
        deadline = time.monotonic() + self.seconds + _LONGEST_TRY
        while any(thread.is_alive() for thread in self._threads):
            assert time.monotonic() < deadline, "a client does not come to its end"
            tend()
            time.sleep(0.05)
        assert not self.problems, self.problems


@dataclass
class _Client:
    """One of them, in a thread of its own. ``share``: the numbers of its messages."""

    all: Clients
    share: range
    rng: random.Random
    connection: httpx2.Client = field(default_factory=lambda: httpx2.Client(auth=_ADMIN))

    def run(self) -> None:
        began = time.monotonic()
        try:
            for place, number in enumerate(self.share):
                due = began + self.all.seconds * (place + self.rng.random()) / len(self.share)
                time.sleep(max(0.0, due - time.monotonic()))
                made = letter(f"storm-{self.all.seed}-{number}", self.rng)
                self.all.letters[made.key] = made
                self.hand_in(made)
                if self.rng.random() < _ASKS_AGAIN:
                    self.hand_in(made)
        except Exception as problem:  # noqa: BLE001 - the test reports it
            self.all.problems.append(repr(problem))
        finally:
            self.connection.close()

    def hand_in(self, made: Letter) -> None:
        deadline = time.monotonic() + _LONGEST_TRY
        while time.monotonic() < deadline:
            try:
                answer = self._post(made)
            except httpx2.TransportError as problem:
                self.all.answers[type(problem).__name__] += 1
                self.connection.close()
                self.connection = httpx2.Client(auth=_ADMIN)
            else:
                self.all.answers[str(answer.status_code)] += 1
                if answer.status_code == 202:
                    self.all.receipts[made.key].append(answer.json()["id"])
                    return
                assert answer.status_code >= 500, f"{made.key}: {answer.status_code} {answer.text}"
            time.sleep(self.rng.uniform(0.05, 0.3))
        raise AssertionError(f"{made.key} was not taken in within {_LONGEST_TRY} seconds")

    def _post(self, made: Letter) -> httpx2.Response:
        url = self.rng.choice(self.all.urls) + MESSAGES
        headers = {"content-type": "message/rfc822", "idempotency-key": made.key}
        return self.connection.post(url, content=made.octets, headers=headers, timeout=self.rng.choice((1, 2, 5)))


# --- What keyrelay says at the end ---------------------------------------------------------------------------


def shown(url: str, receipts: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any] | None]:
    """Each submission as it is shown, by its id; None for one that is not known."""
    ids = sorted({one for ids in receipts.values() for one in ids})

    def look(part: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
        with httpx2.Client(base_url=url, auth=_ADMIN, timeout=30) as client:
            for one in part:
                answer = client.get(f"{MESSAGES}/{one}")
                assert answer.status_code in {200, 404}, answer.text
                yield one, answer.json() if answer.status_code == 200 else None

    with ThreadPoolExecutor(4) as pool:
        return {one: view for part in pool.map(lambda part: list(look(part)), _parts(ids, 4)) for one, view in part}


def _parts(ids: Sequence[str], number: int) -> list[Sequence[str]]:
    return [ids[first::number] for first in range(number)]


def counts(url: str) -> dict[str, int]:
    """How many submissions are in each state, as the outbox counts them."""
    answer = httpx2.get(url + "/api/v1/outbox", auth=_ADMIN, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, int] = answer.json()["counts"]
    return {state: amount for state, amount in found.items() if amount}


def drained(url: str, *, within: float, tend: Callable[[], None]) -> float:
    """Wait until nothing waits any more. Gives how many seconds that took."""
    began = time.monotonic()
    while True:
        try:
            waiting = {state: amount for state, amount in counts(url).items() if state in WAITING}
        except httpx2.TransportError:  # the last to be killed is still coming back
            waiting = {"nobody answers": 1}
        took = time.monotonic() - began
        if not waiting:
            return took
        assert took < within, f"still waiting after {within:.0f} s: {waiting}"
        tend()
        time.sleep(0.2)


# --- The judge -----------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """``problems``: what must never be.

    ``messages`` and ``recipients``: how many are in each state. ``unknown``: outcomes that were, by what was said of
    them; ``copies``: what the relay has beyond one of each.
    """

    problems: list[str] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)
    recipients: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    copies: int = 0

    def __str__(self) -> str:
        return (
            f"{len(self.problems)} wrong; recipients: {dict(self.recipients)}; {self.copies} copies,"
            f" {self.unknown.total()} outcomes unknown: {dict(self.unknown)}"
        )


def judge(
    letters: Mapping[str, Letter],
    receipts: Mapping[str, Sequence[str]],
    views: Mapping[str, Mapping[str, Any] | None],
    taken: Iterable[Taken],
) -> Verdict:
    """Compare what was handed in, what was answered, what is shown, and what the relay has."""
    verdict = Verdict()
    at_the_relay = Counter((one.message_id, address) for one in taken for address in one.recipients)
    verdict.problems += list(_invented(letters, taken))
    for made in letters.values():
        ids = set(receipts.get(made.key, ()))
        if len(ids) != 1:
            verdict.problems.append(f"{made.key}: the 202s name {len(ids)} ids")
            continue
        view = views[ids.pop()]
        if view is None:
            verdict.problems.append(f"{made.key}: lost, nobody knows it")
        else:
            _judge_one(verdict, made, view, at_the_relay)
    return verdict


def _invented(letters: Mapping[str, Letter], taken: Iterable[Taken]) -> Iterator[str]:
    known = {made.message_id: made for made in letters.values()}
    for one in taken:
        made = known.get(one.message_id)
        if made is None:
            yield f"{one.message_id} was never handed in"
        elif not set(one.recipients) <= set(made.recipients) or len(set(one.recipients)) < len(one.recipients):
            yield f"{made.key}: it went to {one.recipients}"
        elif one.body != digest(made.body):
            yield f"{made.key}: the relay has another body"


def _judge_one(
    verdict: Verdict, made: Letter, view: Mapping[str, Any], at_the_relay: Mapping[tuple[str, str], int]
) -> None:
    told = {one["address"]: one for one in view["recipients"]}
    if view["message_id"] != made.message_id or set(told) != set(made.recipients):
        verdict.problems.append(f"{made.key}: shown is {view['message_id']} to {sorted(told)}")
        return
    verdict.messages[view["state"]] += 1
    for address in made.recipients:
        state, unknown = told[address]["state"], told[address]["unknown"]
        there = at_the_relay.get((made.message_id, address), 0)
        verdict.recipients[state] += 1
        doubts = list(_doubts(view, address))
        verdict.unknown.update(doubts)
        verdict.copies += max(0, there - 1)
        faults = [*_faults(address, state, unknown, there)]
        if len(doubts) != unknown:
            faults.append(f"{unknown} outcomes unknown, and {len(doubts)} attempts that say so")
        verdict.problems += [f"{made.key} to {address}: {fault}" for fault in faults]


def _doubts(view: Mapping[str, Any], address: str) -> Iterator[str]:
    """What was said of each outcome that is unknown."""
    for attempt in view["attempts"]:
        for reply in attempt["replies"]:
            if reply["recipient"] == address and reply["kind"] == "outcome_unknown":
                yield reply["text"] or "the connection was lost"


def _faults(address: str, state: str, unknown: int, there: int) -> Iterator[str]:
    if state == "accepted" and not there:
        yield "accepted, and the relay does not have it"
    if state in {"cancelled", "expired"}:
        yield f"{state}, and nobody wanted that"
    if state == "refused" and not address.startswith(REFUSED):
        yield "refused, and the relay would not do that"
    allowed = unknown + (state == "accepted")
    if there > allowed:
        yield f"{there} at the relay, {state}, and {unknown} outcomes unknown: {there - allowed} not accounted for"
