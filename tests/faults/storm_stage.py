"""The stage of a storm: real processes of keyrelay, and around them relay, token endpoint, vault and database."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import https_doubles
import httpx2
import recording_relay
from outbox_storm import SENDER
from recording_relay import Taken, read_record
from storm_cast import Actor, Database, Program, free_port

from canary import new_canary
from keyrelay.chaos.certificates import Certificates
from live import ADMIN_PASSWORD, SMTP, V1, V2, keyrelay
from postgres import Cluster

LEASE = 5
_PROVIDERS = "/KeyfactorAPI/PamProviders"
_VAULT = "Hashicorp-Vault"
_ADMIN = ("admin", ADMIN_PASSWORD)
_READY = "Stop with"

Signing = Literal["nobody", "password", "oauth"]


@dataclass
class Stage:
    """``cast``: who may be harmed. ``urls``: where clients knock. ``environment``: of every process of keyrelay."""

    directory: Path
    rng: random.Random
    signing: Signing
    environment: dict[str, str] = field(default_factory=dict)
    cast: list[Actor] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.environment |= {
            "KEYRELAY_DATA_DIR": str(self.directory / "data"),
            "KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "KEYRELAY_LOG_LEVEL": "warning",
            "KEYRELAY_LEASE_SECONDS": str(LEASE),
            "KEYRELAY_RETRY_WAITS": "1,2",
            "KEYRELAY_RELAY_SECONDS": "5",
            "KEYRELAY_RELAY_SESSIONS": "16",
            "KEYRELAY_PAM_SECONDS": "2",
            "KEYRELAY_PAM_CACHE_SECONDS": "2",
        }
        self._certificates = self.directory / "certificates"
        self._token, self._secrets = new_canary(), {"id": new_canary(), "secret": new_canary()}
        self._vault_token = new_canary()
        self._doubles_url: dict[str, str] = {}

    # --- Who is there ----------------------------------------------------------------------------------------

    def relay(self, *, chunking: bool) -> None:
        """The relay, and with OAuth what gives it its credentials."""
        made = Certificates(self._certificates)
        made.server_context()  # writes the files
        certificate = self.directory / "double.pem"
        shutil.copy(self._certificates / "server-good.pem", certificate)
        self.environment["KEYRELAY_CA_BUNDLE"] = str(made.authority)
        mechanism = {"nobody": None, "password": "PLAIN", "oauth": "XOAUTH2"}[self.signing]
        self._port = free_port()
        silence = self.directory / "silence"
        options = recording_relay.Options(
            self._port,
            str(self._record),
            str(self._certificates),
            str(silence),
            mechanism,
            SENDER,
            self._token,
            chunking,
        )
        self._double("relay", recording_relay, options, harms=("kill", "stall", "silence"), silence=silence)
        if self.signing == "oauth":
            for name, opened_by in (("token endpoint", self._token), ("vault", self._vault_token)):
                port = free_port()
                self._doubles_url[name] = f"https://localhost:{port}"
                self._double(
                    name, https_doubles, https_doubles.Options(port, str(certificate), opened_by, self._secrets)
                )

    def sqlite(self, template: Path) -> None:
        (self.directory / "data").mkdir(mode=0o700)
        shutil.copy(template, self.directory / "data" / "keyrelay.db")

    def postgresql(self, cluster: Cluster) -> None:
        self.environment["KEYRELAY_DATABASE_URL"] = cluster.fresh_database()
        self.cast.append(Database(cluster, self.rng))

    def server(self, name: str, *options: str) -> None:
        port = free_port()
        self.urls.append(f"http://127.0.0.1:{port}")
        self._keyrelay(name, "serve", "--port", str(port), *options)
        self._wait_until_alive(self.urls[-1])
        if len(self.urls) == 1:
            self._make_profile()

    def worker(self, name: str) -> None:
        self._keyrelay(name, "worker")

    # --- Afterwards ------------------------------------------------------------------------------------------

    @property
    def _record(self) -> Path:
        return self.directory / "record"

    def taken(self) -> list[Taken]:
        """What the relay has taken. No client of it has ever broken the protocol."""
        taken, mistakes = read_record(self._record)
        assert mistakes == []
        return taken

    def untimely_ends(self) -> list[str]:
        return [end for actor in self.cast if isinstance(actor, Program) for end in actor.ended]

    def tracebacks(self) -> list[str]:
        """What a process said that met with an error nobody had thought of."""
        logs = {actor.name: actor.log.read_text(errors="replace") for actor in self.cast if isinstance(actor, Program)}
        return [f"{name}: {log[log.index('Traceback') :][:3000]}" for name, log in logs.items() if "Traceback" in log]

    def tend(self) -> None:
        for actor in self.cast:
            actor.tend()

    def stop(self) -> None:
        for actor in reversed(self.cast):  # the database last, which others may need
            actor.stop()

    # --- How it is done --------------------------------------------------------------------------------------

    def _keyrelay(self, name: str, *arguments: str) -> None:
        self._program(name, [keyrelay(), *arguments], self.environment, ready=_READY)

    def _double(self, name: str, module: ModuleType, options: Any, **more: Any) -> None:
        assert module.__file__ is not None
        self._program(name, [sys.executable, module.__file__, json.dumps(asdict(options))], {}, **more)

    def _program(self, name: str, command: list[str], environment: Mapping[str, str], **more: Any) -> None:
        made = Program(name, command, environment, self.directory / f"{name.replace(' ', '-')}.log", **more)
        self.cast.append(made)
        made.start()

    def _wait_until_alive(self, url: str) -> None:
        deadline = time.monotonic() + 30
        while True:
            self.tend()
            try:
                if httpx2.get(url + "/readyz", timeout=5).status_code == 200:
                    return
            except httpx2.TransportError:
                assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)

    def _make_profile(self) -> None:
        profile: dict[str, Any] = {"Host": "localhost", "Port": self._port}
        profile |= {"SenderAccount": SENDER, "SenderName": "PKI"}
        if self.signing == "password":
            secrets = {"RelayUsername": {"SecretValue": SENDER}, "RelayPassword": {"SecretValue": self._token}}
            profile |= {"UseSSL": True, "RelayAuthenticationType": 2, **secrets}
        elif self.signing == "oauth":
            provider = self._make_provider()
            secrets = {
                name: {"Provider": provider, "Parameters": {"Secret": https_doubles.SECRET, "Key": key}}
                for name, key in (("ClientId", "id"), ("ClientSecret", "secret"))
            }
            endpoint = self._doubles_url["token endpoint"] + https_doubles.TOKEN_PATH
            profile |= {"UseSSL": True, "RelayAuthenticationType": 3, "TokenEndpoint": endpoint, **secrets}
        answer = httpx2.put(self.urls[0] + SMTP, json=profile, auth=_ADMIN, headers=V2, timeout=30)
        assert answer.status_code == 200, answer.text

    def _make_provider(self) -> int:
        url = self.urls[0] + _PROVIDERS
        types = httpx2.get(url + "/Types", auth=_ADMIN, headers=V1, timeout=30).json()
        (chosen,) = [kind["Id"] for kind in types if kind["Name"] == _VAULT]
        given = {"Host": self._doubles_url["vault"], "Path": https_doubles.VAULT_PATH, "Token": self._vault_token}
        values = [{"Value": value, "ProviderTypeParam": {"Name": name}} for name, value in given.items()]
        body = {"Name": "Vault", "ProviderType": {"Id": chosen}, "ProviderTypeParamValues": values}
        answer = httpx2.post(url, json=body, auth=_ADMIN, headers=V1, timeout=30)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["Id"])
