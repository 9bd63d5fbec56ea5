"""BeyondTrust Password Safe as its API guide describes sign-in, requests, credentials and check-in."""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from double import Answered, Asked, Double, says

from keyrelay.secrets.model import SecretText

BASE = "/BeyondTrust/api/public/v3"
KEY = "c479a66f5c9484d6d0b1" * 6
USER = "doe-main\\johndoe"
SESSION = "q0v3ksession"
VALUE = "s3cret of the mail relay ä"
STICKY = "BIGipServer~Pool-1=rd5o00000000ffff; expires=Wed, 21-Oct-2099 07:28:00 GMT; path=/; Secure"


@dataclass(slots=True)
class Request:
    system: int
    account: int
    open: bool = True
    approved: bool = True


class PasswordSafe(Double):
    """``next``: answers in place of the usual, by step. ``reusable``: whether an open request may be shared."""

    def __init__(self, directory: Path, *, client_certificate: bool = False) -> None:
        super().__init__(directory, self.answer, client_certificate=client_certificate)
        self.next: dict[str, deque[Answered]] = {}
        self.sessions: dict[str, bool] = {}
        self.requests: dict[int, Request] = {}
        self.accounts = {(17, 42): VALUE, (17, 43): "", (18, 44): "waits for approval"}
        self._ids = count(5001)
        self._lock = threading.Lock()

    @property
    def steps(self) -> list[str]:
        """What was asked, by its method and the path below the base."""
        return [f"{asked.method} {asked.target.removeprefix(BASE + '/')}" for asked in self.asked]

    def given(self, **other: str) -> dict[str, SecretText | str]:
        given = {"Host": self.url + BASE, "APIKey": KEY, "Username": USER, **other}
        return {name: SecretText(value) if name == "APIKey" else value for name, value in given.items()}

    def rotate(self) -> str:
        self.accounts[17, 42] = VALUE + " anew"
        return VALUE + " anew"

    def will(self, step: str, *answers: Answered) -> None:
        self.next.setdefault(step, deque()).extend(answers)

    def answer(self, asked: Asked) -> Answered:
        assert asked.headers["accept"] == "application/json"
        assert asked.target.startswith(BASE + "/"), asked.target
        assert re.fullmatch(r"PS-Auth key=[^;]+; runas=[^;]+;", asked.headers["authorization"])
        path = asked.target.removeprefix(BASE + "/")
        step = re.sub(r"\d+", "N", f"{asked.method} {path}")
        steps = {
            "POST Auth/SignAppin": self._sign_in,
            "POST Requests": self._request,
            "GET Credentials/N": self._credentials,
            "PUT Requests/N/Checkin": self._check_in,
            "POST Auth/Signout": self._sign_out,
        }
        assert step in steps, step
        if asked.method == "POST" and "Auth/" in path:
            assert (asked.body, asked.headers["content-length"]) == (b"", "0")
        with self._lock:
            if step != "POST Auth/SignAppin":
                self._require_session(asked)
            planned = self.next.get(step)
            return planned.popleft() if planned else steps[step](asked)

    def _require_session(self, asked: Asked) -> None:
        cookies = dict(pair.split("=", 1) for pair in asked.headers["cookie"].split("; "))
        assert set(cookies) == {"ASP.NET_SessionId", "BIGipServer~Pool-1"}, cookies
        assert self.sessions[cookies["ASP.NET_SessionId"]], "the session has ended"

    def _sign_in(self, asked: Asked) -> Answered:
        assert "cookie" not in asked.headers, "a cookie of another session"
        if asked.headers["authorization"] != f"PS-Auth key={KEY}; runas={USER};":
            return says("Invalid API key or user", 401)
        session = f"{SESSION}{len(self.sessions)}=="
        self.sessions[session] = True
        user = {"UserId": 7, "SID": None, "EmailAddress": "j@example.org", "UserName": "johndoe", "Name": "John Doe"}
        cookies = (f"ASP.NET_SessionId={session}; path=/; HttpOnly; SameSite=Lax", STICKY, "odd cookie", "=none")
        return Answered(says(user).status, says(user).body, {"content-type": "application/json"}, cookies=cookies)

    def _request(self, asked: Asked) -> Answered:
        document = asked.document
        assert list(document) == ["SystemID", "AccountID", "DurationMinutes", "Reason", "ConflictOption"]
        assert (document["DurationMinutes"], document["ConflictOption"]) == (1, "reuse")
        assert isinstance(document["Reason"], str)
        assert document["Reason"]
        place = document["SystemID"], document["AccountID"]
        assert all(type(number) is int for number in place)
        if document["AccountID"] == 404:
            return says("Managed account was not found", 404)
        if place not in self.accounts:
            return says(4031, 403)
        for number, request in self.requests.items():
            if request.open and request.approved and (request.system, request.account) == place:
                return says(number)
        number = next(self._ids)
        self.requests[number] = Request(*place, approved=place != (18, 44))
        return says(number, 201)

    def _credentials(self, asked: Asked) -> Answered:
        assert asked.body == b""
        request = self.requests[int(asked.target.rsplit("/", 1)[1])]
        if not request.open:
            return says("Could not find the request to release", 404)
        if not request.approved:
            return says("4034 - Request is not yet approved", 403)
        return says(self.accounts[request.system, request.account])

    def _check_in(self, asked: Asked) -> Answered:
        assert list(asked.document) == ["Reason"]
        request = self.requests[int(asked.target.split("/")[-2])]
        request.open = False
        return Answered(204)

    def _sign_out(self, asked: Asked) -> Answered:
        session = asked.headers["cookie"].split("ASP.NET_SessionId=")[1].split(";")[0]
        self.sessions[session] = False
        return Answered(200)
