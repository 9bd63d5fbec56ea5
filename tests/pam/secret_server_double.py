"""Delinea Secret Server as its "Secret Server REST API" describes it, for one user and a few secrets."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import Any

from double import Answered, Asked, Double, says

from keyrelay.secrets.model import SecretText

SITE = "/SecretServer"
USER = "relay-user-7f3"
PASSWORD = "pass word&of=the+user"
TOKEN = "AgJ-token-"
VALUE = "s3cret of the mail relay ä"


def item(field: str, slug: str, value: Any, *, file: bool = False) -> dict[str, Any]:
    return {
        "itemId": 17,
        "fileAttachmentId": None,
        "filename": None,
        "itemValue": value,
        "fieldId": 109,
        "fieldName": field,
        "slug": slug,
        "fieldDescription": "",
        "isFile": file,
        "isNotes": False,
        "isPassword": slug == "password",
    }


class SecretServer(Double):
    """``life``: seconds that a token lives, as it says. ``next_token`` and ``next_secret``: answers in their place."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, self.answer)
        self.life: Any = 1199
        self.next_token: deque[Answered] = deque()
        self.next_secret: deque[Answered] = deque()
        self.tokens: list[str] = []
        self.valid: set[str] = set()
        self.items: Any = [
            item("Username", "username", "mailer@example.org"),
            item("Mail Password", "password", VALUE),
            item("Notes", "notes", ""),
            item("Certificate", "certificate", "*** Not Valid For Display ***", file=True),
        ]
        self._lock = threading.Lock()

    @property
    def host(self) -> str:
        return self.url + SITE

    def given(self, **other: str) -> dict[str, SecretText | str]:
        given = {"Host": self.host, "Username": USER, "Password": PASSWORD, **other}
        return {name: value if name == "Host" else SecretText(value) for name, value in given.items()}

    def rotate(self) -> str:
        self.items[1]["itemValue"] = VALUE + " anew"
        return VALUE + " anew"

    def revoke(self) -> None:
        self.valid.clear()

    def answer(self, asked: Asked) -> Answered:
        assert asked.headers["accept"] == "application/json"
        assert "cookie" not in asked.headers
        if asked.target == SITE + "/oauth2/token":
            return self._token(asked)
        assert asked.target.startswith(SITE + "/api/v1/secrets/"), asked.target
        return self._secret(asked)

    def _token(self, asked: Asked) -> Answered:
        assert asked.method == "POST"
        assert "authorization" not in asked.headers
        form = asked.form
        assert list(form) == ["username", "password", "grant_type"]
        assert form["grant_type"] == "password"
        if self.next_token:
            return self.next_token.popleft()
        if (form["username"], form["password"]) != (USER, PASSWORD):
            return says({"error": "invalid_grant", "error_description": f"Login failed for {form['username']}."}, 400)
        with self._lock:
            token = f"{TOKEN}{len(self.tokens)}_x"
            self.tokens.append(token)
            self.valid.add(token)
        lived = {} if self.life is None else {"expires_in": self.life}
        return says({"access_token": token, "token_type": "bearer", **lived})

    def _secret(self, asked: Asked) -> Answered:
        assert asked.method == "GET"
        assert asked.body == b""
        number = asked.target.rsplit("/", 1)[1]
        assert number.isdecimal(), "the id of a secret is a number"
        if self.next_secret:
            return self.next_secret.popleft()
        scheme, _, token = asked.headers["authorization"].partition(" ")
        assert scheme == "Bearer"
        if token not in self.valid:
            return says({"message": "Authentication failed or expired token"}, 401)
        if number == "42":
            return says({"id": 42, "name": "Mail relay", "active": True, "items": self.items})
        if number == "43":
            return says({"message": "Access Denied", "errorCode": "API_AccessDenied"}, 400)
        return says({"message": f"There is no secret {number} here"}, 404)
