"""Somebody without a browser who signs in to the portal through an identity provider, step by step."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2

from bearing import CHIEF, register
from keyrelay.access.identity_provider import Client
from keyrelay.secrets.model import SecretText
from live import LiveServer
from oidc_server import OidcServer
from sign_ins import App

CLIENT, SECRET = "keyrelay-portal", "p&rtal s%cret+1"


def opened(server: LiveServer, provider: OidcServer, scheme: str = "entra", secret: str | None = SECRET) -> None:
    """People may sign in to the server through the provider, which knows it."""
    provider.apps[CLIENT] = App(server.url + "/portal/signed-in", secret)
    if not any(one.scheme == scheme for one in server.run(lambda node: node.identity_providers.all())):
        register(server, provider, scheme)
    client = Client(CLIENT, None if secret is None else SecretText(secret))
    server.run(lambda node: node.identity_providers.set_client(scheme, client, CHIEF))


class Visitor:
    """``cookies`` has what the server has set, and not taken back."""

    def __init__(self, server: LiveServer, provider: OidcServer) -> None:
        self.server, self.provider = server, provider
        self.cookies: dict[str, str] = {}

    def get(self, url: str, **headers: str) -> httpx2.Response:
        """A page of the server."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        url = url if url.startswith("http") else self.server.url + url
        answer = httpx2.get(url, headers=headers | ({"cookie": cookie} if cookie else {}), timeout=30)
        for header in answer.headers.get_list("set-cookie"):
            name, _, value = header.partition(";")[0].partition("=")
            self.cookies[name] = value
            if "Max-Age=0" in header:
                del self.cookies[name]
        return answer

    def leave(self, scheme: str = "entra", after: str = "") -> str:
        """Go to the provider, and give the address that it sends the browser back to."""
        answer = self.get(f"/portal/sign-in/with?{urlencode({'provider': scheme, 'next': after})}")
        assert answer.status_code == 303, answer.text
        there = httpx2.get(answer.headers["location"], verify=self.provider.trust())
        assert there.status_code == 302, there.text
        return there.headers["location"]

    def sign_in(self, scheme: str = "entra", after: str = "") -> httpx2.Response:
        return self.get(self.leave(scheme, after))

    def arrive(self, scheme: str = "entra", after: str = "") -> str:
        """Where signing in leads to in the end."""
        looks = self.sign_in(scheme, after).headers["location"]
        return self.get("/portal/" + looks.removeprefix("./")).headers["location"]

    @property
    def is_in(self) -> bool:
        return self.get("/portal/").status_code == 200


def changed(url: str, **parameters: str | None) -> str:
    """The same address with other parameters; None takes one away."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | parameters
    given = {name: value for name, value in query.items() if value is not None}
    return replace_query(url, urlencode(given))


def replace_query(url: str, query: str) -> str:
    return urlsplit(url)._replace(query=query).geturl()
