"""Akeyless as its API reference describes auth and get-secret-value, for one access id and a few static secrets."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from double import Answered, Asked, Double, says

from keyrelay.secrets.model import SecretText

ACCESS_ID = "p-7h1sisan1d42"
ACCESS_KEY = "QUtFWUxFU1M/key+of/the=relay"
TOKEN = "t-token/of+akeyless-"
VALUE = "s3cret of the mail relay ä"
OBJECT = {"username": "mailer", "password": VALUE, "port": 587, "empty": "", "none": None, "more": {"of": "it"}}
LINES = f"username = mailer\n# nothing\npassword={VALUE}=\npassword=later\nbare\nempty=\n"


class AkeylessApi(Double):
    """``path``: where a gateway has its API. ``next_token`` and ``next_secret``: answers in place of the usual."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, self.answer)
        self.path = ""
        self.expiry: Any = int(time.time()) + 3600
        self.token_in_creds_only = False
        self.next_token: deque[Answered] = deque()
        self.next_secret: deque[Answered] = deque()
        self.tokens: list[str] = []
        self.valid: set[str] = set()
        self.secrets: dict[str, Any] = {
            "/mail/relay": VALUE,
            "/mail/json": json.dumps(OBJECT),
            "/mail/object": OBJECT,
            "/mail/lines": LINES,
            "/mail/number": 587,
            "/mail/empty": "",
            "/mail/nothing": None,
        }
        self._lock = threading.Lock()

    def given(self, **other: str) -> dict[str, SecretText | str]:
        clear = {"Url": self.url + self.path, "AuthType": "access_key"}
        hidden = {"AccessId": ACCESS_ID, "AccessKey": ACCESS_KEY}
        given: dict[str, SecretText | str] = {name: other.get(name, value) for name, value in clear.items()}
        return given | {name: SecretText(other.get(name, value)) for name, value in hidden.items()}

    def rotate(self) -> str:
        self.secrets["/mail/relay"] = VALUE + " anew"
        return VALUE + " anew"

    def answer(self, asked: Asked) -> Answered:
        assert asked.method == "POST"
        assert asked.headers["accept"] == "application/json"
        assert not {"authorization", "cookie"} & set(asked.headers)
        if asked.target == self.path + "/auth":
            return self._auth(asked)
        assert asked.target == self.path + "/get-secret-value", asked.target
        return self._value(asked)

    def _auth(self, asked: Asked) -> Answered:
        document = asked.document
        assert list(document) == ["access-id", "access-key"]
        if self.next_token:
            return self.next_token.popleft()
        if document != {"access-id": ACCESS_ID, "access-key": ACCESS_KEY}:
            return says({"error": f"failed to authenticate {document['access-id']}: Unauthorized"}, 401)
        with self._lock:
            token = f"{TOKEN}{len(self.tokens)}"
            self.tokens.append(token)
            self.valid.add(token)
        creds = {"access_id": ACCESS_ID, "token": token, "expiry": self.expiry}
        return says({"creds": creds} if self.token_in_creds_only else {"token": token, "creds": creds})

    def _value(self, asked: Asked) -> Answered:
        document = asked.document
        assert list(document) == ["names", "token"]
        assert len(document["names"]) == 1
        if self.next_secret:
            return self.next_secret.popleft()
        name = document["names"][0]
        if document["token"] not in self.valid:
            return says({"error": "token expired or not valid"}, 401)
        if name == "/secret/of/others":
            return says({"error": "the caller has no read permission"}, 403)
        if name not in self.secrets:
            return says({"error": f"item {name} was not found"}, 404)
        return says({name: self.secrets[name]})
