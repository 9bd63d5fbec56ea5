"""Clients that never stop changing the profile, whatever happens to the server, and remember what they were told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import httpx2

from live import ADMIN_PASSWORD, BASIC, SMTP, V2, run_keyrelay

_ADMIN = ("admin", ADMIN_PASSWORD)


def body_of(marker: str) -> dict[str, Any]:
    """A profile that shows its marker in every field that can hold one, so that a mixture of two is visible."""
    return BASIC | {
        "Host": f"{marker}.example.org",
        "SenderName": marker,
        "SenderAccount": f"{marker}@example.org",
        "RelayUsername": {"SecretValue": marker},
        "RelayPassword": {"SecretValue": password_of(marker)},
    }


def password_of(marker: str) -> str:
    return f"password of {marker}"


def marker_in(body: Mapping[str, Any]) -> str:
    """The marker of a profile that was read; all of its fields have to agree on it."""
    marker: str = body["SenderName"]
    shown = {name: body[name] for name in ("Host", "SenderAccount", "RelayUsername")}
    assert shown == {
        "Host": f"{marker}.example.org",
        "SenderAccount": f"{marker}@example.org",
        "RelayUsername": {"SecretValue": marker, "Parameters": None, "Provider": None},
    }
    return marker


def revision_of(answer: httpx2.Response) -> int:
    return int(answer.headers["etag"].strip('"').partition("-")[0])


@dataclass
class Storm:
    """``answered``: marker by revision of every PUT answered 200. ``asked``: every marker ever sent."""

    url: str
    answered: dict[int, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    unavailable: int = 0
    problems: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _going: threading.Event = field(default_factory=threading.Event)
    _ended: bool = False
    _under_way: int = 0
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._going.set()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._going.set()
        for thread in self._threads:
            thread.join(40)
            assert not thread.is_alive()

    def start(self, clients: int) -> None:
        for number in range(clients):
            self._threads.append(threading.Thread(target=self._client, args=(number,), daemon=True))
            self._threads[-1].start()

    def pause(self) -> None:
        """Let no client begin another request, and wait until each knows what became of its last one."""
        self._going.clear()
        deadline = time.monotonic() + 40
        while self._under_way:
            assert time.monotonic() < deadline, "a client waits in vain"
            time.sleep(0.002)

    def resume(self, url: str) -> None:
        self.url = url
        self._going.set()

    def wait_for_answers(self, more: int, *, seconds: float = 30) -> None:
        """Wait until so many more PUTs have been answered 200."""
        wanted = len(self.answered) + more
        deadline = time.monotonic() + seconds
        while len(self.answered) < wanted and not self.problems:
            assert time.monotonic() < deadline, f"only {len(self.answered)} of {wanted} answers"
            time.sleep(0.002)
        assert not self.problems, self.problems[:5]

    def check(self, environment: Mapping[str, str]) -> None:
        """While paused: the profile is the last one answered or a later one, and the history tells the same."""
        assert not self.problems, self.problems[:5]
        answer = httpx2.get(self.url + SMTP, auth=_ADMIN, headers=V2, timeout=30).raise_for_status()
        marker, revision = marker_in(answer.json()), revision_of(answer)
        history = kept_history(environment)
        assert max(self.answered) <= revision == max(history)
        assert history[revision] == marker
        assert sorted(history) == list(range(1, revision + 1))
        assert len(set(history.values())) == len(history)
        assert set(history.values()) <= self.asked
        assert self.answered.items() <= history.items()

    def _client(self, number: int) -> None:
        sent = 0
        client = httpx2.Client(auth=_ADMIN, headers=V2, timeout=30)
        while True:
            self._going.wait()
            with self._lock:
                if self._ended:
                    break
                if not self._going.is_set():
                    continue
                self._under_way += 1
                sent += 1
                marker = f"c{number}-n{sent}"
                self.asked.add(marker)
            try:
                self._put(client, marker)
            except httpx2.TransportError:
                client.close()
                client = httpx2.Client(auth=_ADMIN, headers=V2, timeout=30)
                time.sleep(0.01)
            except Exception as problem:  # noqa: BLE001 - the test reports it
                self.problems.append(f"{marker}: {problem!r}")
            finally:
                with self._lock:
                    self._under_way -= 1
        client.close()

    def _put(self, client: httpx2.Client, marker: str) -> None:
        answer = client.put(self.url + SMTP, json=body_of(marker))
        if answer.status_code == 503:
            assert set(answer.json()) == {"ErrorCode", "Message"}
            self.unavailable += 1
            time.sleep(0.2)
            return
        assert answer.status_code == 200, answer.text
        assert marker_in(answer.json()) == marker, "the answer shows another client's profile"
        with self._lock:
            assert revision_of(answer) not in self.answered, "two PUTs were told the same revision"
            self.answered[revision_of(answer)] = marker


def kept_history(environment: Mapping[str, str]) -> dict[int, str]:
    """Marker by revision, from the command line."""
    done = run_keyrelay(environment, "smtp", "history", "--limit", "10000", "--json")
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)
    assert [entry["revision"] for entry in entries] == sorted((entry["revision"] for entry in entries), reverse=True)
    return {
        entry["revision"]: change["after"]
        for entry in entries
        for change in entry["changes"]
        if change["field"] == "sender_name"
    }
