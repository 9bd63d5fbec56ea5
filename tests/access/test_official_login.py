"""The official clients' sign-in check over TLS with an own authority: with Basic, and with a token they fetch.

As keyfactor-auth-client-go does it (contract 6.2 and 8.1): form POST to the token URL, the client's credentials in an
Authorization header first and in the form if that is refused, and then GET /Status/Endpoints.
"""

from __future__ import annotations

import ssl
from dataclasses import replace

import httpx2
import pytest
import trustme

from bearing import PROBE, READ, furnished, grant, trusting
from keyrelay.access.claims import ClaimType
from live import ADMIN_PASSWORD
from oidc_server import OidcServer
from token_server import refused

SENT = {
    "content-type": "application/json",
    "accept": "application/json",
    "x-keyfactor-api-version": "1",
    "x-keyfactor-requested-with": "APIClient",
}
SECRET = "a secret: of the & client"


@pytest.fixture
def authority(tmp_path):
    """Our own authority, as KEYFACTOR_CA_CERT names it."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = made.issue_cert("127.0.0.1", "localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    return tmp_path / "ca.pem"


@pytest.fixture
def secured(fresh_settings, provider, authority, start):
    folder = authority.parent
    settings = replace(trusting(fresh_settings, provider), tls_cert=folder / "server.pem", tls_key=folder / "key.pem")
    server = furnished(start(settings), provider)
    provider.claims.clear()
    provider.clients["terraform"] = SECRET
    return server


def probe(server, authority, authorization: str) -> httpx2.Response:
    with httpx2.Client(verify=ssl.create_default_context(cafile=authority), timeout=30) as client:
        # The probe trims the slashes of the API path, and takes exactly 200.
        return client.get(server.url + PROBE, headers=SENT | {"authorization": authorization})


def fetched(provider: OidcServer, **form: str) -> httpx2.Response:
    """A token as golang.org/x/oauth2 gets it: the way that works is tried first and remembered there."""
    asked = {"grant_type": "client_credentials"} | form
    with httpx2.Client(verify=provider.trust(), timeout=30) as client:
        answer = client.post(provider.url, data=asked, auth=("terraform", "a+secret%3A+of+the+%26+client"))
        if answer.status_code == 200:
            return answer
        return client.post(provider.url, data=asked | {"client_id": "terraform", "client_secret": SECRET})


def assert_signed_in(answer: httpx2.Response) -> None:
    assert answer.status_code == 200
    listed = answer.json()
    assert isinstance(listed, list)
    assert all(isinstance(each, str) for each in listed)
    assert "GET /SMTP" in listed
    assert answer.headers["x-keyfactor-product-version"] == "11.6.0.0"
    assert "json" in answer.headers["content-type"]


def test_the_probe_signs_in_with_basic(secured, authority):
    assert secured.url.startswith("https://")
    pair = httpx2.BasicAuth(r"EXAMPLE\admin", ADMIN_PASSWORD)
    (request,) = list(pair.auth_flow(httpx2.Request("GET", secured.url)))[:1]
    assert_signed_in(probe(secured, authority, request.headers["authorization"]))


@pytest.mark.parametrize("way", ["client_secret_basic", "client_secret_post"])
def test_the_probe_signs_in_with_a_token_got_by_client_credentials(secured, provider, authority, way):
    if way == "client_secret_post":
        usual = provider.answer
        provider.answer = lambda request: refused(401) if request.way == "client_secret_basic" else usual(request)
    answer = fetched(provider, scope="keyrelay other", audience="api://keyrelay").raise_for_status()
    posted = [request for request in provider.requests if request.method == "POST"]
    assert posted[-1].way == way
    assert posted[0].form["scope"] == "keyrelay other"
    token = answer.json()["access_token"]
    unmapped = probe(secured, authority, f"Bearer {token}")
    assert (unmapped.status_code, unmapped.json()["ErrorCode"]) == (403, "0xA0140002")
    grant(secured, "terraform", READ, kind=ClaimType.OAUTH_CLIENT_ID)
    assert_signed_in(probe(secured, authority, f"Bearer {token}"))


def test_a_client_with_a_wrong_secret_gets_no_token(secured, provider):
    provider.clients["terraform"] = "another"
    assert fetched(provider).status_code == 401


def test_a_client_that_does_not_trust_our_authority_does_not_send_its_token(secured, provider):
    with pytest.raises(httpx2.ConnectError, match="certificate verify failed"):
        probe(secured, provider.authority, f"Bearer {provider.token()}")
